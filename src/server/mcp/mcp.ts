// The tools that a model gets: it can use credentials, and none of these gives it one. What a tool does is a use case of the caller's;
// here is only what MCP adds: schemas, whose JWT counts, progress, and that neither a value nor the words of an error get out.
import { rememberHealth, type HealthCheck } from './mcp-health.ts';
import { answer, failedAnswer, failureOf } from './mcp-result.ts';
import { schemaOf } from './mcp-validate.ts';
import { FETCH, HEALTH_CHECK, INSTRUCTIONS, LIST_RESOURCES, RESOLVE, type ToolText } from './mcp-schemas.ts';
import type { CallToolResult, McpServer, ServerContext, StandardSchemaWithJSON } from './mcp-sdk.ts';
import {
  readFetchCall,
  shortenBody,
  shortenList,
  writeFetched,
  writeHealth,
  writeList,
  writeResolved,
  type FetchArguments,
  type ResolveArguments,
  type WithJwt,
} from './mcp-wire.ts';
import type { Fetched } from '../fetch/fetch-response.ts';
import type { Caller } from '../identity/verify.ts';
import type { ListedResource } from '../service.ts';
import type { FetchCall, ResolveInput } from '../use-cases.ts';

export type McpSdk = typeof import('./mcp-sdk.ts');

export interface McpResolved {
  /** Only masked and short_lived get out. */
  readonly mode: string;
  /** `KZ_TOK_…`, or a JWT for short_lived. Anything else is refused. */
  readonly token: string;
  readonly ttlMs: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly ref: string;
  readonly policy: string;
  readonly hosts: readonly string[];
  readonly methods: readonly string[];
  /** URL of the proxy that swaps the token, if there is one. */
  readonly proxy?: string | undefined;
  /** For the model: that nothing takes the token. */
  readonly hint?: string | undefined;
}

/** Bytes of the answer that came in so far. */
export type Progress = (receivedBytes: number) => void;

export interface McpUseCases {
  verify(jwt: string | undefined, signal: AbortSignal): Promise<Caller>;
  /** For a resource of mode direct: throws `mode-forbidden`. */
  resolve(caller: Caller, input: ResolveInput, signal: AbortSignal): Promise<McpResolved>;
  fetch(caller: Caller, call: FetchCall, progress: Progress, signal: AbortSignal): Promise<Fetched>;
  list(caller: Caller): readonly ListedResource[];
  /** Left out: there is no `health_check`. Called as often as a model likes: give one that `rememberHealth` made. */
  readonly health?: HealthCheck | undefined;
}

export interface McpOptions {
  readonly version: string;
  /** The server's own token, for calls that bring none. Of use on stdio only, where whoever calls has started the server. */
  readonly ownJwt?: ((signal: AbortSignal) => Promise<string | undefined>) | undefined;
  readonly useCases: McpUseCases;
  /** Gets what no caller is told. */
  readonly onInternal?: ((error: unknown) => void) | undefined;
}

export interface McpConnection {
  /** Anybody may be calling: even for its own health the server wants to know who asks. */
  readonly isOpen?: boolean;
  /** Of the HTTP request. */
  readonly jwt?: string | undefined;
  /** Calls that have not ended. */
  readonly running?: Set<Promise<unknown>> | undefined;
}

/** The list is the same for everybody and for as long as the process runs: after this long, a client may meet a newer kz. */
const TOOLS_FRESH_MS = 60_000;

