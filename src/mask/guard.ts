// Real values in what the child sends: it has those of secrets that are exposed, and may have found others elsewhere. A value that goes to a
// host outside its secret's scope stops the request.
import type { Secret } from '../core/secret.ts';
import { Remasker } from './remask.ts';
import type { Scope } from './scope.ts';

export interface Guarded {
  readonly name: string;
  readonly secret: Secret;
  /** What of the value is sent by itself: the password of a URL. */
  readonly parts?: readonly Secret[];
  readonly scope: Scope;
}

export class Guard {
  readonly #guarded: ReadonlyMap<string, Guarded>;
  readonly #finder: Remasker;

  constructor(list: readonly Guarded[]) {
    this.#guarded = new Map(list.map((guarded) => [guarded.name, guarded]));
    this.#finder = new Remasker(
      list.flatMap(({ name, secret, parts = [] }) => [secret, ...parts].map((each) => ({ name, secret: each, token: `[${name}]` }))),
    );
  }

  /** Is any value in `text`? */
  holds(text: string): boolean {
    return this.#finder.namesIn(Buffer.from(text, 'utf8').toString('latin1')).length > 0;
  }

  /** The name of a secret whose value is in `text` (latin1, as of an HTTP head) and may not go to this host. */
  trespasser(text: string, host: string, port: number): string | undefined {
    if (this.#finder.isEmpty) return undefined;
    return this.#outOfScope(this.#finder.namesIn(text), host, port);
  }

  /** The same for a whole body. */
  trespasserIn(bytes: Buffer, host: string, port: number): string | undefined {
    if (this.#finder.isEmpty) return undefined;
    const search = this.#finder.stream();
    search.push(bytes);
    search.end();
    return this.#outOfScope([...search.found], host, port);
  }

  scopeOf(name: string): Scope | undefined {
    return this.#guarded.get(name)?.scope;
  }

  /** `text` with the name in place of every value: for what is written down. */
  masked(text: string): string {
    return this.#finder.text(text);
  }

  /** Two secrets may have the same value: it may go where any of them may. */
  #outOfScope(names: readonly string[], host: string, port: number): string | undefined {
    const first = names.find((name) => !this.#covers(name, host, port));
    if (first === undefined) return undefined;
    const twins = names.filter((name) => this.#isTwin(name, first));
    return twins.some((name) => this.#covers(name, host, port)) ? this.#outOfScope(without(names, twins), host, port) : first;
  }

  #isTwin(name: string, other: string): boolean {
    const mine = values(this.#guarded.get(name));
    return values(this.#guarded.get(other)).some((secret) => mine.some((own) => own.equals(secret)));
  }

  #covers(name: string, host: string, port: number): boolean {
    return this.#guarded.get(name)?.scope.covers(host, port) === true;
  }
}

function values(guarded: Guarded | undefined): readonly Secret[] {
  return guarded === undefined ? [] : [guarded.secret, ...(guarded.parts ?? [])];
}

function without(names: readonly string[], some: readonly string[]): string[] {
  return names.filter((name) => !some.includes(name));
}
