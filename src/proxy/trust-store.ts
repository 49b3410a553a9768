// A PKCS#12 file (RFC 7292) that a JVM loads as a trust store. Certificates only, in the clear: there is nothing secret in it, and its
// password is the one that everybody knows. A trust store in the JDK's own format would need the JDK.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { bmpString, context, integer, nothing, octetString, oid, sequence, set } from './der.ts';

export const TRUST_STORE_PASSWORD = 'changeit';

/** It protects nothing, so it need not be slow; some readers refuse 1. */
const ITERATIONS = 100;

const OID = {
  data: oid('1.2.840.113549.1.7.1'),
  certBag: oid('1.2.840.113549.1.12.10.1.3'),
  x509Certificate: oid('1.2.840.113549.1.9.22.1'),
  friendlyName: oid('1.2.840.113549.1.9.20'),
  sha1: oid('1.3.14.3.2.26'),
} as const;

/** Oracle's, here for any use: without it a JVM takes the certificate for a link of a chain, not for something to trust. */
const TRUSTED_KEY_USAGE = sequence(oid('2.16.840.1.113894.746875.1.1'), set(oid('2.5.29.37.0')));

/** Takes PEM, one certificate each. */
export function trustStore(certificates: readonly string[]): Buffer {
  const bags = certificates.map((certificate, index) => bag(fromPem(certificate), `kz ${String(index + 1)}`));
  const authenticatedSafe = sequence(contentInfo(sequence(...bags)));
  return sequence(integer(3), contentInfo(authenticatedSafe), mac(authenticatedSafe));
}

function fromPem(certificate: string): Buffer {
  return Buffer.from(certificate.slice(certificate.indexOf('\n'), certificate.indexOf('\n-----END')), 'base64');
}

function contentInfo(contents: Buffer): Buffer {
  return sequence(OID.data, context(0, octetString(contents)));
}

/** The alias must differ: a JVM keeps one entry a name. */
function bag(certificate: Buffer, alias: string): Buffer {
  const value = sequence(OID.x509Certificate, context(0, octetString(certificate)));
  // DER orders a SET OF by its members' bytes: the shorter one is first, and any alias of four letters is longer.
  const attributes = set(TRUSTED_KEY_USAGE, sequence(OID.friendlyName, set(bmpString(alias))));
  return sequence(OID.certBag, context(0, value), attributes);
}

/** SHA-1, because a JDK before 8u301 reads no other, and a checksum under a known password is all this is. */
function mac(contents: Buffer): Buffer {
  const salt = randomBytes(20);
  const digest = createHmac('sha1', macKey(TRUST_STORE_PASSWORD, salt)).update(contents).digest();
  return sequence(sequence(sequence(OID.sha1, nothing()), octetString(digest)), octetString(salt), integer(ITERATIONS));
}

/** RFC 7292 appendix B.2 with ID 3. One block is enough: the key is as long as SHA-1's result. */
function macKey(password: string, salt: Buffer): Buffer {
  const block = 64;
  const diversifier = Buffer.alloc(block, 3);
  const secret = Buffer.from(`${password}\0`, 'utf16le').swap16();
  let key = Buffer.concat([diversifier, repeated(salt, block), repeated(secret, block)]);
  for (let round = 0; round < ITERATIONS; round += 1) key = createHash('sha1').update(key).digest();
  return key;
}

/** The bytes, over and over, up to the next multiple of the block. */
function repeated(bytes: Buffer, block: number): Buffer {
  return Buffer.alloc(Math.ceil(bytes.length / block) * block, bytes);
}
