// A request with a credential that its caller never sees: sent once, to where the resource allows it, and answered without the value. Follows
// no redirect, keeps no cookie. Steps, in this order: `readFetch`, the policy, `checkFetch`, the secret, `sendFetch`.
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { ResourceEntry } from '../../config/bundle.ts';
import { withDeadline } from '../../core/abort.ts';
import { systemCode } from '../../core/errors.ts';
import type { Secret } from '../../core/secret.ts';
import { CodingError } from '../../proxy/coding.ts';
import { DialError, type Target } from '../../proxy/dial.ts';
import type { UpstreamRequest } from '../../proxy/upstream-agent.ts';
import type { Upstream } from '../../proxy/upstream.ts';
import { ServerFailure } from '../failure.ts';
import { sameHeader } from './fetch-headers.ts';
import { namedHosts, type FetchRequest } from './fetch-request.ts';
import { hasBody, readAnswer, type FetchResult } from './fetch-response.ts';
import { inject, withSearch, type Injected } from './inject.ts';

export { checkFetch, readFetch, type FetchInput, type FetchRequest } from './fetch-request.ts';
export type { FetchResult } from './fetch-response.ts';

export interface FetchCredential {
  readonly entry: ResourceEntry;
  /** What was asked for, which an entry's glob covers. */
  readonly ref: string;
  readonly secret: Secret;
}

export interface FetchOptions {
  readonly upstream: Pick<Upstream, 'request'>;
  readonly signal: AbortSignal;
  /** Bytes of the body so far, when some have come; at most every 250 ms. */
  readonly progress?: ((bytes: number) => void) | undefined;
  /** For everything, from the connection to the last byte. Default: 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Milliseconds, for `progress`. */
  readonly now?: (() => number) | undefined;
  /** Bytes of the body that are given back. Default: 1 MiB. */
  readonly limit?: number | undefined;
  /** Who asks: no two callers share a connection, where an answer too many would be the next one's. */
  readonly caller?: { readonly issuer: string; readonly sub: string } | undefined;
}

const TIMEOUT_MS = 30_000;

/** Asks `checkFetch` nothing: the caller has. Throws only ServerFailure. */
export async function sendFetch(request: FetchRequest, credential: FetchCredential, options: FetchOptions): Promise<FetchResult> {
  const { entry, ref, secret } = credential;
  const { host } = request.target;
  const injected = inject({ ref, location: entry.location, secret });
  const { issuer = '', sub = '' } = options.caller ?? {};
  // Nor do two refs: an answer is searched for the value of its own.
  const owner = JSON.stringify([issuer, sub, ref]);
  const target = { ...request.target, namedByRule: namedHosts(entry).covers(host, request.target.port), owner };
  const { timeoutMs = TIMEOUT_MS } = options;
  return withDeadline(timeoutMs, options.signal, async (signal) => {
    try {
      signal.throwIfAborted();
      const { sent, incoming } = await ask(options.upstream, target, outgoing(request, injected), signal);
      try {
        return await withSearch({ ref, location: entry.location, secret }, (search) =>
          readAnswer(incoming, { host, method: request.method, search, onBytes: reporting(options), limit: options.limit }),
        );
      } finally {
        // An answer that was not read to its end, or an upload that nobody waits for: the connection serves no other request.
        if (!incoming.complete || !sent.writableFinished) sent.destroy();
      }
    } catch (error) {
      if (options.signal.aborted) throw new ServerFailure('cancelled', `the request to ${host} was cancelled`);
      if (signal.aborted)
        throw new ServerFailure('upstream-timeout', `${host} had not answered in full after ${String(timeoutMs / 1000)} s`);
      throw failureOf(error, target);
    }
  });
}

interface Outgoing extends UpstreamRequest {
  readonly body: Buffer;
}

