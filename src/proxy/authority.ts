// The certificate authority of one run, and the leaf certificates with which the proxy answers for each host. All keys live in memory
// only and end with the process; servers that share an authority read it from files (authority-files.ts). The profile is RFC 5280's, so that strict verifiers (Python, OpenSSL's x509_strict, Apple) accept it.
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import { KzError } from '../core/errors.ts';
import {
  bitString,
  boolean,
  certificatePem,
  context,
  contextPrimitive,
  integer,
  octetString,
  oid,
  sequence,
  set,
  time,
  utf8String,
} from './der.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Backwards, for clocks of virtual machines that lag behind ours. */
const LAG_MS = DAY_MS;
const AUTHORITY_LIFE_MS = 397 * DAY_MS;
/** Apple takes at most 398 days; kz mints a new one long before. */
const LEAF_LIFE_MS = 30 * DAY_MS;
/** A connection may outlive the handshake by this much before its certificate ends. */
const RENEW_BEFORE_MS = DAY_MS;

/** A child that asks for ever new names must not fill our memory: each context takes about 45 KiB. */
const CACHED_HOSTS = 1_000;

/** X.520's upper bound of a common name. */
const LONGEST_COMMON_NAME = 64;

const OID = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
} as const;

interface Leaf {
  readonly context: SecureContext;
  readonly renewAt: number;
}

/** What certificates are issued with. */
export interface Issuer {
  /** PEM. */
  readonly certificate: string;
  /** P-256. */
  readonly key: KeyObject;
  /** Its subject, in DER. */
  readonly name: Buffer;
  readonly keyIdentifier: Buffer;
  /** Of every leaf. */
  readonly notBefore: Date;
  /** No leaf outlives it. */
  readonly notAfter: Date;
}

export class Authority {
  /** PEM; what a client must trust. */
  readonly certificate: string;
  readonly #issuer: Issuer;
  readonly #leafKey: string;
  readonly #leafPublicKey: Buffer;
  /** In order of use, the least recent first. */
  readonly #leaves = new Map<string, Leaf>();

  private constructor(issuer: Issuer) {
    this.#issuer = issuer;
    this.certificate = issuer.certificate;
    const leafPair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#leafKey = leafPair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    this.#leafPublicKey = leafPair.publicKey.export({ type: 'spki', format: 'der' });
  }

  static create(now = new Date()): Authority {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const publicKey = pair.publicKey.export({ type: 'spki', format: 'der' });
    const notBefore = new Date(now.getTime() - LAG_MS);
    const issuer = {
      key: pair.privateKey,
      keyIdentifier: keyIdentifier(publicKey),
      // Another name each run: a client that remembers the last run's authority must not take this one for it.
      name: name(OID.commonName, `kz blind mode, run ${randomBytes(4).toString('hex')}`),
      notBefore,
      notAfter: new Date(notBefore.getTime() + AUTHORITY_LIFE_MS),
    };
    const certificate = issue(issuer, { subject: issuer.name, publicKey, notAfter: issuer.notAfter }, [
      // CA:TRUE, pathlen:0
      extension(OID.basicConstraints, sequence(boolean(true), integer(0)), true),
      // keyCertSign, cRLSign
      extension(OID.keyUsage, bitString(Buffer.of(0x06), 1), true),
      extension(OID.subjectKeyIdentifier, octetString(issuer.keyIdentifier)),
    ]);
    return new Authority({ ...issuer, certificate });
  }

  /** One that exists already, and was checked. */
  static of(issuer: Omit<Issuer, 'notBefore'>, validFrom: Date, now = new Date()): Authority {
    // Leaves live for weeks, the authority perhaps for years: clients refuse leaves that are valid for too long.
    return new Authority({ ...issuer, notBefore: new Date(Math.max(validFrom.getTime(), now.getTime() - LAG_MS)) });
  }

