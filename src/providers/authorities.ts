// The certificate authorities that an option of a provider names, read from their file.
import { KzError, systemCode } from '../core/errors.ts';
import { decodeText } from './document.ts';
import { readGuardedFile } from './guarded-file.ts';

/** PEM. Throws `provider-unavailable` for a file that cannot be read or holds none; `who` is believed by them. */
export async function readAuthorities(path: string, { who, hint }: { readonly who: string; readonly hint: string }): Promise<string> {
  const label = `file ${JSON.stringify(path)}`;
  try {
    const pem = decodeText(await readGuardedFile(path, { label, maxMebibytes: 1 }));
    if (pem?.includes('-----BEGIN CERTIFICATE-----') === true) return pem;
  } catch (cause) {
    const code = cause instanceof KzError ? cause.message : (systemCode(cause) ?? 'unknown error');
    throw new KzError('provider-unavailable', `cannot read the certificate authorities of ${who} from ${label}: ${code}`, { hint, cause });
  }
  throw new KzError('provider-unavailable', `${label}, named for the certificate authorities of ${who}, holds no PEM certificate`, {
    hint,
  });
}
