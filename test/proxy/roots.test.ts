import { execFileSync } from 'node:child_process';
import { randomBytes, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import {
  AUTHORITY_FILE_VARIABLES,
  certificatesInFile,
  trustedRoots,
  upstreamAuthorities,
  type RootSources,
} from '../../src/proxy/roots.ts';

let folder: string;
/** Three authorities. */
let a: string;
let b: string;
let c: string;

beforeAll(() => {
  [a = '', b = '', c = ''] = [1, 2, 3].map(() => Authority.create().certificate);
});

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-roots-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const EMPTY: RootSources = { systemFiles: [], builtIn: [], keychain: () => Promise.resolve('') };

function file(name: string, contents: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, contents);
  return path;
}

const body = (certificate: string): string => certificate.replace(/-----[^-]+-----/g, '').trim();

describe('the certificates in a file', () => {
  it('are found among text, private keys and other blocks, and nothing else is taken', () => {
    const canary = `CANARY-${randomBytes(12).toString('hex')}`;
    const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(canary).toString('base64')}\n-----END PRIVATE KEY-----\n`;
    const path = file(
      'mixed.pem',
      `# ${canary}\n${a}${key}subject=x\n${b}-----BEGIN TRUSTED CERTIFICATE-----\nMIIB\n-----END TRUSTED CERTIFICATE-----\n`,
    );
    expect(certificatesInFile(path)).toEqual([a, b]);
  });

  it('are the same however their lines are broken', () => {
    const fingerprint = new X509Certificate(a).fingerprint256;
    const lines = body(a);
    const spellings = [
      a.replaceAll('\n', '\r\n'),
      a.replaceAll('\n', ' \n'),
      `-----BEGIN CERTIFICATE-----\n${lines.replaceAll('\n', '')}\n-----END CERTIFICATE-----`,
    ];
    for (const [index, text] of spellings.entries()) {
      const found = certificatesInFile(file(`spelling-${String(index)}.pem`, text));
      expect(found.map((certificate) => new X509Certificate(certificate).fingerprint256)).toEqual([fingerprint]);
      expect(found[0]?.endsWith('-----END CERTIFICATE-----\n')).toBe(true);
    }
  });

  it('are none where the base64 is no DER', () => {
    const wrapped = (text: string): string => `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;
    expect(certificatesInFile(file('bad.pem', wrapped('hello') + wrapped('') + wrapped(' MIIB AAAA')))).toEqual([]);
    expect(certificatesInFile(join(folder, 'none.pem'))).toEqual([]);
  });
});

describe('what was trusted before', () => {
  it('is the first system bundle that is there, Node’s roots and every named file, each once', async () => {
    const sources: RootSources = {
      systemFiles: [join(folder, 'missing.pem'), file('empty.pem', ''), file('system.pem', a), file('unused.pem', c)],
      builtIn: [a.trim(), b.trim()],
      keychain: () => Promise.resolve(''),
    };
    const own = file('own.pem', b.replaceAll('\n', '\r\n') + a);
    const { certificates, warnings } = await trustedRoots({ SSL_CERT_FILE: own, CURL_CA_BUNDLE: own, PIP_CERT: '' }, sources);
    expect([...certificates].sort()).toEqual([a, b].sort());
    expect(warnings).toEqual([]);
  });

  it.each(AUTHORITY_FILE_VARIABLES)('includes what %s names', async (variable) => {
    expect(await trustedRoots({ [variable]: file('named.pem', a) }, EMPTY)).toEqual({ certificates: [a], warnings: [] });
  });

  it('includes folders, but not the system’s own', async () => {
    mkdirSync(join(folder, 'certs'));
    file('certs/0a1b2c3d.0', a);
    file('certs/readme.txt', 'no certificate');
    mkdirSync(join(folder, 'certs', 'below'));
    const { certificates, warnings } = await trustedRoots({ SSL_CERT_DIR: `/etc/ssl/certs/:${join(folder, 'certs')}` }, EMPTY);
    expect(certificates).toEqual([a]);
    expect(warnings).toEqual([]);
    expect((await trustedRoots({ REQUESTS_CA_BUNDLE: join(folder, 'certs') }, EMPTY)).certificates).toEqual([a]);
  });

  it('includes the authorities of the keychain, not its other certificates', async () => {
    const leaf = rootCertificates.find((certificate) => !new X509Certificate(certificate).ca) ?? '';
    const sources = {
      ...EMPTY,
      keychain: () => Promise.resolve(`${a}${leaf}-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n`),
    };
    expect((await trustedRoots({}, sources)).certificates).toEqual([a]);
  });

  it('names each file that gives nothing, and goes on', async () => {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    const parent = {
      NODE_EXTRA_CA_CERTS: file('good.pem', a),
      SSL_CERT_FILE: join(folder, 'missing.pem'),
      CURL_CA_BUNDLE: file('text.pem', 'CANARY-text'),
      PIP_CERT: join(folder, 'pipe'),
      DENO_CERT: '/dev/zero',
    };
    const { certificates, warnings } = await trustedRoots(parent, EMPTY);
    expect(certificates).toEqual([a]);
    expect(warnings).toEqual([
      `cannot use the authorities in ${folder}/missing.pem that SSL_CERT_FILE names: there is no such file`,
      `cannot use the authorities in ${folder}/text.pem that CURL_CA_BUNDLE names: it holds no PEM certificate`,
      `cannot use the authorities in ${folder}/pipe that PIP_CERT names: it is not a regular file`,
      'cannot use the authorities in /dev/zero that DENO_CERT names: it is not a regular file',
    ]);
  });

  it('is never nothing on this machine', async () => {
    const { certificates, warnings } = await trustedRoots({});
    const fingerprints = certificates.map((certificate) => new X509Certificate(certificate).fingerprint256);
    expect(new Set(fingerprints).size).toBe(certificates.length);
    expect(fingerprints).toEqual(expect.arrayContaining(rootCertificates.map((text) => new X509Certificate(text).fingerprint256)));
    expect(warnings).toEqual([]);
  });
});

describe('upstream_ca', () => {
  it('gives its certificates', () => {
    expect(upstreamAuthorities(file('upstream.pem', b + a))).toEqual([b, a]);
  });

  it.each([
    ['missing.pem', undefined, 'there is no such file'],
    ['text.pem', 'CANARY-not-a-certificate', 'it holds no PEM certificate'],
  ])('%s is an error that names it', (name, contents, why) => {
    const path = contents === undefined ? join(folder, name) : file(name, contents);
    expect(() => upstreamAuthorities(path)).toThrow(
      expect.objectContaining({ code: 'config-invalid', message: `cannot use the authorities in \`upstream_ca\` ${path}: ${why}` }),
    );
  });
});
