// What kz uses of the official MCP SDK, in a file of its own that only `kz server` loads.
export { createMcpHandler, fromJsonSchema, McpServer, parseJSONRPCMessage } from '@modelcontextprotocol/server';
export type {
  CallToolResult,
  JSONRPCMessage,
  McpHttpHandler,
  McpRequestContext,
  ServerContext,
  StandardSchemaWithJSON,
  Transport,
} from '@modelcontextprotocol/server';
export { serveStdio } from '@modelcontextprotocol/server/stdio';
