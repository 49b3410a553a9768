// An issuer for one person on one machine: a key of the user's own, in kz's folder, and tokens that are signed with it. Nobody else trusts it:
// a bundle does that holds its public key.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { KzError } from '../../core/errors.ts';
import { withFileLock } from '../../core/file-lock.ts';
import { readPrivateFile, writePrivateFile } from '../../core/private-file.ts';

/** `.invalid` belongs to nobody (RFC 2606). */
export const LOCAL_ISSUER_URL = 'https://local.keyzero.invalid';

export interface LocalKey {
  readonly private: KeyObject;
  /** SPKI, PEM. */
  readonly publicPem: string;
  /** Of the public key, so that a bundle can tell which one it has. */
  readonly kid: string;
}

/** For another one that makes the key: it takes milliseconds. */
const LONGEST_WAIT_MS = 10_000;

export function localKeyPath(userDirectory: string): string {
  return join(userDirectory, 'issuer.pem');
}

/**
 * The user's key, made when there is none: one for all who ask at the same time. Throws `config-untrusted` for one that others can read,
 * `config-invalid` for what is no such key.
 */
export async function ensureLocalKey(path: string, signal = AbortSignal.timeout(LONGEST_WAIT_MS)): Promise<LocalKey> {
  return knownKey(path) ?? withFileLock(path, async () => knownKey(path) ?? makeKey(path), signal);
}

/** Throws also `config-not-found`. */
export function readLocalKey(path: string): LocalKey {
  const known = knownKey(path);
  if (known !== undefined) return known;
  throw new KzError('config-not-found', `there is no key ${path}`, { hint: 'run `kz server init`' });
}

function knownKey(path: string): LocalKey | undefined {
  const known = readPrivateFile(path);
  return known === undefined ? undefined : asLocalKey(path, Buffer.from(known).toString('utf8'));
}

async function makeKey(path: string): Promise<LocalKey> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await writePrivateFile(path, Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })));
  return localKey(privateKey);
}

function asLocalKey(path: string, pem: string): LocalKey {
  const key = parsed(pem);
  if (key?.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return localKey(key);
  throw new KzError('config-invalid', `${path} is no private key that kz signs tokens with`, {
    hint: 'it takes a P-256 key: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256',
    at: { file: path },
  });
}

function parsed(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}

function localKey(key: KeyObject): LocalKey {
  const spki = createPublicKey(key);
  const kid = createHash('sha256')
    .update(spki.export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 16);
  return { private: key, publicPem: spki.export({ type: 'spki', format: 'pem' }).toString().trim(), kid };
}

export interface TokenRequest {
  readonly issuer: string;
  readonly audience: string;
  readonly subject: string;
  readonly claims: Readonly<Record<string, string>>;
  readonly ttlMs: number;
  /** Default: the key's own. */
  readonly kid: string | undefined;
}

/** A JWT (ES256). */
export async function signToken(key: LocalKey, { issuer, audience, subject, claims, ttlMs, kid }: TokenRequest): Promise<string> {
  const { SignJWT } = await import('jose');
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ ...claims })
    .setProtectedHeader({ alg: 'ES256', typ: 'JWT', kid: kid ?? key.kid })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject(subject)
    .setIssuedAt(now)
    .setExpirationTime(now + Math.floor(ttlMs / 1000))
    .setJti(crypto.randomUUID())
    .sign(key.private);
}

/** A bundle to start from: one issuer, one policy, one credential that lives in kz's own store. */
export function starterBundle({ publicPem, kid }: Pick<LocalKey, 'publicPem' | 'kid'>): string {
  const pem = publicPem
    .split('\n')
    .map((line) => `          ${line}`)
    .join('\n');
  return `# Who may use which credential, and where it lives. Reference: docs/bundle.md. Check it with \`kz server check -b bundle.yaml\`.
version: "1"

# Whose tokens are taken. This one is yours: \`kz server token\` signs with its key, which stays in your own folder.
issuers:
  - name: local
    issuer_url: ${LOCAL_ISSUER_URL}
    type: custom
    audience: kz
    map: { actor: claims.sub }
    static_keys:
      - kid: "${kid}"
        alg: ES256
        pem: |
${pem}

# From top to bottom, the first one that is true decides; what none allows is denied.
policies:
  - name: agent-reads-github
    rule: actor == 'agent' && ref == 'github/pat' && request.method in ['', 'GET']
    effect: allow

# What there is, and the only requests that its value may travel in.
resources:
  - ref: github/pat
    resolver: store
    from: github-pat
    hosts: [api.github.com]
    methods: [GET]
    check: GET https://api.github.com/user
    description: GitHub, reading only

# Where the values live: the same providers as in .keyzero.toml.
backends:
  store: { type: store }
`;
}
