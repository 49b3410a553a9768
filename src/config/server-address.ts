// The address of a kz server, as its clients write it. One rule for `kz validate` and for whoever sends a JWT there: never in the clear to another
// machine.
import { isLoopbackHost } from '../core/address.ts';

/** What is wrong with it, in words that go on from its name. */
interface AddressProblem {
  readonly problem: string;
  readonly hint: string;
  /** Undefined: nobody can say which server is meant. */
  readonly url?: URL;
}

/** Without user, query and fragment, ending with a slash. */
export function parseServerAddress(text: string): URL | AddressProblem {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    return { problem: 'is no http or https URL', hint: 'write it as `https://kz.internal`' };
  }
  // Who reads errors should not read a password.
  const clean = new URL(url.origin + url.pathname);
  if (!clean.pathname.endsWith('/')) clean.pathname += '/';
  if (clean.protocol === 'https:' || isLoopbackHost(clean.hostname)) return clean;
  return { problem: 'would be sent a JWT in the clear', hint: 'write `https://`; http is for this machine only', url: clean };
}