  /** A leaf for this canonical host, with the chain; the same one for weeks. Throws `internal` for what can be no host's name. */
  contextFor(host: string, now = new Date()): SecureContext {
    const cached = this.#leaves.get(host);
    if (cached !== undefined) this.#leaves.delete(host);
    const leaf = cached !== undefined && now.getTime() < cached.renewAt ? cached : this.#mint(host, now);
    this.#leaves.set(host, leaf);
    if (this.#leaves.size > CACHED_HOSTS) this.#forgetOldest();
    return leaf.context;
  }

  #forgetOldest(): void {
    for (const host of this.#leaves.keys()) {
      this.#leaves.delete(host);
      return;
    }
  }

  #mint(host: string, now: Date): Leaf {
    const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
    const notAfter = new Date(Math.min(now.getTime() + LEAF_LIFE_MS, this.#issuer.notAfter.getTime()));
    // The subject is never empty: the alternative name would have to be critical then, and that is not what clients see every day.
    const subject = bare.length <= LONGEST_COMMON_NAME ? name(OID.commonName, bare) : name(OID.organization, 'kz blind mode');
    const certificate = issue(this.#issuer, { subject, publicKey: this.#leafPublicKey, notAfter }, [
      extension(OID.basicConstraints, sequence(), true),
      // digitalSignature
      extension(OID.keyUsage, bitString(Buffer.of(0x80), 7), true),
      extension(OID.extendedKeyUsage, sequence(oid(OID.serverAuth))),
      extension(OID.subjectAltName, sequence(alternativeName(bare))),
      extension(OID.subjectKeyIdentifier, octetString(keyIdentifier(this.#leafPublicKey))),
      extension(OID.authorityKeyIdentifier, sequence(contextPrimitive(0, this.#issuer.keyIdentifier))),
    ]);
    // Without `ca`, Node parses its own 140 roots for the first context: 19 ms, for a server that asks no client for a certificate.
    const secureContext = createSecureContext({ key: this.#leafKey, cert: certificate + this.certificate, ca: [] });
    return { context: secureContext, renewAt: notAfter.getTime() - RENEW_BEFORE_MS };
  }
}

interface Subject {
  readonly subject: Buffer;
  readonly publicKey: Buffer;
  readonly notAfter: Date;
}

function issue(issuer: Omit<Issuer, 'certificate'>, { subject, publicKey, notAfter }: Subject, extensions: readonly Buffer[]): string {
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const toBeSigned = sequence(
    context(0, integer(2)),
    integer(serialNumber()),
    algorithm,
    issuer.name,
    sequence(time(issuer.notBefore), time(notAfter)),
    subject,
    publicKey,
    context(3, sequence(...extensions)),
  );
  return certificatePem(sequence(toBeSigned, algorithm, bitString(sign('sha256', toBeSigned, issuer.key))));
}

/** 128 random bits less the two that make every serial positive and as long as the next. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
  return bytes;
}

/** RFC 7093 section 2 method 1, over the 65 bytes of an uncompressed P-256 point that end its SubjectPublicKeyInfo. */
export function keyIdentifier(publicKey: Buffer): Buffer {
  return createHash('sha256').update(publicKey.subarray(-65)).digest().subarray(0, 20);
}

function name(attribute: string, text: string): Buffer {
  return sequence(set(sequence(oid(attribute), utf8String(text))));
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));
}

function alternativeName(host: string): Buffer {
  if (isIPv4(host)) return contextPrimitive(7, Buffer.from(host.split('.').map(Number)));
  if (isIPv6(host) && !host.includes('%')) return contextPrimitive(7, ipv6Bytes(host));
  // No wildcard, ever: one name a certificate, and it is the name that was checked.
  if (!/^[a-z0-9_.-]{1,253}$/.test(host)) throw new KzError('internal', 'cannot mint a certificate: the host is not a canonical name');
  return contextPrimitive(2, Buffer.from(host, 'latin1'));
}

function ipv6Bytes(address: string): Buffer {
  const hex = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...quad: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = quad.map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [head = [], tail = []] = hex.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = Array<string>(8 - head.length - tail.length).fill('0');
  const bytes = Buffer.alloc(16);
  [...head, ...zeros, ...tail].forEach((group, index) => bytes.writeUInt16BE(parseInt(group, 16), index * 2));
  return bytes;
}
