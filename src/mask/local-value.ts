// Values that a program works with itself and never sends: a masked token in their place only makes it fail in a way that nobody understands.
import type { Secret } from '../core/secret.ts';

const KINDS: readonly (readonly [what: string, shape: RegExp])[] = [
  ['a private key', /-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----/],
  ['a certificate', /-----BEGIN CERTIFICATE-----/],
  ['a service account with its private key', /"private_key"\s*:\s*"-----BEGIN/],
  ['an age identity', /^AGE-SECRET-KEY-1/m],
];

/** What the value is, as the end of a sentence, or undefined when it is one that is sent. */
export function localKind(secret: Secret): string | undefined {
  const value = secret.reveal();
  return KINDS.find(([, shape]) => shape.test(value))?.[0];
}
