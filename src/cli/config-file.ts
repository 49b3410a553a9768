// Writing the user's own config. It holds no value, so unlike kz's own files it keeps the mode that it has (or gets the usual one).
import { readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { checkFile } from '../config/load.ts';
import { KzError, systemCode } from '../core/errors.ts';

/** Throws before anything is written when the text would not load. The file is replaced in one step. */
export async function writeConfig(path: string, text: string): Promise<void> {
  await checkFile({ path, text, layer: 'project', how: 'to be written' });
  try {
    const target = statSync(path, { throwIfNoEntry: false }) === undefined ? path : realpathSync(path);
    replace(target, text);
  } catch (error) {
    throw new KzError('write-failed', `cannot write ${path} (${systemCode(error) ?? 'unknown error'})`, { cause: error });
  }
}

export function readConfig(path: string): string {
  return readFileSync(path, 'utf8');
}

function replace(target: string, text: string): void {
  const mode = statSync(target, { throwIfNoEntry: false })?.mode;
  const temporary = `${target}.${String(process.pid)}.tmp`;
  try {
    writeFileSync(temporary, text, { flag: 'wx', mode: mode === undefined ? 0o666 : mode & 0o777 });
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
