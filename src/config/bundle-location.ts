// Where in a request a credential goes: `header:Authorization:Bearer`, `query:key`, `basic:user`.
import { looksLikeSecretValue } from '../core/credential-shape.ts';
import type { CredentialLocation } from './bundle.ts';

const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/;
const PRINTABLE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;

/** They say where a message ends, where it goes, or how a connection is used: a credential in one of them would change the request itself. */
const OF_THE_CONNECTION =
  /^(?:host|content-length|transfer-encoding|connection|keep-alive|proxy-.*|te|upgrade|expect|trailer|http2-settings)$/i;

/** The prefix of `header:Authorization`, where nothing else is said. Every other header gets the bare value. */
const PREFIX_OF_AUTHORIZATION = 'Bearer';

export const DEFAULT_LOCATION: CredentialLocation = { kind: 'header', name: 'Authorization', prefix: PREFIX_OF_AUTHORIZATION };

/** The location, or what is wrong as the end of a sentence that starts with it. */
export function parseLocation(text: string): CredentialLocation | { readonly problem: string } {
  const [kind = '', name, ...rest] = text.split(':');
  switch (kind) {
    case 'header':
      return header(name, rest.length === 0 ? undefined : rest.join(':'));
    case 'query':
      return query(text.slice('query:'.length));
    case 'basic':
      return basic(name, rest.length > 0);
    default:
      return { problem: 'is none of header:NAME:PREFIX, header:NAME, query:NAME, basic:USER and basic' };
  }
}

function header(name = '', prefix?: string): CredentialLocation | { readonly problem: string } {
  if (!TOKEN.test(name)) return { problem: 'names no header' };
  if (OF_THE_CONNECTION.test(name)) return { problem: 'names a header that belongs to the connection' };
  if (prefix !== undefined && prefix !== '' && !PRINTABLE.test(prefix)) {
    return { problem: 'has a prefix that is not printable ASCII, or has a space at an end (the one before the value is added)' };
  }
  if (prefix !== undefined && looksLikeSecretValue(prefix)) return { problem: 'has a prefix that looks like the credential itself' };
  const implied = name.toLowerCase() === 'authorization' ? PREFIX_OF_AUTHORIZATION : '';
  return { kind: 'header', name, prefix: prefix ?? implied };
}

function query(name: string): CredentialLocation | { readonly problem: string } {
  return /^[^\s&=#?\p{Cc}]+$/u.test(name) ? { kind: 'query', name } : { problem: 'names no parameter of a query' };
}

function basic(user: string | undefined, hasMore: boolean): CredentialLocation | { readonly problem: string } {
  if (user === undefined) return { kind: 'basic' };
  if (hasMore || user === '' || /\p{Cc}/u.test(user)) {
    return { problem: 'names no user (`basic:USER`; the value is the password, which is never written here)' };
  }
  return { kind: 'basic', user };
}
