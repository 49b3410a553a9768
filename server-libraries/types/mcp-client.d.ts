// What kz's tests use of @modelcontextprotocol/client, for the compiler where that could not be installed. What did not change comes from the former SDK.
import type { Stream } from 'node:stream';
import type { StdioServerParameters } from '@modelcontextprotocol/sdk/client/stdio.js';
import type { RequestOptions } from '@modelcontextprotocol/sdk/shared/protocol.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { CallToolResult, Tool } from '@modelcontextprotocol/sdk/types.js';
import type { StandardSchemaWithJSON } from './mcp-server.d.ts';

export class Client {
  onerror?: (error: Error) => void;
  constructor(
    about: { readonly name: string; readonly version: string },
    options: { readonly versionNegotiation: { readonly mode: string } },
  );
  connect(transport: Transport): Promise<void>;
  getProtocolEra(): 'modern' | 'legacy' | undefined;
  listTools(): Promise<{ tools: Tool[] }>;
  callTool(call: { readonly name: string; readonly arguments: Record<string, unknown> }, options?: RequestOptions): Promise<CallToolResult>;
  listen(what: { readonly toolsListChanged: boolean }): Promise<{ readonly closed: Promise<string>; close(): Promise<void> }>;
  close(): Promise<void>;
}

export class StreamableHTTPClientTransport implements Transport {
  constructor(url: URL, options: { readonly requestInit?: RequestInit });
  start: Transport['start'];
  send: Transport['send'];
  close: Transport['close'];
}

export class StdioClientTransport implements Transport {
  readonly stderr: Stream | null;
  constructor(parameters: StdioServerParameters);
  start: Transport['start'];
  send: Transport['send'];
  close: Transport['close'];
}

export function fromJsonSchema(schema: Record<string, unknown>): StandardSchemaWithJSON;
