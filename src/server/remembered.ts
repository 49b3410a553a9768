// What the server remembers of callers and of tokens: never more than so many of them, whoever comes.
import type { Caller } from './identity/verify.ts';

/** One text for one caller: the name of an issuer has no NUL, whatever is in `sub`. */
export function callerKey({ issuer, sub }: Pick<Caller, 'issuer' | 'sub'>): string {
  return `${issuer}\0${sub}`;
}

/** As the latest of `entries`. What is over `most` goes: the one that was remembered longest ago. */
export function remember<T>(entries: Map<string, T>, key: string, value: T, most: number): void {
  entries.delete(key);
  entries.set(key, value);
  const [oldest] = entries.keys();
  if (entries.size > most && oldest !== undefined) entries.delete(oldest);
}
