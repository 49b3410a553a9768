// Masked tokens: what a blind child gets in place of a value. Random for each run, never derived from the value or its name. A URL keeps its
// shape, letter by letter; only what is secret in it is masked. Says nothing about where a token may be swapped back.
import { randomBytes } from 'node:crypto';
import { looksLikeSecretName, looksLikeSecretValue } from '../core/credential-shape.ts';
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { percentDecode, percentEncode, UNRESERVED } from './body-form.ts';
import { vendorOf, type Vendor } from './vendor.ts';

/** What every token that is not of shape `exact` holds, in front of its random part. */
export const MARK = 'kz_masked_';
export const RANDOM_CHARACTERS = 32;

export interface MintedPart {
  readonly token: string;
  /** What takes the token's place; for a part of a URL what a client decodes it to. */
  readonly secret: Secret;
}

export interface Minted {
  /** For the child: a token, or a URL that holds one or more. */
  readonly text: string;
  readonly parts: readonly MintedPart[];
  /** What of the value is no secret, with a NUL for each part: only a value with the same can take the same tokens. */
  readonly clear: string;
  /** The credential is made to be in a path (a webhook's URL, a Telegram bot's token): without slots of its own it needs `path`. */
  readonly inPath: boolean;
}

type Random = (bytes: number) => Buffer;

/** `secret-invalid`, without the secret's name, when `exact` would not leave enough that is random. */
export function mint(secret: Secret, shape?: 'exact' | 'plain', random: Random = randomBytes): Minted {
  const value = secret.reveal();
  const spots = secretSpots(value);
  const parts: MintedPart[] = [];
  let text = '';
  let clear = '';
  let end = 0;
  for (const spot of spots) {
    const decoded = percentDecode(value.slice(spot.start, spot.end));
    const token = tokenFor(decoded, shape, random);
    parts.push({ token, secret: new Secret(decoded) });
    text += value.slice(end, spot.start) + percentEncode(token, SAFE_IN_URL);
    clear += `${value.slice(end, spot.start)}\0`;
    end = spot.end;
  }
  const rest = value.slice(end);
  if (spots.length > 0) return { text: text + rest, parts, clear: clear + rest, inPath: spots.every(({ inPath }) => inPath) };
  const token = tokenFor(value, shape, random);
  return { text: token, parts: [{ token, secret }], clear: '\0', inPath: vendorOf(value)?.inPath ?? false };
}

/** What of a value is no secret: whose it is, and the hosts (`host`, `host:port`) that a URL-shaped one names. */
export function publicFacts(secret: Secret): PublicFacts {
  const value = secret.reveal();
  const hosts = URL_SHAPE.exec(value)?.groups?.hosts ?? '';
  return { vendor: vendorOf(value), hosts: hosts === '' ? [] : hosts.split(','), isClear: /^http:/i.test(value) };
}

export interface PublicFacts {
  readonly vendor: Vendor | undefined;
  readonly hosts: readonly string[];
  /** A URL that is asked for without TLS. */
  readonly isClear: boolean;
}

/** May not be sent in a header: CR, LF or NUL. Such values are refused before the child starts. */
export function isHeaderSafe(secret: Secret): boolean {
  return !/[\r\n\0]/.test(secret.reveal());
}

function tokenFor(value: string, shape: 'exact' | 'plain' | undefined, random: Random): string {
  if (shape === 'exact') return exactToken(value, random);
  const prefix = shape === 'plain' ? '' : (vendorOf(value)?.prefix ?? '');
  return prefix + MARK + random(RANDOM_CHARACTERS / 2).toString('hex');
}

