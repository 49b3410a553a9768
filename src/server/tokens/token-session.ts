// What one caller's requests through the proxy are part of. Each request is looked at before it is forwarded: the tokens in it are opened,
// checked against this caller and the policies, and stand for values in that request only. What comes back is searched for every value that
// the caller's requests carried lately.
import { Buffer } from 'node:buffer';
import type { AuditEvent } from '../../audit/event.ts';
import { Guard } from '../../mask/guard.ts';
import { isHeaderSafe } from '../../mask/mint.ts';
import { Remasker } from '../../mask/remask.ts';
import { scopeOf } from '../../mask/scope.ts';
import { TokenTable, type TokenEntry } from '../../mask/table.ts';
import type { Rule } from '../../policy/rule.ts';
import type { Authority } from '../../proxy/authority.ts';
import { decoderFor } from '../../proxy/coding.ts';
import type { Exchange, Request, Session } from '../../proxy/exchange.ts';
import type { RequestHead } from '../../proxy/head.ts';
import { HttpServers } from '../../proxy/http-servers.ts';
import { decoded, readUpTo, type Prepared, type Unprepared } from '../../proxy/prepare.ts';
import type { Refusal } from '../../proxy/refusal.ts';
import type { Upstream } from '../../proxy/upstream.ts';
import { ServerFailure } from '../failure.ts';
import { bodyKinds } from '../fetch/parameters.ts';
import type { Carried } from './carried.ts';
import { NOTHING_ALLOWED, reachable } from './reachable.ts';
import { hasFields, leftAlone, place, shortLivedIn, slotsFor, tokensIn, usesOf, type Searched } from './token-search.ts';
import { openSealed, openShortLived, refusalOf, use, type Opened, type TokenParts, type Usable } from './token-use.ts';
import type { Caller } from '../identity/verify.ts';

/** One exchange, or a connection that never became one. */
export interface TokenProxyEvent {
  readonly event: AuditEvent;
  /** Undefined: it was not proven who it is. */
  readonly caller?: Caller | undefined;
  /** Whose values were asked for. */
  readonly refs: readonly string[];
  /** Why it was refused, when the reason is a token. */
  readonly code?: string | undefined;
  /** The body was too large to be looked at, or its content coding is unknown: tokens in it stayed. */
  readonly isBodyUnread: boolean;
}

export interface SessionParts extends TokenParts {
  readonly upstream: Upstream;
  readonly authority: Authority;
  readonly audit: (event: TokenProxyEvent) => void;
  /** Those without a line yet. */
  readonly underWay: Set<Exchange>;
  /** Nothing is to begin any more. */
  readonly isDraining: () => boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** A body is looked at as a whole, and its tokens are known before its first byte goes on. */
const LARGEST_BODY = 1024 * 1024;
/** Each may cost a question to a backend. */
const MOST_TOKENS = 16;

type Facts = Partial<Omit<TokenProxyEvent, 'event'>>;

/** For what belongs to no caller: nothing is allowed. */
export function strangersSession(parts: SessionParts): Session {
  return { ...sessionOf(parts, { rules: [], table: NO_TOKENS, remasker: new Remasker([]) }, {}), rules: NOTHING_ALLOWED };
}

export interface Client {
  readonly caller: Caller;
  readonly carried: Carried;
  /** Once more, what the client showed at the door. */
  readonly verify: (signal: AbortSignal) => Promise<Caller>;
}

/** How long what was verified is trusted while it is not shown again, as in jwt-cache.ts. */
const TRUSTED_MS = 60_000;

export class CallerSession {
  readonly servers: HttpServers;
  readonly session: Session;
  readonly #parts: SessionParts;
  readonly #carried: Carried;
  readonly #verify: Client['verify'];
  #caller: Caller;
  #verifiedAt: number;

