// `--proxy`: a blind proxy for the server's callers. Who they are is proven at the door, by the JWT that they send as the proxy's credential;
// hosts that no resource names cannot be reached through it, whoever asks.
import { Buffer } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { ProxyServer, type Entered } from '../../proxy/server.ts';
import type { Refusal } from '../../proxy/refusal.ts';
import { ServerFailure } from '../failure.ts';
import { GRACE_MS } from '../grace.ts';
import { Carried } from './carried.ts';
import { looksShortLived } from './short-lived.ts';
import { CallerSession, SHUTTING_DOWN, strangersSession, type SessionParts } from './token-session.ts';
import type { Caller } from '../identity/verify.ts';
import { callerKey, remember } from '../remembered.ts';

export type { TokenProxyEvent } from './token-session.ts';

export interface TokenProxyOptions extends Omit<SessionParts, 'now' | 'underWay' | 'isDraining'> {
  readonly listen: { readonly host: string; readonly port: number };
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

/** As many as the server's own port takes. */
const MOST_CONNECTIONS = 4096;

/** How long requests that run have at the end. */
const DRAIN_MS = 5000;

/** How often is looked for those that run. */
const LOOK_MS = 20;

/** Of whom it is known what their requests carried. */
const MOST_CALLERS = 1000;

export class TokenProxy {
  readonly #parts: SessionParts;
  /** A verified JWT has one session, however many connections it is used on. */
  readonly #sessions = new WeakMap<Caller, CallerSession>();
  /** By issuer and caller; the one that was quiet longest comes first. */
  readonly #carried = new Map<string, Carried>();
  #proxy: ProxyServer | undefined;
  #draining: Promise<void> | undefined;

  /** Resolves once it listens. */
  static async listen({ listen, now = Date.now, ...parts }: TokenProxyOptions): Promise<TokenProxy> {
    const proxy: TokenProxy = new TokenProxy({ ...parts, now, underWay: new Set(), isDraining: () => proxy.#draining !== undefined });
    proxy.#proxy = await ProxyServer.open(strangersSession(proxy.#parts), (request) => proxy.#enter(request), {
      ...listen,
      mostConnections: MOST_CONNECTIONS,
    });
    return proxy;
  }

  private constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  get port(): number {
    return this.#proxy?.port ?? 0;
  }

  /** Lets requests that run come to their end for a while, and refuses those that come meanwhile. */
  drain(): Promise<void> {
    this.#draining ??= this.#finished(DRAIN_MS);
    return this.#draining;
  }

  /** Ends every connection. After it there are no more events. */
  async close(): Promise<void> {
    await this.#proxy?.close();
    await this.#finished(GRACE_MS);
    for (const exchange of this.#parts.underWay) exchange.finish(null, { error: 'client-gone' });
  }

  async #finished(ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (this.#parts.underWay.size > 0 && performance.now() < until) await pause(LOOK_MS);
  }

  async #enter({ headers, socket }: IncomingMessage): Promise<Entered | Refusal> {
    if (this.#draining !== undefined) return SHUTTING_DOWN;
    const jwt = credentialIn(headers['proxy-authorization']);
    if (jwt === undefined) return NO_CREDENTIAL;
    const abort = new AbortController();
    const onClose = (): void => {
      abort.abort();
    };
    // One for each request that came without waiting for the answers before it.
    socket.setMaxListeners(0);
    socket.once('close', onClose);
    try {
      return this.#sessionOf(await this.#verified(jwt, abort.signal), jwt);
    } catch (error) {
      if (!(error instanceof ServerFailure)) throw error;
      const { status, code, message } = error;
      // Whatever is wrong with the credential: another one may help.
      const isAudited = !this.#isOurs(jwt);
      return { status: status >= 500 || status === 429 ? status : 407, code, message, isAudited, end: { why: 'other' } };
    } finally {
      socket.off('close', onClose);
    }
  }

  /** A token that this server gave out itself; of every other one, the service writes down that it is refused. */
  #isOurs(jwt: string): boolean {
    return this.#parts.shortLived !== undefined && looksShortLived(jwt);
  }

  async #verified(jwt: string, signal: AbortSignal): Promise<Caller> {
    const { service, shortLived, seal } = this.#parts;
    if (shortLived === undefined || !this.#isOurs(jwt)) return service.verify(jwt, 'proxy', signal);
    const facts = await shortLived.verify(jwt);
    const caller = facts.caller === undefined ? undefined : await seal.unsealCaller(facts.caller);
    if (caller?.issuer !== facts.issuer || caller.sub !== facts.sub) {
      throw new ServerFailure('token-invalid', 'the short-lived token does not say who calls');
    }
    // It was given to a caller whose own JWT was good then.
    return { ...caller, id: facts.jti, expiresAt: facts.expiresAt };
  }

  #sessionOf(caller: Caller, jwt: string): CallerSession {
    const known = this.#sessions.get(caller);
    if (known !== undefined) return known;
    const verify = (signal: AbortSignal): Promise<Caller> => this.#verified(jwt, signal);
    const session = new CallerSession({ caller, carried: this.#carriedBy(caller), verify }, this.#parts);
    this.#sessions.set(caller, session);
    return session;
  }

  #carriedBy(caller: Caller): Carried {
    const key = callerKey(caller);
    const carried = this.#carried.get(key) ?? new Carried();
    remember(this.#carried, key, carried, MOST_CALLERS);
    return carried;
  }
}

const NO_CREDENTIAL: Refusal = {
  status: 407,
  code: 'jwt-missing',
  end: { why: 'other' },
  message: 'this proxy needs a JWT: as the password of its URL, or as `Proxy-Authorization: Bearer`',
};

/** `Bearer JWT`, or `Basic` with any user and the JWT as its password. */
function credentialIn(header: string | undefined): string | undefined {
  const [, scheme = '', text = ''] = /^\s*(basic|bearer) +(\S+)\s*$/i.exec(header ?? '') ?? [];
  if (scheme === '') return undefined;
  if (scheme.toLowerCase() === 'bearer') return text;
  const login = Buffer.from(text, 'base64').toString('latin1');
  const password = login.slice(login.indexOf(':') + 1);
  return password === '' ? undefined : password;
}
