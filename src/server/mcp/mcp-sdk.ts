// What kz uses of the official MCP SDK, in a file of its own that only `kz server` loads.
export { createMcpHandler, fromJsonSchema, McpServer } from '@modelcontextprotocol/server';
export type {
  CallToolResult,
  McpHttpHandler,
  McpRequestContext,
  ServerContext,
  StandardSchemaWithJSON,
} from '@modelcontextprotocol/server';
export { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
