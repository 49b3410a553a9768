// A config as nearly everybody writes it, recognised without zod: building the schema takes a fifth of a start. Says yes only to what the
// schema accepts unchanged (test/config/plain.test.ts holds it to that); whatever it does not know goes to the schema.
import { PROVIDER_NAMES } from './provider-names.ts';
import type { SecretEntry } from './schema.ts';

export interface PlainTable {
  secrets?: Record<string, SecretEntry>;
}

/** A table that holds nothing but `secrets`, and in it nothing but the usual keys. */
export function isPlainTable(table: unknown): table is PlainTable {
  if (!isTable(table)) return false;
  return Object.entries(table).every(
    ([key, secrets]) => key === 'secrets' && isTable(secrets) && Object.entries(secrets).every(isPlainEntry),
  );
}

function isPlainEntry([name, entry]: [string, unknown]): boolean {
  if (name === '__proto__' || !isTable(entry) || entry.provider === undefined || entry.ref === undefined) return false;
  return Object.entries(entry).every(([key, value]) => USUAL_KEYS.get(key)?.(value) === true);
}

const isAnyText = (value: unknown): boolean => typeof value === 'string';
const isText = (value: unknown): boolean => typeof value === 'string' && value !== '';
const isCount = (value: unknown): boolean => typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 1_048_576;

const USUAL_KEYS = new Map<string, (value: unknown) => boolean>([
  ['provider', (value) => PROVIDER_NAMES.some((name) => name === value)],
  ['ref', isText],
  ['required', (value) => typeof value === 'boolean'],
  ['default', isAnyText],
  ['description', isAnyText],
  ['min_length', isCount],
  ['max_length', isCount],
  ['starts_with', isText],
  ['json_key', isText],
  ['template', isText],
]);

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
