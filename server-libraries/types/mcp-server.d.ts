// What kz uses of @modelcontextprotocol/server, for the compiler where that could not be installed. What did not change comes from the former SDK.
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import type { CallToolResult as FormerResult, JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';

export type { JSONRPCMessage, Transport };
export type CallToolResult = Omit<FormerResult, 'structuredContent'> & { structuredContent?: object };

type Validated<T> = { readonly value: T; readonly issues?: undefined } | { readonly issues: readonly { readonly message: string }[] };

export interface StandardSchemaWithJSON<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly jsonSchema: Readonly<Record<'input' | 'output', () => Record<string, unknown>>>;
    readonly validate: (value: unknown) => Validated<Output> | Promise<Validated<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

export interface ServerContext {
  readonly mcpReq: {
    readonly signal: AbortSignal;
    readonly _meta?: { readonly progressToken?: string | number };
    notify(notification: { readonly method: string; readonly params: Record<string, unknown> }): Promise<void>;
  };
}

export interface McpRequestContext {
  readonly requestInfo?: Request;
}

interface Tool<T> {
  readonly inputSchema: StandardSchemaWithJSON<T, T>;
  readonly outputSchema: StandardSchemaWithJSON;
}

export class McpServer {
  constructor(about: { readonly name: string; readonly title: string; readonly version: string }, options: object);
  registerTool<T>(name: string, tool: Tool<T>, call: (input: T, context: ServerContext) => Promise<CallToolResult>): unknown;
  connect(transport: Transport): Promise<void>;
  close(): Promise<void>;
}

export interface McpHttpHandler {
  fetch(request: Request, options?: { readonly parsedBody: unknown }): Promise<Response>;
  close(): Promise<void>;
}

export function createMcpHandler(
  make: (context: McpRequestContext) => McpServer,
  options: { readonly maxSubscriptions: number },
): McpHttpHandler;
export function fromJsonSchema(schema: Record<string, unknown>): StandardSchemaWithJSON;
/** Throws for what is no message. */
export function parseJSONRPCMessage(value: unknown): JSONRPCMessage;
export function serveStdio(make: () => McpServer, options: { readonly transport: Transport }): { close(): Promise<void> };
