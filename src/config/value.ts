// Does a value have the shape that its declaration asks for? Answers never contain any part of the value.
import { runInNewContext } from 'node:vm';
import type { SecretEntry } from './schema.ts';

type Shape = Pick<SecretEntry, 'type' | 'min_length' | 'max_length' | 'starts_with' | 'pattern' | 'one_of'>;

/** RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.2: 64 for the local part, 255 for the domain. */
const LONGEST_EMAIL = 320;
const EMAIL = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const PEM = /^-----BEGIN ([A-Z0-9 ]+)-----\r?\n[\s\S]+\r?\n-----END \1-----\s*$/;

/** What is wrong with the value, each as the end of a sentence that starts with its name: `has 3 characters, fewer than min_length = 16`. */
export function valueProblems(value: string, shape: Shape): string[] {
  const { type, starts_with: prefix, pattern, one_of: choices } = shape;
  const problems = lengthProblems(Array.from(value).length, shape);
  if (prefix !== undefined && !value.startsWith(prefix)) problems.push(`does not start with ${JSON.stringify(prefix)}`);
  if (pattern !== undefined) problems.push(...patternProblems(value, pattern));
  if (choices !== undefined && !choices.includes(value)) problems.push('is none of the values in one_of');
  if (type !== undefined && !hasType(value, type)) problems.push(`is not of type ${type}`);
  return problems;
}

/** A pattern such as `(a+)+` can take years to fail, and nothing but V8 itself can stop it. */
const PATTERN_TIMEOUT_MS = 250;

function patternProblems(value: string, pattern: string): string[] {
  const facts = { source: `^(?:${pattern})$`, value };
  try {
    return runInNewContext('new RegExp(source, "u").test(value)', facts, { timeout: PATTERN_TIMEOUT_MS }) === true
      ? []
      : ['does not match its pattern'];
  } catch (error) {
    // Thrown by another context, so it is no instance of this one’s Error.
    const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
    if (code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    return ['cannot be checked: its pattern takes too long'];
  }
}

function lengthProblems(length: number, { min_length: least, max_length: most }: Shape): string[] {
  const problems: string[] = [];
  if (least !== undefined && length < least) problems.push(`has ${String(length)} characters, fewer than min_length = ${String(least)}`);
  if (most !== undefined && length > most) problems.push(`has ${String(length)} characters, more than max_length = ${String(most)}`);
  return problems;
}

function hasType(value: string, type: NonNullable<SecretEntry['type']>): boolean {
  switch (type) {
    case 'url':
      return /^[a-z][a-z0-9+.-]*:\/\/\S+$/i.test(value) && URL.canParse(value);
    case 'pem':
      return PEM.test(value);
    case 'json':
      return isJson(value);
    case 'email':
      return value.length <= LONGEST_EMAIL && EMAIL.test(value);
    case 'uuid':
      return UUID.test(value);
    case 'int':
      return /^[+-]?\d+$/.test(value);
    case 'base64':
      return value !== '' && BASE64.test(value);
  }
}

function isJson(value: string): boolean {
  try {
    JSON.parse(value);
    return true;
  } catch {
    return false;
  }
}