/** A server for one connection (stdio) or one request (HTTP). Cheap: schemas are compiled once in a process, at the first call. */
export function makeMcpServer(sdk: McpSdk, options: McpOptions, connection: McpConnection = {}): McpServer {
  const { useCases, version } = options;
  const server = new sdk.McpServer(
    { name: 'keyzero', title: 'KeyZero', version },
    {
      instructions: INSTRUCTIONS,
      capabilities: { tools: { listChanged: false } },
      cacheHints: { 'tools/list': { ttlMs: TOOLS_FRESH_MS, cacheScope: 'public' } },
    },
  );
  const call: Call = (context, work) => track(connection, settle(options, context, work));
  const verify = (input: WithJwt, signal: AbortSignal): Promise<Caller> => verifyCaller(options, connection, input.jwt, signal);

  server.registerTool('resolve', withSchemas<ResolveArguments>(sdk, RESOLVE), (input, context) =>
    call(context, async (signal) => {
      const { resource: ref, resolver, context: facts } = input;
      const resolved = await useCases.resolve(await verify(input, signal), { ref, resolver, context: facts }, signal);
      return answer(writeResolved(resolved));
    }),
  );
  server.registerTool('fetch', withSchemas<FetchArguments>(sdk, FETCH), (input, context) =>
    call(context, async (signal) => {
      const fetched = await useCases.fetch(await verify(input, signal), readFetchCall(input), progressTo(context), signal);
      return answer(writeFetched(fetched), shortenBody);
    }),
  );
  server.registerTool('list_resources', withSchemas<WithJwt>(sdk, LIST_RESOURCES), (input, context) =>
    call(context, async (signal) => {
      return answer(writeList(useCases.list(await verify(input, signal))), shortenList);
    }),
  );
  const { health } = useCases;
  if (health !== undefined) {
    server.registerTool('health_check', withSchemas<object>(sdk, HEALTH_CHECK), (_, context) =>
      call(context, async (signal) => {
        if (connection.isOpen === true) await verify({}, signal);
        const report = writeHealth(await health(signal), version);
        return { ...answer(report), isError: report.status !== 'ok' };
      }),
    );
  }
  return server;
}

/** With a health check that cannot be used to hammer backends. For what lives as long as the process. */
export function withRememberedHealth<T extends McpOptions>(options: T): T {
  const { health } = options.useCases;
  if (health === undefined) return options;
  return { ...options, useCases: { ...options.useCases, health: rememberHealth(health) } };
}

type Call = (context: ServerContext, work: (signal: AbortSignal) => Promise<CallToolResult>) => Promise<CallToolResult>;

async function settle(options: McpOptions, { mcpReq }: ServerContext, work: Parameters<Call>[1]): Promise<CallToolResult> {
  try {
    return await work(mcpReq.signal);
  } catch (error) {
    const failure = failureOf(error, mcpReq.signal);
    if (failure.code === 'internal') options.onInternal?.(error);
    return failedAnswer(failure);
  }
}

function track<T>({ running }: McpConnection, promise: Promise<T>): Promise<T> {
  if (running === undefined) return promise;
  running.add(promise);
  return promise.finally(() => running.delete(promise));
}

/** The argument, else the request's, else the server's own. An empty one counts as none: clients send it for a field that was left empty. */
async function verifyCaller(
  { ownJwt, useCases }: McpOptions,
  { jwt: ofRequest }: McpConnection,
  ofCall: string | undefined,
  signal: AbortSignal,
): Promise<Caller> {
  const jwt = [ofCall, ofRequest].find((each) => each !== undefined && each !== '') ?? (await ownJwt?.(signal));
  return useCases.verify(jwt, signal);
}

/** Bytes of progress are worth a message this often. */
const PROGRESS_EVERY_MS = 200;

/** Tells the client, if it wants to know. Each number is larger than the one before, as the protocol demands. */
function progressTo({ mcpReq }: ServerContext): Progress {
  const progressToken = mcpReq._meta?.progressToken;
  if (progressToken === undefined) return () => undefined;
  let told = 0;
  let nextAt = 0;
  return (progress) => {
    if (progress <= told || performance.now() < nextAt || mcpReq.signal.aborted) return;
    told = progress;
    nextAt = performance.now() + PROGRESS_EVERY_MS;
    const params = { progressToken, progress, message: `received ${String(progress)} bytes` };
    // A client that is gone ends the call, not this.
    mcpReq.notify({ method: 'notifications/progress', params }).catch(() => undefined);
  };
}

interface ToolConfig<T> extends Omit<ToolText, 'inputSchema' | 'outputSchema'> {
  readonly inputSchema: StandardSchemaWithJSON<T, T>;
  readonly outputSchema: StandardSchemaWithJSON;
}

function withSchemas<T>(sdk: McpSdk, tool: ToolText): ToolConfig<T> {
  return { ...tool, inputSchema: schemaOf<T>(sdk, tool.inputSchema), outputSchema: schemaOf<object>(sdk, tool.outputSchema) };
}
