// Reading and writing the user's own config. It holds no value, so unlike kz's own files it keeps the mode that it has (or gets the usual
// one). Never writes what would not load, nor over what could not be read.
import { chmodSync, chownSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { checkText } from '../config/load.ts';
import { KzError, systemCode } from '../core/errors.ts';
import { uniqueSuffix, writeError } from '../core/private-file.ts';

/** Undefined when there is no such file. A byte order mark is kept, so that writing gives it back. */
export function readConfig(path: string): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(readFileSync(path));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT') return undefined;
    const reason = error instanceof TypeError ? 'it is not UTF-8 text' : (code ?? 'unknown error');
    throw new KzError('config-unreadable', `cannot read ${path}: ${reason}`, { cause: error });
  }
}

/** Throws before anything is written when the text would not load. The file is replaced in one step. */
export async function writeConfig(path: string, text: string): Promise<void> {
  const problem = await problemIn(path, text);
  if (problem !== undefined) throw await fromEdit(path, problem);
  try {
    const target = statSync(path, { throwIfNoEntry: false }) === undefined ? path : realpathSync(path);
    replace(target, text);
  } catch (error) {
    throw writeError(path, error);
  }
}

async function problemIn(path: string, text: string): Promise<KzError | undefined> {
  try {
    await checkText(path, text);
    return undefined;
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
}

/** What the edit brings in stands nowhere: a line of a text that is not written would only send people looking. */
async function fromEdit(path: string, problem: KzError): Promise<KzError> {
  const before = readConfig(path);
  if (before !== undefined && (await problemIn(path, before)) !== undefined) return problem;
  const parts = problem.code === 'several' ? problem.problems : [problem];
  return KzError.all(parts.map(({ code, message, hint }) => new KzError(code, message, { hint })));
}

function replace(target: string, text: string): void {
  const previous = statSync(target, { throwIfNoEntry: false });
  const temporary = `${target}.${uniqueSuffix()}.tmp`;
  try {
    // Never open to more people than the file that it replaces, not for a moment.
    writeFileSync(temporary, text, { flag: 'wx', mode: previous === undefined ? 0o666 : 0o600, flush: true });
    if (previous !== undefined) {
      // Root editing the file of somebody else must not take it away from them.
      if (process.getuid?.() === 0) chownSync(temporary, previous.uid, previous.gid);
      chmodSync(temporary, previous.mode & 0o777);
    }
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
