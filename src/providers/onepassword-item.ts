// Items as `op item get --format json` prints them and `op item edit` takes them back. Everything that is not the field in question stays
// as it came: what a template leaves out is deleted.
import { KzError } from '../core/errors.ts';
import { isRecord } from '../core/record.ts';
import { sameName, type OpRef } from './onepassword-ref.ts';

type Json = Readonly<Record<string, unknown>>;

/** Throws `provider-failed` when it is no item. */
export function parseItem(text: string): Json {
  try {
    const item: unknown = JSON.parse(text);
    if (isRecord(item)) return item;
  } catch {
    // Told below, without what it was.
  }
  throw new KzError('provider-failed', 'what op printed is not an item in JSON', { hint: 'run `op update`' });
}

/** The names of its fields, for suggestions. */
export function fieldNames(item: Json): string[] {
  return fieldsOf(item).flatMap(({ label }) => (typeof label === 'string' ? [label] : []));
}

/** Its fields that have a value, by label; of two that share one, the second is called `section.label`. */
export function itemDocument(item: Json): string {
  const values = new Map<string, string>();
  for (const { label, value, section } of fieldsOf(item)) {
    if (typeof label !== 'string' || typeof value !== 'string' || value === '') continue;
    const place = isRecord(section) && typeof section.label === 'string' ? `${section.label}.${label}` : undefined;
    const name = values.has(label) ? place : label;
    if (name !== undefined) values.set(name, value);
  }
  return JSON.stringify(Object.fromEntries(values));
}

/** The item with this value in the ref's field, which is added when it is not there. Throws `ref-invalid` when it cannot be written. */
export function withValue(item: Json, ref: OpRef, value: string): Json {
  const fields = fieldsOf(item);
  const found = fields.filter((field) => isField(field, ref));
  const refuse = (problem: string): KzError =>
    new KzError('ref-invalid', `cannot write ${JSON.stringify(ref.text)}: ${problem}`, { hint: 'write it in the 1Password app' });
  if (found.length > 1) throw refuse('the item has several fields of this name');
  const [target] = found;
  if (target === undefined) return withNewField(item, ref, value);
  if (typeof target.type === 'string' && !WRITABLE.has(target.type)) throw refuse('the field is of a kind that kz does not write');
  return { ...item, fields: fields.map((field) => (field === target ? { ...field, value } : field)) };
}

/** An item of the category API Credential, with one concealed field. */
export function newItem(ref: OpRef, value: string): Json {
  return withNewField({ title: ref.item, category: 'API_CREDENTIAL', fields: [] }, ref, value);
}

const WRITABLE = new Set(['STRING', 'CONCEALED', 'URL', 'EMAIL', 'PHONE', 'MONTH_YEAR', 'DATE', 'MENU', 'UNKNOWN']);

function withNewField(item: Json, { section, field = '' }: OpRef, value: string): Json {
  const sections = Array.isArray(item.sections) ? item.sections.filter(isRecord) : [];
  const known = sections.find((candidate) => section !== undefined && isNamed(candidate, section));
  const place = section === undefined ? undefined : (known ?? { id: section.toLowerCase().replaceAll(' ', '_'), label: section });
  return {
    ...item,
    ...(place === undefined || known !== undefined ? {} : { sections: [...sections, place] }),
    fields: [...fieldsOf(item), { ...(place === undefined ? {} : { section: place }), type: 'CONCEALED', label: field, value }],
  };
}

function fieldsOf(item: Json): Json[] {
  return Array.isArray(item.fields) ? item.fields.filter(isRecord) : [];
}

function isField(candidate: Json, { section, field = '' }: OpRef): boolean {
  if (!isNamed(candidate, field)) return false;
  return section === undefined || (isRecord(candidate.section) && isNamed(candidate.section, section));
}

function isNamed({ id, label }: Json, name: string): boolean {
  return id === name || (typeof label === 'string' && sameName(label, name));
}
