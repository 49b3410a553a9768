// Values that a client of a database or a broker takes apart: it speaks no HTTP, so kz does not see the token in what it sends, and the server
// gets the token for a password.
import type { Declaration } from '../config/load.ts';
import type { Secret } from '../core/secret.ts';

const DATABASES = new Set([
  ...['postgres', 'postgresql', 'mysql', 'mariadb', 'mssql', 'sqlserver', 'oracle', 'cockroachdb', 'mongodb'],
  ...['redis', 'rediss', 'valkey', 'valkeys', 'amqp', 'amqps', 'nats', 'kafka'],
]);

export function isForDatabase(secret: Secret): boolean {
  return namesDatabase(secret.reveal());
}

/** The key that tells it before the value is read. */
export function databaseKey({ template, starts_with: start }: Declaration): 'template' | 'starts_with' | undefined {
  if (template !== undefined) return namesDatabase(template) ? 'template' : undefined;
  return start !== undefined && namesDatabase(start) ? 'starts_with' : undefined;
}

/** For a sentence that starts with the secret's name. */
export const FOR_DATABASE = 'is for a database, where tokens are not swapped; set expose = true, or run without --blind';

/** By its scheme: `postgresql+asyncpg://`, `mongodb+srv://` and `jdbc:mysql://` too. What goes over HTTP all the same is none. */
function namesDatabase(text: string): boolean {
  const [, scheme] = /^(?:jdbc:)?([a-z][a-z0-9+.-]{0,30}):\/\//i.exec(text) ?? [];
  const parts = scheme?.toLowerCase().split(/[^a-z0-9]/) ?? [];
  return parts.some((part) => DATABASES.has(part)) && !parts.some((part) => part === 'http' || part === 'https');
}
