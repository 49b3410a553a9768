// The upstream's certificate and mockttp's CA, made by openssl.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** @param {string} folder */
export function upstreamCertificate(folder) {
  const at = (/** @type {string} */ name) => join(folder, name);
  authority(folder, 'upstream-ca', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']);
  writeFileSync(at('names.ext'), 'subjectAltName=DNS:localhost,DNS:*.bench.test\nextendedKeyUsage=serverAuth\n');
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', at('upstream.key')];
  openssl(['req', '-new', ...key, '-subj', '/CN=localhost', '-out', at('upstream.csr')]);
  const signer = ['-CA', at('upstream-ca.pem'), '-CAkey', at('upstream-ca.key'), '-CAcreateserial'];
  openssl(['x509', '-req', '-in', at('upstream.csr'), ...signer, '-days', '3', '-extfile', at('names.ext'), '-out', at('upstream.pem')]);
  return { ca: at('upstream-ca.pem'), cert: at('upstream.pem'), key: at('upstream.key') };
}

/** @param {string} folder */
export function mockttpAuthority(folder) {
  mkdirSync(join(folder, 'mockttp'));
  authority(join(folder, 'mockttp'), 'ca', ['-newkey', 'rsa:2048']);
}

/**
 * @param {string} folder
 * @param {string} name
 * @param {string[]} kind
 */
function authority(folder, name, kind) {
  const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.pem`)];
  openssl([
    'req',
    '-x509',
    ...kind,
    '-nodes',
    '-days',
    '3',
    '-subj',
    `/CN=bench ${name}`,
    '-addext',
    'keyUsage=critical,keyCertSign,cRLSign',
    ...files,
  ]);
}

/** @param {string[]} args */
function openssl(args) {
  const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`openssl ${args.join(' ')} failed: ${stderr}`);
}
