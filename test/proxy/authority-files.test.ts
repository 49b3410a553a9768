import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import { loadAuthority } from '../../src/proxy/authority-files.ts';
import type { Authority } from '../../src/proxy/authority.ts';

const folder = mkdtempSync(join(tmpdir(), 'kz-ca-'));

afterAll(() => {
  rmSync(folder, { recursive: true });
});

interface Pair {
  readonly key: string;
  readonly certificate: string;
}

let made = 0;

/** What an operator makes. */
function openssl({ newkey = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], days = '30', ca = true, more = [] as string[] } = {}): Pair {
  const name = join(folder, String((made += 1)));
  const pair = { key: `${name}.key`, certificate: `${name}.crt` };
  const constraints = `basicConstraints=critical,CA:${ca ? 'TRUE' : 'FALSE'}`;
  const files = ['-keyout', pair.key, '-out', pair.certificate];
  const options = ['-x509', '-nodes', '-days', days, '-subj', '/C=DE/O=Acme, Inc./CN=Prüfstelle', '-utf8', '-addext', constraints, ...more];
  execFileSync('openssl', ['req', '-newkey', ...newkey, ...options, ...files], { stdio: 'ignore' });
  return pair;
}

function load({ key, certificate }: Pair, now?: Date): Promise<Authority> {
  const files = {
    certificate: { path: certificate, from: 'KEYZERO_PROXY_CA_CERT_PATH' },
    key: { path: key, from: 'KEYZERO_PROXY_CA_KEY_PATH' },
  };
  return loadAuthority(files, now);
}

/** A handshake with the authority's leaf, by a client that trusts the certificate in the file and nothing else. */
async function handshake(authority: Authority, ca: string): Promise<tls.PeerCertificate> {
  const server = tls.createServer({
    SNICallback: (name, done) => {
      done(null, authority.contextFor(name));
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  try {
    return await new Promise((resolve, reject) => {
      const client = tls.connect({ port, host: '127.0.0.1', servername: 'api.example.com', ca }, () => {
        resolve(client.getPeerCertificate());
        client.destroy();
      });
      client.once('error', reject);
    });
  } finally {
    server.close();
  }
}

describe('an authority from files', () => {
  it('is trusted by who trusts its certificate, whichever server answers', async () => {
    const pair = openssl();
    const pem = readFileSync(pair.certificate, 'latin1');
    const [one, two] = [await load(pair), await load(pair)];
    expect(one.certificate).toBe(pem);
    for (const authority of [one, two]) {
      expect(await handshake(authority, pem)).toMatchObject({ subject: { CN: 'api.example.com' }, issuer: { CN: 'Prüfstelle' } });
    }
  });

  it('is taken with an identifier of its own, or without one', async () => {
    for (const identifier of ['01:02:03:04', 'none']) {
      const pair = openssl({ more: ['-addext', `subjectKeyIdentifier=${identifier}`, '-addext', 'authorityKeyIdentifier=none'] });
      const pem = readFileSync(pair.certificate, 'latin1');
      expect((await handshake(await load(pair), pem)).subject.CN).toBe('api.example.com');
    }
  });

  it('signs leaves that end no later than itself', async () => {
    const pair = openssl({ days: '3' });
    const pem = readFileSync(pair.certificate, 'latin1');
    const leaf = await handshake(await load(pair), pem);
    expect(new Date(leaf.valid_to).getTime()).toBeLessThanOrEqual(new Date(new X509Certificate(pem).validTo).getTime());
  });
});

describe('files that are refused', () => {
  it('by name, and with what is wrong', async () => {
    const good = openssl();
    const wrong: [Pair, Date | undefined, RegExp][] = [
      [openssl({ newkey: ['rsa:2048'] }), undefined, /KEYZERO_PROXY_CA_KEY_PATH names, is not an EC key on P-256/],
      [openssl({ newkey: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'] }), undefined, /not an EC key on P-256/],
      [openssl({ ca: false }), undefined, /KEYZERO_PROXY_CA_CERT_PATH names, is not the certificate of an authority/],
      [{ ...good, key: openssl().key }, undefined, /is not the key of the certificate/],
      [good, new Date(Date.now() + 31 * 86_400_000), /has expired/],
      [good, new Date(Date.now() - 86_400_000), /is not valid yet/],
      [{ ...good, key: good.certificate }, undefined, /is no private key/],
      [{ ...good, certificate: good.key }, undefined, /is no certificate/],
    ];
    for (const [pair, now, message] of wrong) {
      await expect(load(pair, now)).rejects.toMatchObject({ code: 'config-invalid', message: expect.stringMatching(message) as string });
    }
    await expect(load({ ...good, key: join(folder, 'none') })).rejects.toMatchObject({ code: 'config-unreadable' });
    // None of these failures stays with the process.
    expect((await load(good)).certificate).toContain('BEGIN CERTIFICATE');
  });
});
