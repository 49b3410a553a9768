// Keys that the bundle itself holds, or names a file or a variable for. Each is for one algorithm. What is weak, private or of the wrong kind is
// refused when the bundle is opened. No message holds key material.
import { createPublicKey, createSecretKey, type KeyObject } from 'node:crypto';
import type { StaticKey } from '../../config/bundle.ts';
import { KzError, systemCode } from '../../core/errors.ts';
import { readGuardedFile } from '../../providers/guarded-file.ts';
import { algorithmsOf, isWeak, SYMMETRIC, type VerifyKey } from './jwks-key.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Throws `config-invalid` at the key's place. */
export async function openStaticKey(entry: StaticKey, env: Env): Promise<VerifyKey> {
  const material = await readMaterial(entry, env);
  const key = SYMMETRIC.includes(entry.alg) ? secretKey(entry, material) : publicKey(entry, material);
  return { kid: entry.kid, algorithms: [entry.alg], key };
}

async function readMaterial(entry: StaticKey, env: Env): Promise<Buffer> {
  const { pem, pemFile, secretEnv } = entry;
  if (pem !== undefined) return withoutLineEnd(Buffer.from(pem));
  if (pemFile !== undefined) return withoutLineEnd(await readFile(entry, pemFile));
  const value = env[secretEnv ?? ''] ?? '';
  if (value !== '') return Buffer.from(value);
  const problem = secretEnv === undefined ? 'has no key material' : `needs the variable ${JSON.stringify(secretEnv)}, which is not set`;
  throw refusal(entry, problem, secretEnv === undefined ? 'write `pem`, `pem_file` or `secret_env`' : `start kz with ${secretEnv} set`);
}

async function readFile(entry: StaticKey, path: string): Promise<Buffer> {
  try {
    return Buffer.from(await readGuardedFile(path, { label: `file ${JSON.stringify(path)}`, maxMebibytes: 1 }));
  } catch (cause) {
    const problem = cause instanceof KzError ? cause.message : (systemCode(cause) ?? 'unknown error');
    throw refusal(entry, `cannot be read from ${JSON.stringify(path)}: ${problem}`, 'correct `pem_file`', cause);
  }
}

/** An editor ends a file with one, and so does a block of YAML. */
function withoutLineEnd(bytes: Buffer): Buffer {
  const end = bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? -2 : -1) : undefined;
  return bytes.subarray(0, end);
}

/** RFC 7518, section 3.2: as long as the hash. */
function secretKey(entry: StaticKey, material: Buffer): KeyObject {
  const least = Number(entry.alg.slice(2)) / 8;
  if (material.length < least) {
    const problem = `has ${String(material.length)} bytes of key material; ${entry.alg} needs at least ${String(least)}`;
    throw refusal(entry, problem, `make one with \`openssl rand -base64 ${String(least)}\``);
  }
  // A public key is known to all: whoever has it could sign.
  if (material.includes('-----BEGIN ')) {
    throw refusal(entry, 'is a PEM key, which is no secret to share', `write the algorithm of the key pair instead of ${entry.alg}`);
  }
  return createSecretKey(material);
}

function publicKey(entry: StaticKey, material: Buffer): KeyObject {
  if (material.includes('PRIVATE KEY-----')) {
    throw refusal(entry, 'is a private key; kz only needs the public one', 'write the output of `openssl pkey -in KEY -pubout`');
  }
  const key = parsePem(entry, material);
  const algorithms = algorithmsOf(key);
  if (!algorithms.includes(entry.alg)) {
    const kind = algorithms.length === 0 ? 'of a kind that signs no JWT' : `for ${algorithms.join(', ')}`;
    throw refusal(entry, `is ${kind}, not for ${JSON.stringify(entry.alg)}`, 'correct `alg`, or the key');
  }
  if (isWeak(key)) throw refusal(entry, 'is too weak: RSA keys have 2048 bits or more', 'make a new key pair');
  return key;
}

function parsePem(entry: StaticKey, material: Buffer): KeyObject {
  try {
    return createPublicKey({ key: material, format: 'pem' });
  } catch (cause) {
    throw refusal(entry, 'is no PEM public key', 'it starts with `-----BEGIN PUBLIC KEY-----`', cause);
  }
}

function refusal({ kid, alg, at }: StaticKey, problem: string, hint: string, cause?: unknown): KzError {
  const name = kid === undefined ? `the ${alg} key` : `the key ${JSON.stringify(kid)}`;
  return new KzError('config-invalid', `${name} ${problem}`, { at, hint, cause });
}
