// Use cases without a bundle behind them, and a wire of two pipes, so that clients of both SDKs talk to the server in this process as over stdio.
import { randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { Client } from '@modelcontextprotocol/client';
import { Client as FormerClient } from '@modelcontextprotocol/sdk/client/index.js';
import { ServerFailure } from '../../../src/server/failure.ts';
import type { Fetched } from '../../../src/server/fetch/fetch-response.ts';
import type { McpOptions, McpResolved, McpUseCases, Progress } from '../../../src/server/mcp/mcp.ts';
import type { FetchCall, ResolveInput } from '../../../src/server/use-cases.ts';
import { serveMcpStdio } from '../../../src/server/mcp/mcp-stdio.ts';
import type { Caller } from '../../../src/server/identity/verify.ts';

export const canary = (): string => `CANARY-${randomBytes(12).toString('hex')}`;

type McpFetch = (input: FetchCall, progress: Progress, signal: AbortSignal) => Promise<Fetched>;

/** What the use cases got, and what they do, which a test may replace. */
export class Fakes {
  readonly jwts: (string | undefined)[] = [];
  readonly resolves: ResolveInput[] = [];
  readonly fetches: FetchCall[] = [];
  readonly internal: unknown[] = [];
  /** Of the last call. */
  signal: AbortSignal | undefined;
  listed = 1;
  onResolve = (): Promise<McpResolved> => Promise.resolve(resolved());
  onFetch: McpFetch = () => Promise.resolve(fetched('{"a":1}'));

  get useCases(): McpUseCases {
    return {
      verify: (jwt) => {
        this.jwts.push(jwt);
        return jwt === undefined
          ? Promise.reject(new ServerFailure('jwt-missing', 'no token was given', { hint: 'set KEYZERO_JWT' }))
          : Promise.resolve(caller(jwt));
      },
      resolve: (_, input) => {
        this.resolves.push(input);
        return this.onResolve();
      },
      fetch: (_, input, progress, signal) => {
        this.fetches.push(input);
        this.signal = signal;
        return this.onFetch(input, progress, signal);
      },
      list: ({ sub }) =>
        Array.from({ length: this.listed }, (_, index) => {
          const isPattern = index % 2 === 1;
          return {
            ref: `${sub}/pat-${String(index)}`,
            isPattern,
            mode: 'masked',
            hosts: ['api.github.com'],
            methods: ['GET'],
            description: 'x',
          };
        }),
    };
  }

  get options(): McpOptions {
    return {
      version: '1.2.3',
      ownJwt: () => Promise.resolve('own'),
      useCases: this.useCases,
      onInternal: (error) => this.internal.push(error),
    };
  }
}

/** Never settles before the call is aborted, and says when it was started. */
export function hanging(fakes: Fakes): Promise<AbortSignal> {
  return new Promise((started) => {
    fakes.onFetch = (_input, _progress, signal) => {
      started(signal);
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          reject(new Error('aborted'));
        });
      });
    };
  });
}

export function resolved(more: Partial<McpResolved> = {}): McpResolved {
  const place = { ref: 'github/pat', policy: 'agents-read', hosts: ['api.github.com'], methods: ['GET'] };
  return { mode: 'masked', token: 'KZ_TOK_eyJ.a-b_c.d', ttlMs: 900_500, expiresAt: Date.now() + 900_500, ...place, ...more };
}

export function fetched(body: string, more: Partial<Fetched> = {}): Fetched {
  return { status: 200, headers: { 'content-type': 'application/json' }, body, bodyEncoding: 'utf8', truncated: false, ...more };
}

function caller(sub: string): Caller {
  const identity = { issuer: 'i', org: '', service: '', env: '', action: '', branch: '', actor: '', groups: [] };
  return { issuer: 'i', iss: 'https://i.example', sub, id: 'jti', identity, claims: {}, expiresAt: Date.now() + 60_000 };
}

type Message = Readonly<Record<string, unknown>>;

/** Both ends of a stdio connection. A client's transport at the same time: whatever SDK it is of. */
export class Wire {
  readonly stdin = new PassThrough();
  readonly stdout = new PassThrough();
  readonly stop = new AbortController();
  readonly over: Promise<'closed'>;
  /** Every line that the server wrote. */
  readonly lines: string[] = [];
  onclose?: (() => void) | undefined;
  onerror?: ((error: Error) => void) | undefined;
  // Each SDK has its own type for a message.
  onmessage?: ((message: unknown) => void) | undefined;
  #rest = '';

  constructor(options: McpOptions) {
    this.stdout.setEncoding('utf8');
    this.stdout.on('data', (text: string) => {
      this.#read(text);
    });
    this.over = serveMcpStdio(options, this, this.stop.signal);
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  send(message: unknown): Promise<void> {
    this.stdin.write(`${JSON.stringify(message)}\n`);
    return Promise.resolve();
  }

  async close(): Promise<void> {
    this.stdin.end();
    await this.over;
    this.onclose?.();
  }

  /** The messages that the server sent, parsed: throws for what is not JSON. */
  get messages(): Message[] {
    return this.lines.map((line) => JSON.parse(line) as Message);
  }

  /** The next message that fits. */
  async message(fits: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const found = this.messages.find(fits);
      if (found !== undefined) return found;
      await new Promise((resolve) => this.stdout.once('data', resolve));
    }
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      this.lines.push(line);
      this.onmessage?.(JSON.parse(line));
    }
  }
}

/** What a tool gave, whatever client called it. */
export interface Given {
  readonly isError: boolean;
  readonly text: string;
  readonly structured: unknown;
  readonly meta: unknown;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: { readonly progress: number }) => void;
}

/** What a test needs of a client. */
export interface Speaker {
  readonly wire: Wire;
  readonly tools: () => Promise<readonly { readonly name: string }[]>;
  readonly call: (name: string, parameters?: Record<string, unknown>, options?: CallOptions) => Promise<Given>;
}

/** Kinds of clients: the SDK's present one in both eras, and the one before it. */
export const SPEAKERS = { modern: connectPresent('auto'), legacy: connectPresent('legacy'), former: connectFormer } as const;

function connectPresent(mode: 'auto' | 'legacy'): (options: McpOptions) => Promise<Speaker> {
  return async (options) => {
    const wire = new Wire(options);
    const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
    await client.connect(wire);
    if ((client.getProtocolEra() === 'modern') !== (mode === 'auto')) throw new Error('the other era was negotiated');
    return {
      wire,
      tools: async () => (await client.listTools()).tools,
      call: async (name, parameters = {}, callOptions = {}) => give(await client.callTool({ name, arguments: parameters }, callOptions)),
    };
  };
}

async function connectFormer(options: McpOptions): Promise<Speaker> {
  const wire = new Wire(options);
  const client = new FormerClient({ name: 'test', version: '1' });
  await client.connect(wire);
  return {
    wire,
    tools: async () => (await client.listTools()).tools,
    call: async (name, parameters = {}, callOptions = {}) => {
      return give(await client.callTool({ name, arguments: parameters }, undefined, callOptions));
    },
  };
}

export function give(result: Readonly<Record<string, unknown>>): Given {
  const [first] = (result.content ?? []) as readonly { readonly text?: string }[];
  return { isError: result.isError === true, text: first?.text ?? '', structured: result.structuredContent, meta: result._meta };
}
