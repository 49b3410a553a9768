// The values of one blind run as they are now. A rotated one takes over the tokens that the child already has, so the child notices nothing;
// the old value is still looked for in what comes back. Refuses a value that would change more than itself: where it may go, or what the child
// can see of it.
import type { Config } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import { Guard, type Guarded } from '../mask/guard.ts';
import { Remasker, type Masked } from '../mask/remask.ts';
import { TokenTable } from '../mask/table.ts';
import type { Rule } from '../policy/rule.ts';
import type { Consumer, NotAdopted } from '../providers/renew-event.ts';
import type { SetSecret } from '../providers/secrets.ts';
import { blindSecret, type BlindSecrets, type Given } from './blind-secrets.ts';

/** Of one secret. Beyond them the oldest is forgotten: nobody answers with a value from last week. */
const OLD_VALUES = 16;

export class LiveSecrets implements Consumer {
  readonly table: TokenTable;
  /** Knows what is new by itself. */
  readonly remasker: Remasker;
  readonly #config: Config;
  readonly #rules: readonly Rule[];
  readonly #given: Map<string, Given>;
  readonly #old = new Map<string, readonly Given[]>();
  #guard: Guard;

  constructor({ tokens, given, guarded }: Pick<BlindSecrets, 'tokens' | 'given' | 'guarded'>, config: Config, rules: readonly Rule[]) {
    this.#config = config;
    this.#rules = rules;
    this.#given = new Map(given.map((each) => [each.guarded.name, each]));
    this.table = new TokenTable(tokens);
    this.remasker = new Remasker(tokens);
    this.#guard = new Guard(guarded);
  }

  get guard(): Guard {
    return this.#guard;
  }

  /** An exposed value is the child's own; nobody can change it there. */
  uses(name: string): boolean {
    return (this.#given.get(name)?.tokens.length ?? 0) > 0;
  }

  adopt(changes: readonly SetSecret[]): readonly NotAdopted[] {
    const refused = changes.flatMap((each) => {
      const why = this.#take(each);
      return why === undefined ? [] : [{ name: each.name, why }];
    });
    this.remasker.update([...this.table.entries, ...this.#oldTokens()]);
    this.#guard = new Guard([...this.#given.values()].map((each) => this.#guarded(each)));
    return refused;
  }

  expire(names: readonly string[]): void {
    for (const name of names) this.table.expire(name);
  }

  /** Why not; undefined when it is done. */
  #take(each: SetSecret): string | undefined {
    const before = this.#given.get(each.name);
    if (before === undefined) return 'is new';
    const next = this.#blind(each);
    if (typeof next === 'string') return next;
    const why = difference(before, next);
    if (why !== undefined) return why;
    this.#old.set(each.name, [before, ...(this.#old.get(each.name) ?? [])].slice(0, OLD_VALUES));
    // The new value behind the tokens of old.
    const tokens = before.tokens.map((entry, index) => ({ ...entry, secret: next.tokens[index]?.secret ?? entry.secret }));
    this.#given.set(each.name, { ...next, text: before.text ?? '', tokens });
    for (const { token, secret } of tokens) this.table.rotate(token, secret);
    return undefined;
  }

  #blind(each: SetSecret): Given | string {
    try {
      return blindSecret(each, this.#config, this.#rules);
    } catch (error) {
      if (error instanceof KzError) return error.message.replace(`${each.name}: `, '').replace(`${each.name} `, '');
      throw error;
    }
  }

  #oldTokens(): Masked[] {
    return [...this.#old.values()].flat().flatMap(({ tokens }) => tokens);
  }

  #guarded({ guarded }: Given): Guarded {
    const old = (this.#old.get(guarded.name) ?? []).flatMap((each): readonly Secret[] => [
      each.guarded.secret,
      ...(each.guarded.parts ?? []),
    ]);
    return { ...guarded, parts: [...(guarded.parts ?? []), ...old] };
  }
}

/** What the program was told when it started must stay true. */
function difference(before: Given, next: Given): string | undefined {
  const scopeOf = ({ guarded }: Given): string => JSON.stringify([guarded.scope.from, guarded.scope.patterns]);
  if (scopeOf(before) !== scopeOf(next)) return 'has a new value that would go to other hosts; restart the program to use it';
  if (before.clear !== next.clear || before.tokens.length !== next.tokens.length) {
    return 'has a new value that differs in what the program can see of it; restart the program to use it';
  }
  return undefined;
}
