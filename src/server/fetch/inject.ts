// Puts a credential into a request, and says what an answer has to be searched for afterwards. The one file of a fetch that sees the value.
import { isUtf8 } from 'node:buffer';
import type { CredentialLocation } from '../../config/bundle.ts';
import { Secret } from '../../core/secret.ts';
import { formsOf, SHORTEST_FORM } from '../../mask/form.ts';
import { redactionsOf, Remasker } from '../../mask/remask.ts';
import { ReplacementSet, type Replacement } from '../../mask/replace.ts';
import { ServerFailure } from '../failure.ts';

export interface Credential {
  readonly ref: string;
  readonly location: CredentialLocation;
  readonly secret: Secret;
}

/** What is added to the request: a header field or a parameter of the query. */
export type Injected =
  | { readonly kind: 'header'; readonly name: string; readonly value: string }
  /** `name=value`, escaped. */
  | { readonly kind: 'query'; readonly parameter: string };

/** Throws secret-unavailable for a value that cannot stand there; the message says nothing of it. */
export function inject({ ref, location, secret }: Credential): Injected {
  const value = secret.reveal();
  if (value === '') throw unfit(ref, 'is empty');
  // A line end is often the last one of a file; whoever keeps the secret has to take it away, as nobody here can tell.
  if (/[^\P{Cc}\t]/u.test(value)) throw unfit(ref, 'holds a line end or a control character');
  switch (location.kind) {
    case 'header':
      if (/[^\0-\xff]/.test(value)) throw unfit(ref, 'holds a character that no header can carry');
      return { kind: 'header', name: location.name, value: location.prefix === '' ? value : `${location.prefix} ${value}` };
    case 'basic':
      if (location.user === undefined && !value.includes(':')) throw unfit(ref, 'is not `user:password`');
      return {
        kind: 'header',
        name: 'Authorization',
        value: `Basic ${Buffer.from(userAndPassword(location.user, value)).toString('base64')}`,
      };
    case 'query':
      return { kind: 'query', parameter: `${escaped(location.name)}=${escaped(value)}` };
  }
}

function unfit(ref: string, what: string): ServerFailure {
  return new ServerFailure('secret-unavailable', `the value of ${ref} cannot be sent: it ${what}`);
}

function userAndPassword(user: string | undefined, value: string): string {
  return user === undefined ? value : `${user}:${value}`;
}

/** All but what RFC 3986 calls unreserved. */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

export interface Search {
  readonly set: ReplacementSet;
  /** False: the value, or the password in it, is under 8 bytes. Then it is found only with what stands around it in the request. */
  readonly isSure: boolean;
}

/** Compiled searches, each for as long as somebody uses it: one takes 600 KB, and a thousand calls may be for the same secret. */
const inUse = new Map<string, { readonly search: Search; users: number }>();

/** Finds the value, its parts and what was sent, in every form that form.ts knows, and puts `[redacted:REF]` there. */
export async function withSearch<T>(credential: Credential, use: (search: Search) => Promise<T>): Promise<T> {
  const { ref, location, secret } = credential;
  const key = JSON.stringify([ref, location, secret.reveal()]);
  const entry = inUse.get(key) ?? { search: searchFor(credential), users: 0 };
  entry.users += 1;
  inUse.set(key, entry);
  try {
    return await use(entry.search);
  } finally {
    entry.users -= 1;
    if (entry.users === 0) inUse.delete(key);
  }
}

function searchFor(credential: Credential): Search {
  const { ref, location, secret } = credential;
  const secrets = [secret, ...passwordOf(location, secret)];
  const mark = `[redacted:${ref}]`;
  const list: readonly Replacement[] = [
    ...redactionsOf(secrets.map((each) => ({ name: ref, secret: each }))),
    ...secrets.flatMap((each) => rareForms(each.reveal().trim(), mark)).map((form) => ({ name: ref, ...form })),
    ...asSent(credential, mark).map((form) => ({ name: ref, ...form })),
  ];
  // The space around a value is not what tells it from other text, and on its way it may get lost.
  const isSure = !secrets.some((each) => Remasker.tooShort(new Secret(each.reveal().trim())));
  return { set: new ReplacementSet([...list, ...list.flatMap(inUtf16)]), isSure };
}

/** A whole answer can be in it, in either order of the bytes, whatever spelling is in there. */
function inUtf16({ name, find, put }: Replacement): readonly Replacement[] {
  if (!isUtf8(find)) return [];
  const [text, mark] = [find.toString(), put.toString()];
  const little = { name, find: Buffer.from(text, 'utf16le'), put: Buffer.from(mark, 'utf16le') };
  return [little, { name, find: Buffer.from(little.find).swap16(), put: Buffer.from(little.put).swap16() }];
}

function passwordOf(location: CredentialLocation, secret: Secret): readonly Secret[] {
  if (location.kind !== 'basic' || location.user !== undefined) return [];
  const value = secret.reveal();
  return [new Secret(value.slice(value.indexOf(':') + 1))];
}

type Found = Omit<Replacement, 'name'>;

/** Spellings of hosts and shouted names (case), of a header's bytes (latin1), and with escapes for what needs none. */
function rareForms(value: string, mark: string): readonly Found[] {
  if (Buffer.byteLength(value) < SHORTEST_FORM) return [];
  const upper = Buffer.from(value).reduce((text, byte) => `${text}%${byte.toString(16).toUpperCase().padStart(2, '0')}`, '');
  return [
    ...[upper, upper.toLowerCase(), value.toUpperCase(), value.toLowerCase()].map((text) => ({
      find: Buffer.from(text),
      put: Buffer.from(mark),
    })),
    ...(/[\x80-\xff]/.test(value) && /^[\0-\xff]*$/.test(value) ? [{ find: Buffer.from(value, 'latin1'), put: Buffer.from(mark) }] : []),
  ].filter(({ find }) => find.length >= SHORTEST_FORM);
}

/** With what stands around it: base64 of both user and password has no seam, and a short value is searched for in no other way. */
function asSent(credential: Credential, mark: string): readonly Found[] {
  const { location, secret } = credential;
  const value = secret.reveal();
  const sent = inject(credential);
  switch (location.kind) {
    case 'header':
      return location.prefix === '' ? [] : formsOf(`${location.prefix} ${value}`, `${location.prefix} ${mark}`);
    case 'query':
      return [
        ...formsOf(`${location.name}=${value}`, `${location.name}=${mark}`),
        ...(sent.kind === 'query' ? literal(sent.parameter, `${location.name}=${mark}`) : []),
      ];
    case 'basic':
      return [
        ...formsOf(userAndPassword(location.user, value), location.user === undefined ? mark : `${location.user}:${mark}`),
        ...(sent.kind === 'header' ? literal(sent.value, `Basic ${mark}`) : []),
      ];
  }
}

/** With a name in front even a few bytes are not found where nobody wrote them. */
function literal(sent: string, put: string): readonly Found[] {
  return sent.length < SHORTEST_SENT ? [] : [{ find: Buffer.from(sent), put: Buffer.from(put) }];
}

/** What a search can find at all. */
const SHORTEST_SENT = 4;
