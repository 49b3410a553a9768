// What the config names for a login: a variable or a file that holds a credential. Both have to be there. Neither is ever part of an error.
import { KzError, systemCode } from '../core/errors.ts';
import { decodeText } from './document.ts';
import { readGuardedFile } from './guarded-file.ts';
import type { ProviderContext } from './provider.ts';

/** Undefined when no variable is named. */
export function fromVariable(name: string | undefined, env: ProviderContext['env'], who: string): string | undefined {
  if (name === undefined) return undefined;
  const value = env[name];
  if (value !== undefined && value !== '') return value;
  throw locked(`the login to ${who} needs ${name}, which is not set`, `set ${name} in the environment that starts kz`);
}

export async function readText(path: string, who: string): Promise<string> {
  const text = await readIfThere(path, who);
  if (text !== undefined && text !== '') return text;
  throw locked(`the login to ${who} needs file ${JSON.stringify(path)}, which ${text === undefined ? 'does not exist' : 'is empty'}`);
}

/** Trimmed; empty for what is no text. */
export async function readIfThere(path: string, who: string): Promise<string | undefined> {
  const label = `file ${JSON.stringify(path)}`;
  try {
    return decodeText(await readGuardedFile(path, { label, maxMebibytes: 1 }))?.trim() ?? '';
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (error instanceof KzError) throw error;
    throw locked(`the login to ${who} needs ${label}, which kz cannot read: ${code ?? 'unknown error'}`, `run \`ls -l ${path}\``);
  }
}

export function locked(message: string, hint?: string): KzError {
  return new KzError('provider-locked', message, { hint });
}
