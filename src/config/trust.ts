// Which configurations the shell hook may load. Entering a folder must not be enough to run what its config names (`exec`), so a person
// trusts each version of a config once; a changed file has to be trusted again.
import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import type { SourceFile } from './load.ts';

const TRUST_FILE = 'trusted';

/** The user's own configuration is trusted by being there. */
export function isTrusted(files: readonly SourceFile[], userDirectory: string): boolean {
  const trusted = new Set(readTrusted(userDirectory));
  return files.filter((file) => file.layer !== 'user').every((file) => trusted.has(fingerprint(file)));
}

/** Returns the paths that were not trusted before. */
export function trust(files: readonly SourceFile[], userDirectory: string): string[] {
  const trusted = new Set(readTrusted(userDirectory));
  const added = files.filter((file) => file.layer !== 'user' && !trusted.has(fingerprint(file)));
  if (added.length === 0) return [];
  mkdirSync(userDirectory, { recursive: true, mode: 0o700 });
  appendFileSync(join(userDirectory, TRUST_FILE), added.map((file) => `${fingerprint(file)} ${JSON.stringify(file.path)}\n`).join(''), {
    mode: 0o600,
  });
  return added.map((file) => file.path);
}

/** The path is part of it: the same text elsewhere names other programs and files. */
function fingerprint(file: SourceFile): string {
  return createHash('sha256').update(file.path).update('\0').update(file.text).digest('hex');
}

function readTrusted(userDirectory: string): string[] {
  try {
    const text = readFileSync(join(userDirectory, TRUST_FILE), 'utf8');
    return text.split('\n').map((line) => line.slice(0, 64));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw new KzError('config-unreadable', `cannot read ${join(userDirectory, TRUST_FILE)} (${systemCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  }
}
