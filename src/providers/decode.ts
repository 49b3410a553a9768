// From what a provider holds to the value that a program wants: decoded, one field of it, or a template filled from its fields.
import type { Declaration } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import { parseDocument, selectKey, type Document } from './document.ts';

type Encoded = Pick<Declaration, 'name' | 'ref' | 'encoding' | 'json_key' | 'template'>;

/** Undefined when the document has no such field. Throws `secret-invalid`, never with a part of the value. */
export async function decode(declaration: Encoded, raw: string): Promise<string | undefined> {
  const { name, encoding, json_key: key, template, ref } = declaration;
  const text = encoding === 'base64' ? fromBase64(name, raw) : raw;
  if (template === undefined && key === undefined) return text;
  const document = await parseDocument(text, 'json', `${name} (ref: ${ref})`);
  return template === undefined ? selectKey(document, key ?? '') : fill(name, template, document);
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
function fill(name: string, template: string, document: Document): string {
  return template.replace(/\{\{|\}\}|\{([^{}]*)\}/g, (match, field: string | undefined) => {
    if (field === undefined) return match.slice(1);
    const value = selectKey(document, field);
    if (value === undefined)
      throw new KzError('secret-invalid', `${name}: the provider returned no field ${JSON.stringify(field)} for its template`);
    return value;
  });
}
