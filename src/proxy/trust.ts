// What makes a blind child use the proxy and trust the run's authority: a few files in the run's private folder, and the variables that
// point at them. The literal table below says which client reads which variable. Routing, not containment: a child can ignore it all.
import { readFile, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { writeError } from '../core/private-file.ts';
import { certificatesInFile } from './roots.ts';
import { TRUST_STORE_PASSWORD, trustStore } from './trust-store.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface TrustInput {
  /** An existing folder that is this run's own and 0700. */
  readonly folder: string;
  readonly authority: { readonly certificate: string };
  /** PEM: what the parent trusted. */
  readonly roots: readonly string[];
  /** With the run's credential: `http://kz:credential@127.0.0.1:port`. */
  readonly proxyUrl: string;
  readonly parent: Env;
  /** The program has a loopback of its own, to which nobody needs a proxy. */
  readonly ownLoopback?: boolean | undefined;
  /** Absolute path of the preload for Node. */
  readonly preload: string;
  readonly home?: string | undefined;
}

/** What a variable holds. */
type Content = 'proxy' | 'direct' | 'bundle' | 'authority' | 'nodeExtra' | 'nodeOptions' | 'javaToolOptions' | 'wgetrc' | 'basic';

const VARIABLES: Readonly<Record<string, Content>> = {
  // Both cases: curl and Perl read http_proxy only, .NET and some Node libraries the upper case first, most others either.
  HTTP_PROXY: 'proxy',
  http_proxy: 'proxy',
  HTTPS_PROXY: 'proxy',
  https_proxy: 'proxy',
  ALL_PROXY: 'proxy', // curl, httpx and reqwest, for schemes with no variable of their own (ws, wss)
  all_proxy: 'proxy',
  NO_PROXY: 'direct',
  no_proxy: 'direct',
  GIT_HTTP_PROXY_AUTHMETHOD: 'basic', // git: credential with the first CONNECT, not after a 407
  npm_config_proxy: 'proxy', // npm, pnpm, Yarn 1: goes before a `proxy` in .npmrc
  npm_config_https_proxy: 'proxy',

  SSL_CERT_FILE: 'bundle', // OpenSSL's default store (Python ssl, httpx, Ruby, .NET, curl where built so), Go on Linux, rustls, uv
  REQUESTS_CA_BUNDLE: 'bundle', // Python requests (pip, Poetry, Azure CLI, conda)
  CURL_CA_BUNDLE: 'bundle', // the curl program; also requests
  GIT_SSL_CAINFO: 'bundle', // git
  AWS_CA_BUNDLE: 'bundle', // aws, boto3, AWS SDKs
  PIP_CERT: 'bundle', // pip
  CARGO_HTTP_CAINFO: 'bundle', // cargo
  DENO_CERT: 'bundle', // Deno, beside its own roots
  NIX_SSL_CERT_FILE: 'bundle', // Nix, and everything from nixpkgs before SSL_CERT_FILE
  HTTPLIB2_CA_CERTS: 'bundle', // Python httplib2 (older Google clients, gsutil)
  npm_config_cafile: 'bundle', // npm, pnpm, Yarn 1
  YARN_HTTPS_CA_FILE_PATH: 'bundle', // Yarn 2 and later
  BUNDLE_SSL_CA_CERT: 'bundle', // Ruby's bundler
  COMPOSER_CAFILE: 'bundle', // PHP's composer
  GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: 'bundle', // gRPC C core (Python, Ruby, C++), grpc-js
  CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE: 'bundle', // gcloud
  HEX_CACERTS_PATH: 'bundle', // Elixir's hex
  NODE_EXTRA_CA_CERTS: 'nodeExtra', // Node and Bun, beside their own roots
  WGETRC: 'wgetrc', // wget with GnuTLS reads no variable that names a bundle

  KEYZERO_PROXY: 'proxy', // kz's preload for Node
  KEYZERO_CA: 'authority', // the same, for programs with a list of their own; and whoever has to import the authority somewhere
  NODE_OPTIONS: 'nodeOptions', // Node
  JAVA_TOOL_OPTIONS: 'javaToolOptions', // every JVM
};

/** The names that `prepareTrust` sets, always all of them. */
export const TRUST_VARIABLES: readonly string[] = Object.keys(VARIABLES);

/** Writes the files, 0600, and returns every variable. Throws `write-failed`. */
export async function prepareTrust(input: TrustInput): Promise<Readonly<Record<string, string>>> {
  const { folder, authority, roots, parent, proxyUrl } = input;
  const at = (name: string): string => join(folder, name);
  const own = authority.certificate;
  await writePrivate(at('bundle.pem'), [...roots, own].join(''));
  await writePrivate(at('ca.pem'), own);
  await writePrivate(at('node-extra.pem'), [own, ...nodeExtra(parent)].join(''));
  await writePrivate(at('truststore.p12'), trustStore([...roots, own]));
  await writePrivate(at('wgetrc'), await wgetrc(input, at('bundle.pem')));
  const contents: Readonly<Record<Content, string>> = {
    proxy: proxyUrl,
    direct: loopback(input).join(','),
    basic: 'basic',
    bundle: at('bundle.pem'),
    authority: at('ca.pem'),
    nodeExtra: at('node-extra.pem'),
    wgetrc: at('wgetrc'),
    nodeOptions: nodeOptions(parent.NODE_OPTIONS, input.preload),
    javaToolOptions: javaToolOptions(input, at('truststore.p12')),
  };
  return Object.fromEntries(Object.entries(VARIABLES).map(([name, content]) => [name, contents[content]]));
}

