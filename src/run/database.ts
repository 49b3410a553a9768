// Values that a client of a database or a broker takes apart: it speaks no HTTP, so kz does not see the token in what it sends, and the server
// gets the token for a password.
import type { Declaration } from '../config/load.ts';
import { namesDatabase, namesHttp } from '../core/database-scheme.ts';
import type { Secret } from '../core/secret.ts';

export function isForDatabase(secret: Secret): boolean {
  return isDatabaseUrl(secret.reveal());
}

/** The key that tells it before the value is read. */
export function databaseKey({ template, starts_with: start }: Declaration): 'template' | 'starts_with' | undefined {
  if (template !== undefined) return isDatabaseUrl(template) ? 'template' : undefined;
  return start !== undefined && isDatabaseUrl(start) ? 'starts_with' : undefined;
}

/** For a sentence that starts with the secret's name. */
export const FOR_DATABASE = 'is for a database, where tokens are not swapped; set expose = true, or run without --blind';

/** By its scheme. What goes over HTTP all the same is none. */
function isDatabaseUrl(text: string): boolean {
  const [, scheme] = /^(?:jdbc:)?([a-z][a-z0-9+.-]{0,30}):\/\//i.exec(text) ?? [];
  return scheme !== undefined && namesDatabase(scheme) && !namesHttp(scheme);
}
