// The certificate authorities that this machine, Node and the variables of kz's own environment trust, as PEM. Nothing here parses a
// certificate (every blind run waits for this), and nothing but certificates leaves a file, whatever else it holds.
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { KzError, systemCode } from '../core/errors.ts';
import { certificatePem } from './der.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface Roots {
  /** PEM, each certificate once, with a line end. */
  readonly certificates: readonly string[];
  /** Files that a variable names and that gave no certificate, in words for a person. */
  readonly warnings: readonly string[];
}

/** Where a machine keeps its roots; tests bring their own. */
export interface RootSources {
  /** The first one that is there counts. */
  readonly systemFiles: readonly string[];
  readonly builtIn: readonly string[];
  /** PEM of what lives in no file. */
  readonly keychain: () => Promise<string>;
}

/** A few hundred roots are 300 KB. */
const LARGEST_FILE = 16 * 1024 * 1024;
const MOST_FILES = 1_000;
const KEYCHAIN_TIMEOUT_MS = 3_000;

/** Which variable names a file (or, where its readers take one, a folder) with authorities. */
export const AUTHORITY_FILE_VARIABLES = [
  'NODE_EXTRA_CA_CERTS',
  'SSL_CERT_FILE',
  'REQUESTS_CA_BUNDLE',
  'CURL_CA_BUNDLE',
  'GIT_SSL_CAINFO',
  'AWS_CA_BUNDLE',
  'PIP_CERT',
  'CARGO_HTTP_CAINFO',
  'DENO_CERT',
  'NIX_SSL_CERT_FILE',
  'HTTPLIB2_CA_CERTS',
  'npm_config_cafile',
  'NPM_CONFIG_CAFILE',
  'YARN_HTTPS_CA_FILE_PATH',
  'BUNDLE_SSL_CA_CERT',
  'COMPOSER_CAFILE',
  'GRPC_DEFAULT_SSL_ROOTS_FILE_PATH',
  'CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE',
  'HEX_CACERTS_PATH',
] as const;

const THIS_MACHINE: RootSources = {
  systemFiles: [
    '/etc/ssl/certs/ca-certificates.crt', // Debian, Arch, NixOS
    '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
    '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', // Fedora 43, RHEL 10
    '/etc/ssl/ca-bundle.pem', // SUSE
    '/etc/ssl/cert.pem', // Alpine, macOS
  ],
  builtIn: rootCertificates,
  keychain: () => (process.platform === 'darwin' ? systemKeychain() : Promise.resolve('')),
};

/** The folders beside the system's bundle: 300 files with the same certificates once more. */
const SYSTEM_FOLDERS = ['/etc/ssl/certs', '/etc/pki/tls/certs', '/etc/ssl', '/usr/lib/ssl/certs'];

/** Everything that was trusted before, by kz or by what it starts. A source that cannot be read is a warning, never a failure. */
export async function trustedRoots(parent: Env, sources: RootSources = THIS_MACHINE): Promise<Roots> {
  const fromKeychain = sources.keychain();
  const found = new Map<string, string>();
  const add = (certificate: string): unknown => found.set(certificate.replaceAll('\n', ''), certificate);
  const warnings: string[] = [];
  const system = firstReadable(sources.systemFiles);
  for (const certificate of [...sources.builtIn.map((text) => `${text.trimEnd()}\n`), ...system.certificates]) add(certificate);
  const read = new Set([system.path]);
  for (const [variable, path] of namedPaths(parent)) {
    if (read.has(path)) continue;
    read.add(path);
    const { certificates, problem } = readSource(path);
    for (const certificate of certificates) add(certificate);
    if (problem !== undefined) warnings.push(`cannot use the authorities in ${path} that ${variable} names: ${problem}`);
  }
  for (const certificate of certificatesIn(await fromKeychain).filter(isAuthority)) add(certificate);
  return { certificates: [...found.values()], warnings };
}

/** What `upstream_ca` names. Throws `config-invalid`: who asks for an authority must not run without it. */
export function upstreamAuthorities(path: string): readonly string[] {
  const { certificates, problem } = readSource(path);
  if (problem === undefined) return certificates;
  throw new KzError('config-invalid', `cannot use the authorities in \`upstream_ca\` ${path}: ${problem}`, {
    hint: 'name a file with PEM certificates (-----BEGIN CERTIFICATE-----)',
  });
}

