import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { TRUST_STORE_PASSWORD, trustStore } from '../../src/proxy/trust-store.ts';

const has = (program: string, ...args: string[]): boolean => spawnSync(program, args).status === 0;
const hasOpenssl = has('openssl', 'version');
const hasKeytool = has('keytool', '-help');

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-store-'));
  file = join(folder, 'store.p12');
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const fingerprints = (certificates: readonly string[]): string[] =>
  certificates.map((certificate) => new X509Certificate(certificate).fingerprint256).sort();

describe.skipIf(!hasOpenssl)(`a trust store and openssl${hasOpenssl ? '' : ' (openssl is not installed)'}`, () => {
  it('gives back every certificate, and its checksum is right', () => {
    const certificates = [...rootCertificates, Authority.create().certificate];
    writeFileSync(file, trustStore(certificates));
    const args = ['pkcs12', '-in', file, '-nokeys', '-passin', `pass:${TRUST_STORE_PASSWORD}`];
    const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const found = stdout.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    expect(fingerprints(found)).toEqual(fingerprints(certificates));
  });

  it('has a checksum that another password does not give', () => {
    writeFileSync(file, trustStore([Authority.create().certificate]));
    const { status, stderr } = spawnSync('openssl', ['pkcs12', '-in', file, '-nokeys', '-passin', 'pass:other'], { encoding: 'utf8' });
    expect(status).not.toBe(0);
    expect(stderr).toContain('Mac verify error');
  });

  it('is DER throughout', () => {
    writeFileSync(file, trustStore([Authority.create().certificate]));
    const { status, stdout } = spawnSync('openssl', ['asn1parse', '-inform', 'DER', '-in', file], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout).toContain('pkcs7-data');
  });
});

describe.skipIf(!hasKeytool)(`a trust store and the JVM${hasKeytool ? '' : ' (keytool is not installed)'}`, () => {
  it('is a list of certificates to trust, each under its own name', () => {
    const certificates = [...rootCertificates.slice(0, 12), Authority.create().certificate];
    writeFileSync(file, trustStore(certificates));
    const args = ['-list', '-v', '-keystore', file, '-storetype', 'PKCS12', '-storepass', TRUST_STORE_PASSWORD];
    const { status, stdout } = spawnSync('keytool', args, { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout.match(/Entry type: trustedCertEntry/g)).toHaveLength(certificates.length);
    const found = [...stdout.matchAll(/SHA256: ([0-9A-F:]+)/g)].map(([, fingerprint = '']) => fingerprint);
    expect(found.sort()).toEqual(fingerprints(certificates));
    expect(new Set([...stdout.matchAll(/Alias name: (.*)/g)].map(([, alias]) => alias)).size).toBe(certificates.length);
  });
});
