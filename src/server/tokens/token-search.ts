// Where tokens are in a request of which nothing is known before: every text that looks like one, and which of them are in a place where a
// credential goes. That is found out by swapping on trial, with the code that does it in earnest, so that both always agree.
import { Buffer } from 'node:buffer';
import type { CredentialLocation } from '../../config/bundle.ts';
import { Secret } from '../../core/secret.ts';
import type { Scope } from '../../mask/scope.ts';
import { isFixedHeader, slotsOf, USUAL, type Slots } from '../../mask/slot.ts';
import { Swap, SwapNotes, type Sighting } from '../../mask/swap.ts';
import { TokenTable, type TokenEntry } from '../../mask/table.ts';
import type { Request } from '../../proxy/exchange.ts';
import type { RequestHead } from '../../proxy/head.ts';
import { sameHeader } from '../fetch/fetch-headers.ts';
import { hasParameter } from '../fetch/parameters.ts';
import { looksShortLived } from './short-lived.ts';
import { TOKEN_SHAPE } from './seal.ts';

/** A request as it is searched. */
export interface Searched {
  readonly request: Request;
  readonly head: RequestHead;
  /** Without its content coding; undefined: it has none, or nobody looks at it. */
  readonly body: Buffer | undefined;
}

/** All that look like tokens, whether they are or not; each once. */
export function tokensIn({ request, head, body }: Searched): readonly string[] {
  const texts = [request.path, ...head.fields, ...head.fields.map(basicCredentials), body?.toString('latin1') ?? ''];
  return [...new Set(texts.flatMap((text) => Array.from(text.matchAll(PREFIXED), ([found]) => found).map(asToken)))];
}

const PREFIXED = /KZ_TOK_[A-Za-z0-9_.-]{0,9000}/g;
const BASIC = /^\s*basic +([A-Za-z0-9+/_-]+={0,2})\s*$/i;

/** A token ends where its shape says; one that has another shape is none, and may be the last word of a sentence. */
function asToken(text: string): string {
  const shaped = TOKEN_SHAPE.exec(text);
  if (shaped?.index === 0) return shaped[0];
  let end = text.length;
  // Not an expression: of thousands of dots it would take the square.
  while (text[end - 1] === '.') end -= 1;
  return text.slice(0, end);
}

function basicCredentials(value: string): string {
  const [, encoded = ''] = BASIC.exec(value) ?? [];
  return Buffer.from(encoded, 'base64').toString('latin1');
}

/** The short-lived token that is sent as the request's own credential. */
export function shortLivedIn({ fields }: RequestHead): string | undefined {
  for (let index = 0; index < fields.length; index += 2) {
    if (fields[index]?.toLowerCase() !== 'authorization') continue;
    const [, jwt = ''] = /^\s*bearer +([\w-]+\.[\w-]+\.[\w-]+)\s*$/i.exec(fields[index + 1] ?? '') ?? [];
    if (looksShortLived(jwt)) return jwt;
  }
  return undefined;
}

/** Token → the places in which it would be swapped, as `Sighting.where` names them. A token that has none is free text. */
export function usesOf(tokens: readonly string[], { request, head, body }: Searched, slots: Slots): ReadonlyMap<string, readonly string[]> {
  const { host, port, tls } = request.target;
  const swap = new Swap(new TokenTable(tokens.map((token) => unusable(token, slots))), host, port, tls);
  const uses = new Uses();
  swap.target(request.path, uses);
  for (let index = 0; index < head.fields.length; index += 2) swap.header(head.fields[index] ?? '', head.fields[index + 1] ?? '', uses);
  const rewriter = body === undefined ? undefined : swap.body(head.contentType, uses);
  if (body !== undefined) rewriter?.push(body);
  rewriter?.end();
  return uses.places;
}

class Uses extends SwapNotes {
  readonly places = new Map<string, string[]>();

  override addSwapped({ name, where }: Sighting): void {
    const known = this.places.get(name);
    if (known === undefined) this.places.set(name, [where]);
    else if (!known.includes(where)) known.push(where);
  }
}

/** Can a body of this type hold credentials that are told apart from free text? */
export function hasFields(contentType: string | undefined): boolean {
  return ANY.body(contentType, new SwapNotes()) !== undefined;
}

/** A token that stands for no value: for a trial. */
function unusable(token: string, slots: Slots): TokenEntry {
  return { name: token, token, secret: NO_VALUE, scope: ANYWHERE, slots };
}

/** A token that is in no place of a credential: it stays, and that is noted. A body that would have to be coded anew is left alone. */
export function leftAlone(token: string, { head }: Searched): TokenEntry {
  return { ...unusable(token, { ...NOWHERE, fields: head.contentEncoding === undefined }), name: 'a token in free text' };
}

const NO_VALUE = new Secret('0');
const ANYWHERE: Scope = { from: 'any', patterns: ['*'], covers: () => true, coversClear: () => true };
const NOWHERE: Slots = {
  ...{ words: [], fields: false, path: false, body: false, frame: false },
  ...{ header: () => false, query: () => false, field: () => false },
};
const ANY = new Swap(new TokenTable([unusable('KZ_TOK_', slotsOf(undefined))]), '', 443);

/** Where credentials usually are, and where these resources want theirs. */
export function slotsFor(locations: readonly CredentialLocation[]): Slots {
  return slotsOf([USUAL, ...new Set(locations.flatMap(slotOf))]);
}

function slotOf(location: CredentialLocation): string[] {
  switch (location.kind) {
    case 'header':
      return isFixedHeader(location.name) ? [] : [`header:${location.name}`];
    case 'query':
      return [`query:${location.name}`];
    case 'basic':
      return [];
  }
}

/** Puts a token where the resource wants its credential, in place of the caller's own Authorization. Gives the path and query, if they change. */
export function place(
  token: string,
  location: CredentialLocation,
  { request, head }: Pick<Searched, 'request' | 'head'>,
): string | undefined {
  without(head.fields, 'Authorization');
  switch (location.kind) {
    case 'header':
      without(head.fields, location.name);
      head.fields.push(location.name, location.prefix === '' ? token : `${location.prefix} ${token}`);
      return undefined;
    case 'basic': {
      const login = location.user === undefined ? token : `${location.user}:${token}`;
      head.fields.push('Authorization', `Basic ${Buffer.from(login).toString('base64')}`);
      return undefined;
    }
    case 'query':
      return withParameter(request.path, location.name, token);
  }
}

/** In no spelling: it would be left to the server which of two counts. */
function without(fields: string[], name: string): void {
  for (let index = fields.length - 2; index >= 0; index -= 2) if (sameHeader(fields[index] ?? '', name)) fields.splice(index, 2);
}

function withParameter(target: string, name: string, token: string): string {
  const mark = target.indexOf('?');
  const path = mark === -1 ? target : target.slice(0, mark);
  const others = mark === -1 ? [] : target.slice(mark + 1).split('&');
  const kept = others.filter((pair) => pair !== '' && !hasParameter(pair, [name]));
  return `${path}?${[...kept, `${encodeURIComponent(name)}=${token}`].join('&')}`;
}
