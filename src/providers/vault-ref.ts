// A ref into Vault: `mount/path#field`, with `?version=3` for an older version. Refuses Vault's own paths: what kz is logged in with must not
// become a value.
import { KzError } from '../core/errors.ts';
import type { Ref } from './provider.ts';

export interface VaultRef {
  /** Without a slash at either end; segments are as the user wrote them, not encoded. */
  readonly path: string;
  readonly field?: string | undefined;
  readonly version?: number | undefined;
}

/** A version of what one path has. */
export type VaultPath = Omit<VaultRef, 'field'>;

const OWN_PATHS = ['auth', 'sys'];

/** Throws `ref-invalid`. Where the mount ends and the path begins only the server knows. */
export function parseVaultRef({ text }: Ref): VaultRef {
  const invalid = (problem: string, hint = 'write it as `mount/path#field`'): KzError =>
    new KzError('ref-invalid', `vault ref ${JSON.stringify(text)} ${problem}`, { hint });
  const hash = text.lastIndexOf('#');
  const [location, field] = hash === -1 ? [text, undefined] : [text.slice(0, hash), text.slice(hash + 1)];
  const [, path = '', , query] = /^\/?([^?]*)(\?(.*))?$/s.exec(location) ?? [];
  const problem = /\p{Cc}/u.test(text) ? 'holds control characters' : field === '' ? 'names no field behind the #' : pathProblem(path);
  if (problem !== undefined) throw invalid(problem);
  if (query === undefined) return { path, field };
  const version = /^version=([1-9]\d{0,8})$/.exec(query)?.[1];
  if (version === undefined) throw invalid('has something behind the ? that is not a version', 'write `?version=3`');
  return { path, field, version: Number(version) };
}

function pathProblem(path: string): string | undefined {
  const segments = path.split('/');
  // A URL would leave these out, and another path would be asked for.
  if (segments.some((segment) => ['', '.', '..'].includes(segment))) return 'has an empty, `.` or `..` segment';
  if (segments.length < 2) return 'names a mount, and no path in it';
  if (OWN_PATHS.includes(segments[0] ?? '')) return 'is one of Vault’s own paths, which hold no secrets of yours';
  return undefined;
}

/** For a URL. The segments stay apart, and none of them can become more than one. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}
