// Files with keys, as an operator names them in a variable or a flag. Errors name the variable and the file, never what is in it.
import { readFile } from 'node:fs/promises';
import { KzError, systemCode } from '../../core/errors.ts';

export interface KeyFile {
  readonly path: string;
  /** As the operator gave it: `KEYZERO_TOKEN_KEY_PATH`, `--token-key-file`. */
  readonly from: string;
}

/** Far more than any key, or list of keys, has. */
const LARGEST = 65_536;
export const TOKEN_KEY_BYTES = 32;

/** `config-unreadable`. */
export async function readKeyFile({ path, from }: KeyFile): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new KzError('config-unreadable', `cannot read ${path}, which ${from} names (${systemCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  });
  if (text.length > LARGEST) throw wrongKey({ path, from }, 'is too large for a key');
  return text;
}

export function wrongKey({ path, from }: KeyFile, problem: string, hint?: string): KzError {
  return new KzError('config-invalid', `${path}, which ${from} names, ${problem}`, { hint, at: { file: path } });
}

/** Lines of base64, 32 bytes each; the first key seals, all of them open. Empty lines and those that start with `#` are passed over. */
export async function loadTokenKeys(file: KeyFile): Promise<readonly Uint8Array[]> {
  const lines = (await readKeyFile(file)).split('\n').map((line) => line.trim());
  const keys = lines.flatMap((line, index) => (line === '' || line.startsWith('#') ? [] : [tokenKey(file, line, index + 1)]));
  if (keys.length === 0) throw wrongKey(file, 'holds no key', MAKE_KEY);
  return keys;
}

const MAKE_KEY = 'openssl rand -base64 32';

function tokenKey({ path, from }: KeyFile, line: string, number: number): Uint8Array {
  const bytes = /^[A-Za-z0-9+/_-]+={0,2}$/.test(line) ? Buffer.from(line, 'base64') : undefined;
  if (bytes?.length === TOKEN_KEY_BYTES) return bytes;
  throw new KzError('config-invalid', `a line of the file that ${from} names is not a key of 32 bytes in base64`, {
    hint: MAKE_KEY,
    at: { file: path, line: number },
  });
}
