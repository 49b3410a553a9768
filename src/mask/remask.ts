// Response side of blind mode: real values, in every form that form.ts knows, become the masked tokens the child already has. A net,
// not a wall: a host that echoes a value in a form not listed there beats it. Values under 8 bytes, and values that are part of a
// token, are not searched for: replacing those would destroy text that gives nothing away. Also lists what redaction searches for.
import { looksLikeSecretValue } from '../core/credential-shape.ts';
import { Secret } from '../core/secret.ts';
import { credentialParts } from './credential-parts.ts';
import { formsOf, SHORTEST_FORM } from './form.ts';
import { mint } from './mint.ts';
import { Replacer, ReplacementSet, type Replacement } from './replace.ts';

export interface Masked {
  readonly name: string;
  readonly token: string;
  readonly secret: Secret;
}

export class Remasker {
  #set = new ReplacementSet([]);
  /** Replacement → names of all secrets with that value; a value under two names becomes the token of the first. */
  #names: readonly (readonly string[])[] = [];

  constructor(entries: readonly Masked[]) {
    this.update(entries);
  }

  /** From here on these count, also in the streams that are open: a server's events and a WebSocket outlive a rotation. */
  update(entries: readonly Masked[]): void {
    const found = formsOfAll(distinctValues(entries, (value) => !entries.some(({ token }) => token.includes(value))));
    this.#set = new ReplacementSet(found.map(({ replacement }) => replacement));
    this.#names = found.map(({ names }) => names);
  }

  /** Too short to be told from text that has nothing to do with it. */
  static tooShort(secret: Secret): boolean {
    return Buffer.byteLength(secret.reveal()) < SHORTEST_FORM;
  }

  get isEmpty(): boolean {
    return this.#set.isEmpty;
  }

  /** A header value or the like, whole, one character per byte; the same string when it holds no value. */
  text(latin1: string): string {
    const bytes = this.#worthSearching(latin1);
    if (bytes === undefined || this.#set.matcher.find(bytes) === undefined) return latin1;
    const replacer = this.stream();
    return Buffer.concat([replacer.push(bytes), replacer.end()]).toString('latin1');
  }

  /** Names of the secrets whose value occurs. One that occurs only inside a longer one is not named, one that overlaps another is. */
  namesIn(latin1: string): readonly string[] {
    const bytes = this.#worthSearching(latin1);
    if (bytes === undefined) return [];
    const names = new Set<string>();
    const { matcher } = this.#set;
    let covered = 0;
    for (let match = matcher.find(bytes); match !== undefined; match = matcher.find(bytes, match.start + 1)) {
      if (match.end <= covered) continue;
      covered = match.end;
      for (const name of this.#names[match.pattern] ?? []) names.add(name);
    }
    return [...names];
  }

  stream(options?: { readonly sameLength?: boolean }): Replacer {
    return new Replacer(() => this.#set, options);
  }

  #worthSearching(latin1: string): Buffer | undefined {
    if (this.isEmpty || latin1.length < this.#set.matcher.shortest) return undefined;
    return Buffer.from(latin1, 'latin1');
  }
}

/**
 * For output in which nothing is swapped back: `[redacted:NAME]` in place of each value, and of what gives a value away by itself. The space
 * around a value is no part of it: often it is a file's last newline, and the line that the value is printed in needs its own.
 */
export function redactionsOf(list: readonly Pick<Masked, 'name' | 'secret'>[]): readonly Replacement[] {
  const masked = (name: string, secret: Secret): Masked => ({ name, secret, token: `[redacted:${name}]` });
  const whole = list.map(({ name, secret }) => masked(name, trimmed(secret)));
  const parts = whole.flatMap(({ name, secret }) => partsOf(secret).map((part) => masked(name, part)));
  // The values themselves first: the password of one secret may be another secret, with a better name.
  return formsOfAll(distinctValues([...whole, ...parts], () => true)).map(({ replacement }) => replacement);
}

function trimmed(secret: Secret): Secret {
  const short = new Secret(secret.reveal().trim());
  return Remasker.tooShort(short) ? secret : short;
}

function partsOf(secret: Secret): readonly Secret[] {
  const value = secret.reveal();
  const minted = mint(secret).parts.flatMap((part) => (part.secret.equals(secret) ? [] : [part.secret]));
  // As it is written in the URL a password is one of its spellings, and gets its mark in that spelling, unless nobody else writes it so.
  const spelled = new Set(minted.flatMap((part) => formsOf(part.reveal(), '').map(({ find }) => find.toString())));
  const others = credentialParts(value).flatMap((text) => (spelled.has(text) ? [] : [new Secret(text)]));
  return [...minted, ...others].filter((part) => !isWordOf(value, part.reveal()));
}

/** `postgres://postgres:postgres@localhost/postgres`: such a password is no secret, and every other line of output has it. */
function isWordOf(url: string, part: string): boolean {
  return url.split(/[^\w.-]+/).filter((word) => word === part).length > 1 && !looksLikeSecretValue(part);
}

interface DistinctValue {
  readonly value: string;
  readonly token: string;
  readonly names: string[];
}

function distinctValues(entries: readonly Masked[], isSearchedFor: (value: string) => boolean): readonly DistinctValue[] {
  const values = new Map<string, DistinctValue>();
  for (const { name, token, secret } of entries) {
    const value = secret.reveal();
    const known = values.get(value);
    if (known !== undefined) known.names.push(name);
    else if (!Remasker.tooShort(secret) && isSearchedFor(value)) values.set(value, { value, token, names: [name] });
  }
  return [...values.values()];
}

interface NamedForm {
  readonly names: readonly string[];
  readonly replacement: Replacement;
}

/** The values themselves first: one that is the encoded form of another becomes its own token. */
function formsOfAll(values: readonly DistinctValue[]): readonly NamedForm[] {
  return values
    .flatMap(({ names, token, value }) =>
      formsOf(value, token).map((form, order) => ({ names, order, replacement: { name: names[0] ?? '', ...form } })),
    )
    .sort((a, b) => Number(a.order > 0) - Number(b.order > 0));
}
