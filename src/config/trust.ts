// Which configurations the shell hook may load. Entering a folder must not be enough to run what its config names (`exec`), so a person
// trusts each version of a config once; a changed file has to be trusted again.
import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { KzError } from '../core/errors.ts';
import { readPrivateFile, writeError } from '../core/private-file.ts';
import type { SourceFile } from './load.ts';

/**
 * The user's own configuration is trusted by being there. Throws when the list of what is trusted cannot be read, and
 * `config-untrusted` when others could have written to it.
 */
export function isTrusted(files: readonly SourceFile[], userDirectory: string): boolean {
  const asked = files.filter(needsTrust);
  if (asked.length === 0) return true;
  const trusted = fingerprintsIn(readList(listPath(userDirectory)));
  return asked.every((file) => trusted.has(fingerprint(file)));
}

/** Returns the paths that were not trusted before. Throws as `isTrusted` does, and `write-failed`. */
export function trust(files: readonly SourceFile[], userDirectory: string): string[] {
  const path = listPath(userDirectory);
  const list = readList(path);
  const trusted = fingerprintsIn(list);
  const added = files.filter((file) => needsTrust(file) && !trusted.has(fingerprint(file)));
  if (added.length === 0) return [];
  // What an editor or a full disk left without its end must not swallow the first new line.
  const separator = list === '' || list.endsWith('\n') ? '' : '\n';
  append(path, separator + added.map((file) => `${fingerprint(file)} ${JSON.stringify(file.path)}\n`).join(''));
  return added.map((file) => file.path);
}

function needsTrust(file: SourceFile): boolean {
  return file.layer !== 'user';
}

function listPath(userDirectory: string): string {
  return join(userDirectory, 'trusted');
}

/** The path is part of it: the same text elsewhere names other programs and files. */
function fingerprint(file: SourceFile): string {
  return createHash('sha256').update(file.path).update('\0').update(file.text).digest('hex');
}

function fingerprintsIn(list: string): ReadonlySet<string> {
  return new Set(list.split('\n').map((line) => line.slice(0, 64)));
}

function readList(path: string): string {
  try {
    return new TextDecoder().decode(readPrivateFile(path));
  } catch (error) {
    if (!(error instanceof KzError) || error.code !== 'config-untrusted') throw error;
    // Not `chmod`: what others wrote into it would stay.
    throw new KzError(error.code, error.message, { hint: `run \`rm ${path}\`, then \`kz trust\` again in every folder`, cause: error });
  }
}

/** Not a rewrite: of two that trust at the same time, neither is lost. */
function append(path: string, lines: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    appendFileSync(path, lines, { mode: 0o600 });
  } catch (error) {
    throw writeError(path, error);
  }
}
