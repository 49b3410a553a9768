// From what a provider holds to the value that a program wants: decoded, one field of it, or a template filled from its fields.
import type { Declaration } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import { suggest } from '../core/suggest.ts';
import { parseDocument, selectKey, type Document } from './document.ts';

type Encoded = Pick<Declaration, 'name' | 'ref' | 'encoding' | 'json_key' | 'template'>;

/** Undefined when the document has no such field. Throws `secret-invalid`, never with a part of the value. */
export async function decode(declaration: Encoded, raw: string): Promise<string | undefined> {
  const { json_key: key, template, ref } = declaration;
  if (template === undefined && key === undefined) return decoded(declaration, raw);
  const document = await documentOf(declaration, raw);
  return template === undefined ? selectKey(document, key ?? '') : fill(template, document, ref);
}

/** The field that may be meant by the `json_key` that `decode` did not find. */
export async function nearestField(declaration: Encoded, raw: string): Promise<string | undefined> {
  return suggest(declaration.json_key ?? '', [...(await documentOf(declaration, raw)).keys()]);
}

function decoded({ name, encoding }: Encoded, raw: string): string {
  return encoding === 'base64' ? fromBase64(name, raw) : raw;
}

async function documentOf(declaration: Encoded, raw: string): Promise<Document> {
  return parseDocument(decoded(declaration, raw), 'json', `${declaration.name} (ref: ${declaration.ref})`);
}

function fromBase64(name: string, text: string): string {
  const compact = text.replace(/\s+/g, '');
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(compact)) throw new KzError('secret-invalid', `${name} is not base64, as its encoding says`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(compact, 'base64'));
  } catch (error) {
    throw new KzError('secret-invalid', `${name} is not text when decoded from base64`, { cause: error });
  }
}

/** `{field}` → the document's field; `{{` and `}}` stand for braces. */
function fill(template: string, document: Document, ref: string): string {
  return template.replace(/\{\{|\}\}|\{([^{}]*)\}/g, (match, field: string | undefined) => {
    if (field === undefined) return match.slice(1);
    const value = selectKey(document, field);
    if (value !== undefined) return value;
    const near = suggest(field, [...document.keys()]);
    throw new KzError('secret-invalid', `${ref} has no field ${JSON.stringify(field)} for its template`, {
      hint: near === undefined ? 'correct `template`, or add the field to the document' : `did you mean ${JSON.stringify(near)}?`,
    });
  });
}
