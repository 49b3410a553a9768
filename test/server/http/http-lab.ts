// A real HTTP face on loopback, with a service that knows a few tokens, and clients down to the bare socket.
import http from 'node:http';
import net from 'node:net';
import { ServerFailure } from '../../../src/server/failure.ts';
import type { ResolveResult } from '../../../src/server/http/http-ask.ts';
import { HttpServer, type HttpOptions } from '../../../src/server/http/http.ts';
import type { RefusedCall } from '../../../src/server/service.ts';
import { Limits, type LimitOptions } from '../../../src/server/limits.ts';
import { parseListen } from '../../../src/server/http/listen.ts';
import { Metrics } from '../../../src/server/metrics.ts';
import type { Caller } from '../../../src/server/identity/verify.ts';

export const CALLER: Caller = {
  issuer: 'github',
  iss: 'https://token.actions.example.com',
  sub: 'repo:acme/app',
  id: 'a1',
  identity: { org: 'acme', service: '', env: '', action: '', branch: '', actor: '', groups: [] },
  claims: {},
  expiresAt: 0,
};

export interface LabOptions extends Partial<Omit<HttpOptions, 'limits' | 'metrics' | 'listen'>> {
  readonly limits?: Partial<LimitOptions>;
  readonly address?: string;
}

const labs: HttpLab[] = [];

/** Closed after the test by `closeLabs`. */
export async function lab(options: LabOptions = {}): Promise<HttpLab> {
  const opened = await openLab(options);
  labs.push(opened);
  return opened;
}

export async function closeLabs(): Promise<void> {
  await Promise.all(labs.splice(0).map(({ server }) => server.close()));
}

export function deferred<T = void>() {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

export interface HttpLab {
  readonly server: HttpServer;
  readonly limits: Limits;
  readonly metrics: Metrics;
  /** Refs, in the order in which they were asked for. */
  readonly asked: string[];
  /** What has its audit line from the face itself. */
  readonly refused: (Partial<RefusedCall> & { readonly code: string })[];
}

/** `good` is a token; refs below `denied/` and `broken/` fail. */
export async function openLab({ limits: limited, address = '127.0.0.1:0', ...options }: LabOptions = {}): Promise<HttpLab> {
  const limits = new Limits({ rate: 0, burst: 1, inFlight: 1024, ...limited });
  const metrics = new Metrics({ version: '1.2.3', inFlight: () => limits.inFlight, auditLost: () => 0 });
  const asked: string[] = [];
  const refused: HttpLab['refused'] = [];
  const server = await HttpServer.listen({
    service: {
      bundleVersion: '7',
      verify: (jwt) =>
        jwt === 'good' ? Promise.resolve(CALLER) : Promise.reject(new ServerFailure('jwt-invalid', 'the token is not good')),
      refused: (_face, { code }, about) => refused.push({ code, ...about }),
    },
    whose: (jwt) => Promise.resolve(jwt === 'good' ? CALLER : undefined),
    resolve: (_caller, { ref }) => {
      asked.push(ref);
      return Promise.resolve().then(() => resolved(ref));
    },
    fetch: (_caller, ask) =>
      Promise.resolve({ status: 404, headers: { 'x-a': '1' }, body: JSON.stringify(ask), bodyEncoding: 'utf8', truncated: false }),
    ready: () => Promise.resolve({ ok: true, problems: [] }),
    listen: parseListen(address),
    ...{ allowedHosts: [], allowedOrigins: [], limits, metrics },
    ...options,
  });
  return { server, limits, metrics, asked, refused };
}

function resolved(ref: string): ResolveResult {
  if (ref.startsWith('denied/')) throw new ServerFailure('denied', `resolve of ${ref} is denied: no policy allows it`);
  if (ref.startsWith('broken/')) throw new Error('CANARY-internal');
  if (ref.startsWith('slow/')) throw new ServerFailure('secret-timeout', 'backend gh gave no value in time');
  return { allowed: true, policy: 'ci-reads', mode: 'masked', token: `KZ_TOK_${ref}`, ttl: 900 };
}

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly json: unknown;
}

export interface Call {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  /** Sent as JSON, unless it is text or bytes. */
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  readonly agent?: http.Agent;
}

/** A POST with a token, if there is a body. */
export function call({ server }: HttpLab, path: string, { method, headers = {}, body, ...rest }: Call = {}): Promise<Reply> {
  const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? body : body === undefined ? '' : JSON.stringify(body);
  const usual = body === undefined ? {} : { authorization: 'Bearer good', 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(server.url);
    const options = {
      hostname,
      port,
      path,
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: { ...usual, ...headers },
      ...rest,
    };
    const request = http.request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const isJson = response.headers['content-type']?.startsWith('application/json') === true && text !== '';
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined });
      });
    });
    request.on('error', reject);
    request.end(bytes);
  });
}

/** Everything that comes back until the server closes the connection. */
export function raw({ server }: HttpLab, text: string): Promise<string> {
  const { port, hostname } = new URL(server.url);
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = net.connect(Number(port), hostname, () => socket.write(text));
    socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
    socket.on('close', () => {
      resolve(answer);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') reject(error);
    });
  });
}