  constructor({ caller, carried, verify }: Client, parts: SessionParts) {
    this.#caller = caller;
    this.#parts = parts;
    this.#carried = carried;
    this.#verify = verify;
    this.#verifiedAt = parts.now();
    const prepare = (request: Unprepared, signal: AbortSignal): Promise<Prepared> => this.#prepare(request, signal);
    const rules = (): readonly Rule[] => reachable(parts.service.resources);
    this.session = Object.defineProperty({ ...this.#serving(NO_TOKENS, {}), prepare }, 'rules', { get: rules, enumerable: true });
    this.servers = new HttpServers(this.session);
  }

  async #prepare({ request, head, source, proceed }: Unprepared, signal: AbortSignal): Promise<Prepared> {
    if (this.#parts.isDraining()) return this.#refused(SHUTTING_DOWN);
    if (this.#isExpired()) return this.#refused(EXPIRED);
    const body = await readBody({ request, head, source, proceed });
    // A body comes as slowly as its sender likes.
    if (this.#isExpired()) return this.#refused(EXPIRED);
    const text = body instanceof Buffer ? await decoded(body, head.contentEncoding, LARGEST_BODY) : undefined;
    const isBodyUnread = body !== undefined && text === undefined;
    try {
      await this.#verifyAgain(signal);
      const { table, path, refs, release } = await this.#tokens({ request, head, body: text }, signal);
      return { session: ending(this.#serving(table, { refs, isBodyUnread }), release), body, path, isOpaque: isBodyUnread };
    } catch (error) {
      if (error instanceof ServerFailure) return this.#refused(refusalOf(error));
      throw error;
    }
  }

  #isExpired(): boolean {
    return this.#parts.now() >= this.#caller.expiresAt;
  }

  /** Since the connection was opened the issuer may have left the bundle, its key may be gone, or the claims may mean something else. */
  async #verifyAgain(signal: AbortSignal): Promise<void> {
    const now = this.#parts.now();
    if (now >= this.#verifiedAt && now - this.#verifiedAt < TRUSTED_MS) return;
    this.#caller = await this.#verify(signal);
    this.#verifiedAt = now;
  }

  async #tokens(searched: Searched, signal: AbortSignal): Promise<Found> {
    const tokens = tokensIn(searched);
    const shortLived = this.#parts.shortLived === undefined ? undefined : shortLivedIn(searched.head);
    // Nearly always.
    if (tokens.length === 0 && shortLived === undefined) return { table: NO_TOKENS, refs: [], path: undefined, release: nothing };
    if (tokens.length > MOST_TOKENS)
      throw new ServerFailure('request-invalid', `the request holds more than ${String(MOST_TOKENS)} tokens`);
    const uses = usesOf(tokens, searched, slotsFor(this.#parts.service.resources.map(({ entry }) => entry.location)));
    // All are opened before the first one is used: a request that is refused for one of them asks no backend.
    const opened: [Opened, readonly string[]][] = [];
    for (const [token, places] of uses) opened.push([await openSealed(token, this.#parts), places]);
    const signed = shortLived === undefined ? undefined : await openShortLived(shortLived, this.#parts);
    const used: Usable[] = [];
    for (const [each, places] of opened) used.push(await this.#use(each, places, { searched, signal }));
    let path: string | undefined;
    if (signed !== undefined) {
      const usable = await this.#use(signed, ['header authorization'], { searched, signal });
      path = place(signed.token, usable.entry.location, searched);
      used.push(usable);
    }
    const release = this.#carried.add(
      used.map(({ ref, token, secret, expiresAt }) => ({ name: ref, token, secret, expiresAt })),
      this.#parts.now(),
    );
    const left = tokens.filter((token) => !uses.has(token)).map((token) => leftAlone(token, searched));
    return { table: new TokenTable([...used.map(entryOf), ...left]), path, refs: used.map(({ ref }) => ref), release };
  }

  async #use(opened: Opened, places: readonly string[], on: { searched: Searched; signal: AbortSignal }): Promise<Usable> {
    const usable = await use(opened, { caller: this.#caller, searched: on.searched }, this.#parts, on.signal);
    if (places.some((where) => where.startsWith('header ')) && !isHeaderSafe(usable.secret)) {
      throw new ServerFailure('header-forbidden', `the value of ${opened.ref} has more than one line and cannot be sent in a header`);
    }
    return usable;
  }

  #refused(refusal: Refusal): Prepared {
    return { session: this.#serving(NO_TOKENS, { code: refusal.code }), refusal };
  }

  #serving(table: TokenTable, facts: Facts): Session {
    const { issuer, sub } = this.#caller;
    const own = { rules: NOTHING_ALLOWED, table, remasker: this.#carried.remasker, owner: JSON.stringify([issuer, sub]) };
    return sessionOf(this.#parts, own, { caller: this.#caller, ...facts });
  }
}

interface Found {
  readonly table: TokenTable;
  readonly path: string | undefined;
  readonly refs: readonly string[];
  /** To be called at the end of the exchange. */
  readonly release: () => void;
}

function nothing(): void {
  return undefined;
}

/** Tells also when the exchange is over: it has one audit event, at its end. */
function ending(session: Session, release: () => void): Session {
  return {
    ...session,
    audit: (event) => {
      release();
      session.audit(event);
    },
  };
}

const NO_TOKENS = new TokenTable([]);
const NO_GUARD = new Guard([]);

const EXPIRED: Refusal = {
  status: 401,
  code: 'jwt-expired',
  message: 'the token that this connection was opened with has expired; open another one',
  end: { why: 'other' },
};

/** As the other faces answer then. Like everything that is refused before anybody asks who it is, it has no line. */
export const SHUTTING_DOWN: Refusal = {
  status: 503,
  code: 'overloaded',
  message: 'this server is shutting down',
  isAudited: true,
  end: { error: 'other' },
};

type Own = Pick<Session, 'rules' | 'table' | 'remasker' | 'owner'>;

function sessionOf({ authority, upstream, audit, underWay }: SessionParts, own: Own, facts: Facts): Session {
  return {
    ...own,
    guard: NO_GUARD,
    authority,
    upstream,
    underWay,
    audit: (event) => {
      audit({ refs: [], isBodyUnread: false, ...facts, event });
    },
    ruleAt: () => null,
    configFile: 'the bundle',
    // Nothing is spooled: bodies that are rewritten are small.
    spoolFolder: '',
    remedies: 'none',
  };
}

function entryOf({ ref, token, secret, entry }: Usable): TokenEntry {
  return { name: ref, token, secret, scope: scopeOf({ hosts: entry.hosts, ruleHosts: [] }), slots: slotsFor([entry.location]) };
}

/** Undefined: there is none, or it holds neither tokens that could be swapped nor parameters. */
async function readBody({ request, head, source, proceed }: Unprepared): Promise<Buffer | 'untouched' | undefined> {
  const isOfUse = hasFields(head.contentType) || bodyKinds(head.contentType, request.method).length > 0;
  if (source === undefined || hasNoBody(request, head) || !isOfUse) return undefined;
  if ('endAfterHeaders' in source && source.endAfterHeaders === true) return undefined;
  const isTooLarge = head.contentLength !== undefined && head.contentLength > LARGEST_BODY;
  if (isTooLarge || decoderFor(head.contentEncoding).kind === 'unsupported') return 'untouched';
  proceed();
  // Whoever asked has its answer, and the upstream is not to give another one.
  head.expectsContinue = false;
  return (await readUpTo(source, LARGEST_BODY)) ?? 'untouched';
}

/** HTTP/1 says so when there is one (RFC 9112 6.3). HTTP/2 says when there is none. */
function hasNoBody({ protocol }: Request, { contentLength, hasTransferEncoding }: RequestHead): boolean {
  if (contentLength !== undefined) return contentLength === 0;
  return protocol !== 'h2' && !hasTransferEncoding;
}
