// Edits of `.keyzero.toml` that leave everything else as its author wrote it. Pure text to text. Every result is parsed again, and
// refused unless it differs from the original in that one entry only.
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { KzError } from '../core/errors.ts';
import { FILE_KEYS } from './file-keys.ts';
import { insertTomlTable, removeTomlValue, setTomlValue, tomlKey, tomlString, type TomlPath } from './toml-text.ts';

export type EntryValue = string | number | boolean | readonly string[];

/** One secret's declaration: `provider`, `ref` and what else the schema allows. */
export type EntryFields = Readonly<Record<string, EntryValue>>;

export interface SecretAddress {
  /** The table `[<environment>.secrets]`; `[secrets]` when left out. */
  readonly environment?: string | undefined;
  readonly name: string;
}

type Table = Record<string, unknown>;

/**
 * Adds the entry at the end of its table, which is created when missing, or changes the fields that differ in an existing one, in
 * whatever form it is written. Throws `config-syntax` when the text is not TOML, `config-invalid` when a table's name is taken by a
 * value, and `write-failed` when the result would not say exactly what was asked.
 */
export function setSecret(source: string, { environment, name, entry }: SecretAddress & { readonly entry: EntryFields }): string {
  const table = tablePath(environment);
  const path = [...table, name];
  const document = readToml(() => parse(source));
  requireTables(document, table);
  const current = valueAt(document, path);
  const edited = readToml(() =>
    isTable(current) ? setFields(source, path, current, entry) : setTomlValue(source, path, inlineTable(entry)),
  );
  verify(source, edited, table, { name, entry });
  return edited;
}

/** Undefined when there is no such entry. Comments above it and its table stay. Throws as `setSecret` does. */
export function removeSecret(source: string, { environment, name }: SecretAddress): string | undefined {
  const table = tablePath(environment);
  const path = [...table, name];
  const document = readToml(() => parse(source));
  if (valueAt(document, path) === undefined) return undefined;
  const edited = readToml(() => {
    const text = removeTomlValue(source, path);
    // An empty `[production.secrets]` still declares an environment.
    return valueAt(parse(text), table) === undefined ? insertTomlTable(text, table) : text;
  });
  verify(source, edited, table, { name });
  return edited;
}

function tablePath(environment: string | undefined): readonly string[] {
  if (environment === undefined) return ['secrets'];
  if ((FILE_KEYS as readonly string[]).includes(environment)) {
    throw new KzError('usage', `${JSON.stringify(environment)} cannot be an environment: it is a table of its own in the config`);
  }
  return [environment, 'secrets'];
}

function readToml<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new KzError('config-syntax', 'cannot edit a config that is not valid TOML', { cause: error, hint: 'run `kz validate`' });
  }
}

function requireTables(document: Table, path: readonly string[]): void {
  for (let length = 1; length <= path.length; length++) {
    const value = valueAt(document, path.slice(0, length));
    if (value === undefined || isTable(value)) continue;
    throw new KzError('config-invalid', `cannot add a secret: ${tomlKey(path.slice(0, length))} is not a table`);
  }
}

function setFields(source: string, path: TomlPath, current: Table, entry: EntryFields): string {
  let text = source;
  for (const [field, value] of Object.entries(entry)) {
    if (!Object.hasOwn(current, field) || !isDeepStrictEqual(current[field], value))
      text = setTomlValue(text, [...path, field], toml(value));
  }
  // Last, so that an entry of dotted keys is never without one.
  for (const field of Object.keys(current)) {
    if (!Object.hasOwn(entry, field)) text = removeTomlValue(text, [...path, field]);
  }
  return text;
}

function toml(value: EntryValue): string {
  if (typeof value === 'string') return tomlString(value);
  return typeof value === 'object' ? `[${value.map(tomlString).join(', ')}]` : String(value);
}

function inlineTable(entry: EntryFields): string {
  const members = Object.entries(entry).map(([field, value]) => `${tomlKey([field])} = ${toml(value)}`);
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`;
}

function valueAt(document: Table, path: TomlPath): unknown {
  let value: unknown = document;
  for (const part of path) {
    if (!isTable(value) || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Parsed again: the entry says what was asked (or is gone), and without it both texts say the same. */
function verify(before: string, after: string, table: readonly string[], { name, entry }: { name: string; entry?: EntryFields }): void {
  const cause = failure(() => {
    const written = valueAt(parse(after), [...table, name]);
    const isAsAsked = entry === undefined ? written === undefined : isTable(written) && isDeepStrictEqual({ ...written }, { ...entry });
    return isAsAsked && isDeepStrictEqual(withoutEntry(before, table, name), withoutEntry(after, table, name));
  });
  if (cause === undefined) return;
  const hint =
    entry === undefined
      ? `delete it from [${tomlKey(table)}] by hand`
      : `add to [${tomlKey(table)}] by hand: ${tomlKey([name])} = ${inlineTable(entry)}`;
  const what = entry === undefined ? 'remove' : 'write';
  throw new KzError('write-failed', `cannot ${what} ${name} without changing anything else in the config`, { hint, ...cause });
}

function failure(holds: () => boolean): { cause?: unknown } | undefined {
  try {
    return holds() ? undefined : {};
  } catch (cause) {
    return { cause };
  }
}

function withoutEntry(text: string, path: readonly string[], name: string): Table {
  const document: Table = parse(text);
  let table = document;
  for (const key of path) {
    const inner = table[key];
    if (isTable(inner)) table = inner;
    else table = table[key] = Object.create(null) as Table;
  }
  Reflect.deleteProperty(table, name);
  return document;
}
