import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';

const DAY_MS = 86_400_000;

interface Seen {
  readonly leaf: X509Certificate;
  readonly authorized: boolean;
  readonly issuer: string;
}

let authority: Authority;

beforeEach(() => {
  authority = Authority.create();
});

/** What a client sees that asks for this host: a real handshake, verified by Node. */
async function handshake(context: tls.SecureContext, host: string): Promise<Seen> {
  const server = createServer((socket) => {
    new tls.TLSSocket(socket, { isServer: true, secureContext: context }).on('error', () => socket.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = tls.connect({
    host: '127.0.0.1',
    port,
    ca: authority.certificate,
    rejectUnauthorized: false,
    ...(/^[[\d]/.test(host) ? {} : { servername: host }),
    checkServerIdentity: (_, certificate) => tls.checkServerIdentity(host.replace(/^\[|\]$/g, ''), certificate),
  });
  try {
    await once(socket, 'secureConnect');
    const peer = socket.getPeerCertificate(true);
    const leaf = new X509Certificate(peer.raw);
    return { leaf, authorized: socket.authorized, issuer: new X509Certificate(peer.issuerCertificate.raw).subject };
  } finally {
    socket.destroy();
    server.close();
    await once(server, 'close');
  }
}

describe('the authority', () => {
  it('is a certificate authority for leaves only, with a name of its own each run', () => {
    const certificate = new X509Certificate(authority.certificate);
    expect(certificate.ca).toBe(true);
    expect(certificate.subject).toMatch(/^CN=kz blind mode\\?, run [0-9a-f]{8}$/);
    expect(certificate.issuer).toBe(certificate.subject);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' });
    expect(new X509Certificate(Authority.create().certificate).subject).not.toBe(certificate.subject);
  });

  it('holds for a year from yesterday on', () => {
    const now = new Date('2048-12-31T12:00:00Z');
    const certificate = new X509Certificate(Authority.create(now).certificate);
    expect(new Date(certificate.validFrom)).toEqual(new Date('2048-12-30T12:00:00Z'));
    expect(new Date(certificate.validTo)).toEqual(new Date('2050-01-31T12:00:00Z'));
  });
});

describe('a leaf', () => {
  it.each([
    ['api.example.com', 'DNS:api.example.com'],
    ['localhost', 'DNS:localhost'],
    ['_dmarc.xn--bcher-kva.example', 'DNS:_dmarc.xn--bcher-kva.example'],
    ['192.0.2.7', 'IP Address:192.0.2.7'],
    ['[2001:db8::7]', 'IP Address:2001:DB8:0:0:0:0:0:7'],
    ['[::1]', 'IP Address:0:0:0:0:0:0:0:1'],
    ['[::]', 'IP Address:0:0:0:0:0:0:0:0'],
    ['[1:2:3:4:5:6:7:8]', 'IP Address:1:2:3:4:5:6:7:8'],
    ['[::ffff:192.0.2.7]', 'IP Address:0:0:0:0:0:FFFF:C000:207'],
  ])('for %s is what a client accepts for that host', async (host, names) => {
    const { leaf, authorized, issuer } = await handshake(authority.contextFor(host), host);
    expect(authorized).toBe(true);
    expect(issuer).toBe(new X509Certificate(authority.certificate).subject);
    expect(leaf.subjectAltName).toBe(names);
    expect(leaf.subject).toBe(`CN=${host.replace(/^\[|\]$/g, '')}`);
    expect(leaf.ca).toBe(false);
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  });

  it('is for no other host', async () => {
    expect((await handshake(authority.contextFor('a.example.com'), 'b.example.com')).authorized).toBe(false);
  });

  it('of a name longer than a common name has none', async () => {
    const host = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(57)}.com`;
    expect(host.length).toBe(253);
    const { leaf, authorized } = await handshake(authority.contextFor(host), host);
    expect(authorized).toBe(true);
    expect(leaf.subject).toBe('O=kz blind mode');
    expect(leaf.subjectAltName).toBe(`DNS:${host}`);
  });

  it('ends before Apple’s limit, and not after the authority', async () => {
    const { leaf } = await handshake(authority.contextFor('a.example'), 'a.example');
    expect(Date.parse(leaf.validTo) - Date.parse(leaf.validFrom)).toBeLessThan(397 * DAY_MS);
    const old = Authority.create(new Date(Date.now() - 390 * DAY_MS));
    const late = await handshake(old.contextFor('a.example'), 'a.example');
    expect(late.leaf.validTo).toBe(new X509Certificate(old.certificate).validTo);
  });

  it('has a positive serial number of 128 bits, another one each', async () => {
    const serials = await Promise.all(
      ['a.example', 'b.example', 'c.example'].map(async (host) => (await handshake(authority.contextFor(host), host)).leaf.serialNumber),
    );
    expect(new Set(serials).size).toBe(3);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  it.each(['*.example.com', '', 'A.example', 'a b', 'a\0b', 'a/b', 'ü.example', '[::1', '[fe80::1%eth0]', 'a'.repeat(254)])(
    'is not made for %j',
    (host) => {
      expect(() => authority.contextFor(host)).toThrow(expect.objectContaining({ code: 'internal' }));
    },
  );
});

describe('the cache', () => {
  it('gives the same context until shortly before the leaf ends', async () => {
    const now = Date.now();
    const first = authority.contextFor('a.example', new Date(now));
    expect(authority.contextFor('a.example', new Date(now + 28 * DAY_MS))).toBe(first);
    const second = authority.contextFor('a.example', new Date(now + 30 * DAY_MS));
    expect(second).not.toBe(first);
    const { leaf } = await handshake(second, 'a.example');
    expect(Date.parse(leaf.validTo)).toBeGreaterThan(now + 59 * DAY_MS);
  });

  it('forgets the host that was asked for longest ago', () => {
    const kept = authority.contextFor('kept.example');
    const lost = authority.contextFor('lost.example');
    for (let index = 0; index < 998; index += 1) authority.contextFor(`h${String(index)}.example`);
    expect(authority.contextFor('kept.example')).toBe(kept);
    authority.contextFor('one-more.example');
    expect(authority.contextFor('kept.example')).toBe(kept);
    expect(authority.contextFor('lost.example')).not.toBe(lost);
  });
});

describe('the strictest verifiers', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kz-authority-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

  it.skipIf(!hasOpenssl).each(['api.example.com', '[2001:db8::7]', `${'a'.repeat(60)}.example.com`])(
    'accept %s (openssl)',
    async (host) => {
      const { leaf } = await handshake(authority.contextFor(host), host);
      writeFileSync(join(folder, 'ca.pem'), authority.certificate);
      writeFileSync(join(folder, 'leaf.pem'), leaf.toString());
      const bare = host.replace(/^\[|\]$/g, '');
      const name = bare === host ? ['-verify_hostname', host] : ['-verify_ip', bare];
      const args = ['verify', '-x509_strict', '-check_ss_sig', '-purpose', 'sslserver', '-CAfile', 'ca.pem', ...name, 'leaf.pem'];
      const { status, stdout, stderr } = spawnSync('openssl', args, { cwd: folder, encoding: 'utf8' });
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'leaf.pem: OK\n', stderr: '' });
    },
  );
});