/** With fewer random characters, a token could turn up in text that has nothing to do with it. */
const FEWEST_RANDOM = 16;
const CLASSES = ['0123456789', 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'];

function exactToken(value: string, random: Random): string {
  const prefix = vendorOf(value)?.prefix ?? '';
  const rest = value.slice(prefix.length);
  if (!/^[\x20-\x7e]*$/.test(rest)) throw new KzError('secret-invalid', 'shape "exact" takes printable ASCII only');
  const count = rest.match(/[A-Za-z0-9]/g)?.length ?? 0;
  if (count < FEWEST_RANDOM) {
    throw new KzError('secret-invalid', `shape "exact" needs ${String(FEWEST_RANDOM)} letters and digits to make random`);
  }
  // Programs that ask for hex digits get hex digits.
  const classes = /[g-z]/i.test(rest) ? CLASSES : CLASSES.map((alphabet) => alphabet.replace(/[g-z]/gi, ''));
  const numbers = random(count * 4);
  let next = 0;
  const masked = rest.replace(/[A-Za-z0-9]/g, (character) => {
    const alphabet = classes.find((candidate) => candidate.includes(character)) ?? character;
    return alphabet.charAt(numbers.readUInt32LE(4 * next++) % alphabet.length);
  });
  return prefix + masked;
}

interface Spot {
  readonly start: number;
  readonly end: number;
  readonly inPath: boolean;
}

/** Not what WHATWG says: drivers take several hosts, and a user or password with characters that a URL may not hold. */
const URL_SHAPE =
  /^(?<scheme>[a-z][a-z0-9+.-]{0,30}:\/\/)(?:(?<userinfo>[^\s/?#]*)@)?(?<hosts>[^\s/?#@]*)(?<path>\/[^\s?#]*)?(?<query>\?[^\s#]*)?(?:#\S*)?$/i;

/** Needed in a token of shape `exact`, which keeps the characters that a URL has to escape. */
const SAFE_IN_URL = UNRESERVED;

/** The places in a URL-shaped value that are secret, from left to right; none when it is no URL, or says nowhere where its secret is. */
function secretSpots(value: string): readonly Spot[] {
  const groups = URL_SHAPE.exec(value)?.groups;
  if (groups === undefined) return [];
  const { scheme = '', userinfo, hosts = '', path = '', query = '' } = groups;
  const atHosts = scheme.length + (userinfo === undefined ? 0 : userinfo.length + 1);
  const atPath = atHosts + hosts.length;
  const spots = [...userinfoSpots(userinfo ?? '', scheme), ...querySpots(query, atPath + path.length)];
  if (spots.length > 0 || !/^https?:/i.test(scheme)) return spots;
  return pathSpots(hosts, path, atPath);
}

function userinfoSpots(userinfo: string, scheme: string): readonly Spot[] {
  const offset = scheme.length;
  const colon = userinfo.indexOf(':');
  const user = colon === -1 ? userinfo : userinfo.slice(0, colon);
  const passwordAt = offset + user.length + 1;
  const end = offset + userinfo.length;
  const hasPassword = colon !== -1 && passwordAt < end;
  const spots: Spot[] = [];
  // `https://KEY:@host`: HTTP has no other use for a user without a password. Databases do.
  const isHttpKey = user !== '' && colon !== -1 && !hasPassword && /^https?:/i.test(scheme);
  if (isHttpKey || isKey(percentDecode(user), hasPassword)) spots.push({ start: offset, end: offset + user.length, inPath: false });
  if (hasPassword) spots.push({ start: passwordAt, end, inPath: false });
  return spots;
}

/** Beside a password, only what is a credential beyond doubt: databases make up users such as `v-token-readonly-8xK2…`. */
function isKey(user: string, hasPassword: boolean): boolean {
  const vendor = vendorOf(user);
  if (vendor !== undefined && user.length - vendor.prefix.length >= 16) return true;
  return hasPassword ? false : looksLikeSecretValue(user) || looksRandom(user, 16);
}

function querySpots(query: string, offset: number): readonly Spot[] {
  return [...query.matchAll(/[?&]([^?&=]*)=([^&]+)/g)].flatMap((match) => {
    const [whole, name = '', value = ''] = match;
    const end = offset + match.index + whole.length;
    return looksLikeSecretName(percentDecode(name)) || /^sig$/i.test(name) ? [{ start: end - value.length, end, inPath: false }] : [];
  });
}

/** A URL that is itself the credential: the last part of a webhook's path, else every part of a path that looks random. */
function pathSpots(hosts: string, path: string, offset: number): readonly Spot[] {
  const segments = [...path.matchAll(/[^/]+/g)].map(({ 0: text, index }) => ({
    text,
    start: offset + index,
    end: offset + index + text.length,
    inPath: true,
  }));
  if (/^hooks\./i.test(hosts) || /\/webhooks?\//i.test(path)) return segments.slice(-1);
  return segments.filter(({ text }) => looksLikeSecretValue(text) || looksRandom(text, 20));
}

/** Letters and digits that take turns as in no word: `sk8terboi` does so twice. */
function looksRandom(text: string, atLeast: number): boolean {
  if (text.length < atLeast || !/^[\w+/=~:-]+$/.test(text)) return false;
  return (text.match(/[A-Za-z](?=\d)|\d(?=[A-Za-z])/g)?.length ?? 0) >= 3;
}