function outgoing({ target, method, path, query, headers, body }: FetchRequest, injected: Injected): Outgoing {
  const { host, port, tls } = target;
  const has = (name: string): boolean => headers.some(([each]) => sameHeader(each, name));
  const fields = ['Host', port === (tls ? 443 : 80) ? host : `${host}:${String(port)}`];
  if (!has('user-agent')) fields.push('User-Agent', 'kz');
  if (!has('accept')) fields.push('Accept', '*/*');
  // A server that compresses anyway is decoded.
  fields.push(...headers.flat(), 'Accept-Encoding', 'identity');
  if (body.length > 0 || ['POST', 'PUT', 'PATCH'].includes(method)) fields.push('Content-Length', String(body.length));
  // There are servers that do not read a body: on this connection it would be the beginning of the next request, which has a credential.
  if (body.length > 0) fields.push('Connection', 'close');
  if (injected.kind === 'header') fields.push(injected.name, injected.value);
  const parameters = [query, injected.kind === 'query' ? injected.parameter : ''].filter((text) => text !== '');
  return { method, path: parameters.length === 0 ? path : `${path}?${parameters.join('&')}`, headers: fields, body };
}

interface Answered {
  readonly sent: ClientRequest;
  readonly incoming: IncomingMessage;
}

/** Safe to send twice: the connection that it went out on may have been closed by the other side meanwhile. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

function ask(upstream: FetchOptions['upstream'], target: Target, { body, ...request }: Outgoing, signal: AbortSignal): Promise<Answered> {
  return new Promise((resolve, reject) => {
    let again = IDEMPOTENT.has(request.method);
    let incoming: IncomingMessage | undefined;
    const attempt = (): void => {
      const sent = upstream.request(target, request);
      if (body.length > 0) sent.shouldKeepAlive = false;
      const giveUp = (): void => {
        // A request that waits for its connection tells of its end only when that has come.
        reject(new GivenUp());
        sent.destroy(new GivenUp());
      };
      signal.addEventListener('abort', giveUp);
      sent.once('response', (answer) => {
        incoming = answer;
        // And servers that send a body where none belongs: the beginning of the next answer.
        if (!hasBody(request.method, answer.statusCode ?? 0)) sent.shouldKeepAlive = false;
        // Before anybody reads, and after they have stopped: an error that nobody listens for would end kz.
        answer.on('error', () => undefined);
        resolve({ sent, incoming: answer });
      });
      // A 101 that nobody asked for: without a listener Node ends the connection and tells nobody.
      sent.once('upgrade', (_answer, socket) => {
        socket.destroy();
        reject(new UnaskedUpgrade());
      });
      sent.on('error', (error) => {
        // A body without a length ends with its connection, and Node takes a broken one for its end.
        if (incoming?.complete === false) incoming.destroy(error);
        if (again && incoming === undefined && sent.reusedSocket && !signal.aborted) {
          again = false;
          attempt();
        } else {
          reject(error);
        }
      });
      if (signal.aborted) giveUp();
      else if (body.length === 0) sent.end();
      else sent.end(body);
    };
    attempt();
  });
}

class GivenUp extends Error {}

class UnaskedUpgrade extends Error {
  readonly code = 'UNASKED_UPGRADE';
}

const PROGRESS_MS = 250;

function reporting({ progress, now = () => performance.now() }: FetchOptions): ((total: number) => void) | undefined {
  if (progress === undefined) return undefined;
  let last = now();
  return (total) => {
    const time = now();
    if (time - last < PROGRESS_MS) return;
    last = time;
    progress(total);
  };
}

/** Codes only: the message of another error, and the packet that Node hangs on it, can hold what the upstream said. */
function failureOf(error: unknown, { host }: Target): ServerFailure {
  if (error instanceof ServerFailure) return error;
  if (error instanceof DialError) {
    switch (error.code) {
      case 'address-forbidden':
        return new ServerFailure('address-forbidden', error.detail, {
          cause: error,
          hint: `name ${host} in \`hosts\` of the resource, if it is meant`,
        });
      case 'timeout':
        return new ServerFailure('upstream-timeout', `cannot reach ${host}: ${error.detail}`, { cause: error });
      default:
        return new ServerFailure('upstream-failed', `cannot reach ${host}: ${error.detail}`, { cause: error });
    }
  }
  if (error instanceof CodingError)
    return new ServerFailure('upstream-failed', `${host} answered with a body that is not valid ${error.coding}`);
  return new ServerFailure('upstream-failed', `${host} failed before it had answered in full (${systemCode(error) ?? 'unknown error'})`);
}