/** The certificates in that file, none if there is no such file. */
export function certificatesInFile(path: string): readonly string[] {
  return readSource(path).certificates;
}

const BLOCK = /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/g;
/** Lines of base64; `MI` is how that of a DER sequence of more than 127 bytes starts. */
const BASE64_LINES = /^\nMI[A-Za-z0-9+/=\n]+\n$/;

/** Every certificate in the text; private keys, comments and OpenSSL's TRUSTED form are left out, and so is what is no certificate. */
function certificatesIn(text: string): readonly string[] {
  const certificates: string[] = [];
  for (const [block, body = ''] of text.matchAll(BLOCK)) {
    // Clean already, which is nearly always: no need to decode.
    if (BASE64_LINES.test(body)) certificates.push(`${block}\n`);
    else {
      const der = Buffer.from(body, 'base64');
      if (isDerSequence(der)) certificates.push(certificatePem(der));
    }
  }
  return certificates;
}

function isDerSequence(der: Buffer): boolean {
  const announced = der.length > 4 && der[0] === 0x30 && der[1] === 0x82 ? der.readUInt16BE(2) + 4 : -1;
  return announced === der.length || (der[0] === 0x30 && der[1] === 0x81 && (der[2] ?? 0) + 3 === der.length);
}

function firstReadable(paths: readonly string[]): { readonly path: string; readonly certificates: readonly string[] } {
  for (const path of paths) {
    const { certificates } = readSource(path);
    if (certificates.length > 0) return { path, certificates };
  }
  return { path: '', certificates: [] };
}

function namedPaths(parent: Env): readonly (readonly [variable: string, path: string])[] {
  const folders = (parent.SSL_CERT_DIR ?? '').split(':').filter((path) => !SYSTEM_FOLDERS.includes(path.replace(/\/+$/, '')));
  return [
    ...AUTHORITY_FILE_VARIABLES.map((name) => [name, parent[name] ?? ''] as const),
    ...folders.map((path) => ['SSL_CERT_DIR', path] as const),
  ].filter(([, path]) => path !== '');
}

interface Source {
  readonly certificates: readonly string[];
  readonly problem?: string;
}

function readSource(path: string): Source {
  try {
    const stat = statSync(path);
    const certificates = stat.isDirectory() ? readFolder(path) : certificatesIn(readRegular(path));
    return certificates.length > 0 ? { certificates } : { certificates, problem: 'it holds no PEM certificate' };
  } catch (error) {
    return { certificates: [], problem: reason(error) };
  }
}

/** OpenSSL reads the hashed names only, Go every file; so every file. */
function readFolder(folder: string): readonly string[] {
  const names = readdirSync(folder).slice(0, MOST_FILES);
  return names.flatMap((name) => {
    try {
      return certificatesIn(readRegular(join(folder, name)));
    } catch {
      return [];
    }
  });
}

class NotUsable extends Error {}

/** A device or a pipe would make kz wait, or never end. */
function readRegular(path: string): string {
  const stat = statSync(path);
  if (!stat.isFile()) throw new NotUsable('it is not a regular file');
  if (stat.size > LARGEST_FILE) throw new NotUsable('it is larger than 16 MiB');
  return readFileSync(path, 'latin1');
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  ENOTDIR: 'a part of the path is not a folder',
  ELOOP: 'too many symbolic links',
};

function reason(error: unknown): string {
  if (error instanceof NotUsable) return error.message;
  const code = systemCode(error) ?? 'unknown error';
  return REASONS[code] ?? code;
}

/** Where a company's device management puts its roots; /etc/ssl/cert.pem has Apple's only. */
function systemKeychain(): Promise<string> {
  const args = ['find-certificate', '-a', '-p', '/Library/Keychains/System.keychain'];
  return new Promise((resolve) => {
    execFile('/usr/bin/security', args, { timeout: KEYCHAIN_TIMEOUT_MS, maxBuffer: LARGEST_FILE }, (error, stdout) => {
      resolve(error === null ? stdout : '');
    });
  });
}

/** The keychain also holds the machine's own certificates, which sign nothing. */
function isAuthority(certificate: string): boolean {
  try {
    return new X509Certificate(certificate).ca;
  } catch {
    return false;
  }
}