/** Hosts to which programs go without the proxy. Without a sandbox none: kz's rules are also about this machine. */
function loopback({ ownLoopback }: TrustInput): readonly string[] {
  return ownLoopback === true ? ['localhost', '127.0.0.1', '::1'] : [];
}

/** `wx`: the folder is new, so what is already there is not ours. */
async function writePrivate(path: string, contents: string | Uint8Array): Promise<void> {
  try {
    await writeFile(path, contents, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    throw writeError(path, error);
  }
}

/** Node adds this file to its own roots. The whole bundle would cost every start of Node in the child another 18 ms. */
function nodeExtra(parent: Env): readonly string[] {
  const path = parent.NODE_EXTRA_CA_CERTS ?? '';
  return path === '' ? [] : certificatesInFile(path);
}

/** In NODE_OPTIONS a double quote opens and closes, and a backslash escapes within. */
function nodeOptions(existing: string | undefined, preload: string): string {
  const option = `--require "${preload.replace(/["\\]/g, '\\$&')}"`;
  // kz inside a blind child: its environment has the option already.
  if (existing?.includes(option) === true) return existing;
  return joined(existing, [option]);
}

/**
 * Without the credential where the proxy knows its clients by their process: every JVM prints all of this on stderr when it starts. Elsewhere
 * it is there for the libraries that read it (Apache HttpClient, AWS SDK, Gradle, coursier); the JDK's own clients ask an Authenticator.
 * Below 1,024 bytes: JDK 8 ignores a longer variable.
 */
function javaToolOptions(input: TrustInput, store: string): string {
  const { proxyUrl, parent } = input;
  const existing = parent.JAVA_TOOL_OPTIONS;
  const { hostname, port, username, password } = new URL(proxyUrl);
  const login = process.platform === 'linux' ? [] : [['User', username] as const, ['Password', password] as const];
  const properties: readonly (readonly [string, string])[] = [
    ...['http', 'https'].flatMap((scheme) => [
      [`${scheme}.proxyHost`, hostname] as const,
      [`${scheme}.proxyPort`, port] as const,
      ...login.map(([what, text]) => [`${scheme}.proxy${what}`, decodeURIComponent(text)] as const),
    ]),
    ['http.nonProxyHosts', loopback(input).join('|')],
    // Java refuses Basic for CONNECT unless told.
    ['jdk.http.auth.tunneling.disabledSchemes', ''],
    ['javax.net.ssl.trustStore', store],
    ['javax.net.ssl.trustStoreType', 'PKCS12'],
    ['javax.net.ssl.trustStorePassword', TRUST_STORE_PASSWORD],
  ];
  return joined(
    existing
      ?.match(JAVA_OPTION)
      ?.filter((option) => !REPLACED_IN_JAVA.test(option.replace(/=.*$/s, '')))
      .join(' '),
    properties.map(([name, value]) => javaQuoted(`-D${name}=${value}`)),
  );
}

const JAVA_OPTION = /(?:[^\s'"]|'[^']*'|"[^"]*")+/g;
/** What ours replace, another way out, and passwords of the company's proxy and stores. */
const REPLACED_IN_JAVA = /proxy|socks|truststore|passw/i;

/** The JVM splits at white space outside of quotes of either kind, and knows no escapes. */
function javaQuoted(option: string): string {
  return /[\s'"]/.test(option) ? option.replace(/[^']+|'+/g, (run) => (run.startsWith("'") ? `"${run}"` : `'${run}'`)) : option;
}

function joined(existing: string | undefined, options: readonly string[]): string {
  return [...(existing === undefined || existing.trim() === '' ? [] : [existing]), ...options].join(' ');
}

/** Settings of a wgetrc that ours replace, or whose values are credentials: those stay where they are. */
const DROPPED_FROM_WGETRC = /user(?!agent)|passw|askpass|header|postdata|bodydata|proxy|cacertificate/;

const LARGEST_WGETRC = 64 * 1024;

/** The user's own settings, then ours. */
async function wgetrc(input: TrustInput, bundle: string): Promise<string> {
  const { parent, home, proxyUrl } = input;
  const given = parent.WGETRC ?? '';
  const theirs = await readSmall(given === '' ? join(home ?? parent.HOME ?? homedir(), '.wgetrc') : given);
  const kept = theirs.split('\n').filter((line) => !DROPPED_FROM_WGETRC.test(settingName(line)));
  const ours = [
    `ca_certificate = ${bundle}`,
    'use_proxy = on',
    `http_proxy = ${proxyUrl}`,
    `https_proxy = ${proxyUrl}`,
    `no_proxy = ${loopback(input).join(',')}`.trimEnd(),
  ];
  return [...kept, ...ours, ''].join('\n');
}

/** wget ignores case, dashes and underscores in it. */
function settingName(line: string): string {
  return line
    .replace(/=.*$/s, '')
    .replace(/[-_\s]/g, '')
    .toLowerCase();
}

async function readSmall(path: string): Promise<string> {
  try {
    const found = await stat(path);
    return found.isFile() && found.size <= LARGEST_WGETRC ? await readFile(path, 'utf8') : '';
  } catch {
    return '';
  }
}
