// Who signs the certificates that the proxy shows: an authority of this process, or one that replicas share.
import { KzError } from '../../core/errors.ts';
import { loadAuthority } from '../../proxy/authority-files.ts';
import { Authority } from '../../proxy/authority.ts';

const CERTIFICATE = 'KEYZERO_PROXY_CA_CERT_PATH';
const KEY = 'KEYZERO_PROXY_CA_KEY_PATH';

/** Throws `usage` when only one of the two variables is set, and what `loadAuthority` throws. */
export async function proxyAuthority(env: Readonly<Record<string, string | undefined>>): Promise<Authority> {
  const certificate = env[CERTIFICATE] ?? '';
  const key = env[KEY] ?? '';
  if (certificate === '' && key === '') return Authority.create();
  if (certificate === '' || key === '') {
    throw new KzError('usage', `${certificate === '' ? KEY : CERTIFICATE} is set without ${certificate === '' ? CERTIFICATE : KEY}`, {
      hint: 'the certificate and the key of the authority belong together',
    });
  }
  return loadAuthority({ certificate: { path: certificate, from: CERTIFICATE }, key: { path: key, from: KEY } });
}
