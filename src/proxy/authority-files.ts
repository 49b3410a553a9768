// An authority that several servers share, read from two PEM files: clients trust one certificate, whichever server they reach. Takes EC keys
// on P-256 only, and no certificate that could not sign.
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { KzError, systemCode } from '../core/errors.ts';
import { Authority, keyIdentifier } from './authority.ts';

/** A file, and what named it: `KEYZERO_PROXY_CA_KEY_PATH`. */
export interface NamedFile {
  readonly path: string;
  readonly from: string;
}

/** Throws `config-unreadable` and `config-invalid`, which name the variable and the file and quote nothing of it. */
export async function loadAuthority(
  files: { readonly certificate: NamedFile; readonly key: NamedFile },
  now = new Date(),
): Promise<Authority> {
  const certificate = certificateOf(files.certificate, await text(files.certificate));
  const key = keyOf(files.key, await text(files.key));
  const wrong = problemOf(certificate, key, now);
  if (wrong !== undefined) throw invalid(files[wrong.file], wrong.problem);
  const { name, identifier } = namesOf(certificate.raw);
  const publicKey = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return Authority.of(
    {
      certificate: certificate.toString(),
      key,
      name,
      keyIdentifier: identifier ?? keyIdentifier(publicKey),
      notAfter: new Date(certificate.validTo),
    },
    new Date(certificate.validFrom),
    now,
  );
}

async function text(file: NamedFile): Promise<string> {
  return readFile(file.path, 'latin1').catch((error: unknown) => {
    const reason = systemCode(error) ?? 'unknown error';
    throw new KzError('config-unreadable', `cannot read ${file.path}, which ${file.from} names (${reason})`, { cause: error });
  });
}

function invalid({ path, from }: NamedFile, problem: string): KzError {
  return new KzError('config-invalid', `${path}, which ${from} names, ${problem}`, { at: { file: path } });
}

function certificateOf(file: NamedFile, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw invalid(file, 'is no certificate in PEM');
  }
}

function keyOf(file: NamedFile, pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw invalid(file, 'is no private key in PEM that can be read without a passphrase');
  }
}

interface Wrong {
  readonly file: 'certificate' | 'key';
  readonly problem: string;
}

function problemOf(certificate: X509Certificate, key: KeyObject, now: Date): Wrong | undefined {
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    return { file: 'key', problem: 'is not an EC key on P-256' };
  }
  if (!certificate.ca) return { file: 'certificate', problem: 'is not the certificate of an authority (CA:TRUE)' };
  if (!certificate.checkPrivateKey(key)) return { file: 'key', problem: 'is not the key of the certificate' };
  if (new Date(certificate.validFrom) > now) return { file: 'certificate', problem: 'is not valid yet' };
  return new Date(certificate.validTo) <= now ? { file: 'certificate', problem: 'has expired' } : undefined;
}

const EXPLICIT_VERSION = 0xa0;
const EXTENSIONS = 0xa3;
/** After the serial number and the algorithm: issuer, validity, subject. */
const SUBJECT = 4;
const SUBJECT_KEY_IDENTIFIER = Buffer.from([0x55, 0x1d, 0x0e]);

/** The subject letter by letter, as the issuer of leaves has to be written, and the identifier that leaves refer to (RFC 5280 4.1). */
function namesOf(certificate: Buffer): { readonly name: Buffer; readonly identifier: Buffer | undefined } {
  const [whole] = inside({ contents: certificate });
  const parts = inside(inside(whole)[0]);
  const fields = parts[0]?.tag === EXPLICIT_VERSION ? parts.slice(1) : parts;
  const [list] = inside(fields.find(({ tag }) => tag === EXTENSIONS));
  const extension = inside(list)
    .map(inside)
    .find(([oid]) => oid?.contents.equals(SUBJECT_KEY_IDENTIFIER) === true);
  return { name: fields[SUBJECT]?.whole ?? NOTHING, identifier: inside(extension?.at(-1))[0]?.contents };
}

interface Element {
  readonly tag: number;
  readonly contents: Buffer;
  readonly whole: Buffer;
}

const NOTHING = Buffer.alloc(0);

/** The elements in another one, one after the other, in DER that OpenSSL has read before. */
function inside(outer: Pick<Element, 'contents'> | undefined): readonly Element[] {
  const bytes = outer?.contents ?? NOTHING;
  const found: Element[] = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const short = bytes.readUInt8(at + 1);
    const extra = short < 0x80 ? 0 : short & 0x7f;
    const length = extra === 0 ? short : bytes.readUIntBE(at + 2, extra);
    const start = at + 2 + extra;
    found.push({ tag: bytes.readUInt8(at), contents: bytes.subarray(start, start + length), whole: bytes.subarray(at, start + length) });
    at = start + length;
  }
  return found;
}
