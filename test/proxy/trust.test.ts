// Every client that is installed here, against a proxy that asks for the run's credential: it must find the proxy, send the credential
// and trust the run's authority, by its environment alone. The upstream is the proxy itself; names resolve nowhere.
import { spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { prepareTrust, TRUST_VARIABLES, type TrustInput } from '../../src/proxy/trust.ts';

const URL_UPSTREAM = 'https://api.example.test/greeting';
const CREDENTIAL = 'CANARY-run-credential';

let authority: Authority;
let other: string;
let top: string;
let folder: string;

beforeAll(() => {
  authority = Authority.create();
  other = Authority.create().certificate;
});

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'kz-trust-'));
  // Awkward on purpose: NODE_OPTIONS and JAVA_TOOL_OPTIONS each have their own rules for such a path.
  folder = join(top, "it's a run");
  mkdirSync(folder, { mode: 0o700 });
});

afterEach(() => {
  rmSync(top, { recursive: true });
});

function prepare(input: Partial<TrustInput> = {}): Promise<Readonly<Record<string, string>>> {
  const proxyUrl = `http://kz:${CREDENTIAL}@127.0.0.1:40001`;
  return prepareTrust({ folder, authority, roots: [other], proxyUrl, parent: {}, preload: '/opt/kz/preload.cjs', home: top, ...input });
}

describe('the files', () => {
  it('are private and hold what they should', async () => {
    await prepare();
    expect(readdirSync(folder).sort()).toEqual(['bundle.pem', 'ca.pem', 'node-extra.pem', 'truststore.p12', 'wgetrc']);
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(folder, 'bundle.pem'), 'utf8')).toBe(other + authority.certificate);
    expect(readFileSync(join(folder, 'ca.pem'), 'utf8')).toBe(authority.certificate);
    expect(readFileSync(join(folder, 'node-extra.pem'), 'utf8')).toBe(authority.certificate);
  });

  it('never replace what is there', async () => {
    writeFileSync(join(folder, 'ca.pem'), 'somebody else’s');
    await expect(prepare()).rejects.toMatchObject({ code: 'write-failed' });
    expect(readFileSync(join(folder, 'ca.pem'), 'utf8')).toBe('somebody else’s');
  });

  it('keep for Node what the parent gave Node', async () => {
    writeFileSync(join(top, 'company.pem'), other);
    await prepare({ parent: { NODE_EXTRA_CA_CERTS: join(top, 'company.pem') } });
    expect(readFileSync(join(folder, 'node-extra.pem'), 'utf8')).toBe(authority.certificate + other);
  });
});

describe('the variables', () => {
  it('are all of the announced ones', async () => {
    const variables = await prepare();
    expect(Object.keys(variables).sort()).toEqual([...TRUST_VARIABLES].sort());
    for (const name of ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy', 'KEYZERO_PROXY']) {
      expect(variables[name]).toBe(`http://kz:${CREDENTIAL}@127.0.0.1:40001`);
    }
    expect(variables).toMatchObject({ NO_PROXY: '', no_proxy: '', KEYZERO_CA: join(folder, 'ca.pem') });
    for (const [name, value] of Object.entries(variables)) {
      if (value.startsWith(folder)) expect(statSync(value).isFile(), name).toBe(true);
    }
  });

  it('add to NODE_OPTIONS, in a way that Node reads', async () => {
    const awkward = join(top, 'with space "quote" \\back');
    mkdirSync(awkward);
    const preload = join(awkward, 'preload.cjs');
    writeFileSync(preload, 'globalThis.loaded = (globalThis.loaded ?? 0) + 1;');
    const { NODE_OPTIONS = '' } = await prepare({ preload, parent: { NODE_OPTIONS: '--title=mine' } });
    const script = 'process.stdout.write(`${process.title} ${globalThis.loaded}`)';
    expect(spawnSync(process.execPath, ['-e', script], { env: { NODE_OPTIONS }, encoding: 'utf8' }).stdout).toBe('mine 1');
  });

  it('do not repeat the preload when kz runs within kz', async () => {
    const { NODE_OPTIONS = '' } = await prepare();
    for (const name of readdirSync(folder)) rmSync(join(folder, name));
    expect((await prepare({ parent: { NODE_OPTIONS } })).NODE_OPTIONS).toBe('--require "/opt/kz/preload.cjs"');
  });

  it('keep of JAVA_TOOL_OPTIONS what is neither a way out nor a password', async () => {
    const kept = `-Xmx1g -Dname="two words" '-Da=b c'`;
    const dropped = `-Dhttps.proxyHost=corp -DsocksProxyHost=corp -Dhttp.proxyPassword="CANARY a b" -Djavax.net.ssl.keyStorePassword=CANARY`;
    const { JAVA_TOOL_OPTIONS = '' } = await prepare({ parent: { JAVA_TOOL_OPTIONS: `${kept} ${dropped}` } });
    expect(JAVA_TOOL_OPTIONS.startsWith(`${kept} -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=40001 `)).toBe(true);
    expect(JAVA_TOOL_OPTIONS).not.toMatch(/corp|CANARY a b|keyStorePassword/);
    // JDK 8 ignores a longer one.
    expect(JAVA_TOOL_OPTIONS.length).toBeLessThan(1_024);
    expect(JAVA_TOOL_OPTIONS).toContain(`'-Djavax.net.ssl.trustStore=${top}/it'"'"'s a run/truststore.p12'`);
  });
});

describe('the wgetrc', () => {
  const GIVEN = [
    '# my settings',
    'tries = 3',
    'user_agent = mine',
    'http_user = me',
    'httpPassword = CANARY-1',
    'Header = Authorization: CANARY-2',
    'HTTPS-PROXY = http://corp:3128',
    'ca_certificate=/old.pem',
    '',
  ];

  it.each(['WGETRC', 'home'])('is the user’s (%s) without credentials and other ways out', async (from) => {
    writeFileSync(join(top, '.wgetrc'), from === 'home' ? GIVEN.join('\n') : 'tries = 9\n');
    writeFileSync(join(top, 'other'), GIVEN.join('\n'));
    const { WGETRC = '' } = await prepare({ parent: from === 'home' ? {} : { WGETRC: join(top, 'other') } });
    const proxyUrl = `http://kz:${CREDENTIAL}@127.0.0.1:40001`;
    const ours = [
      `ca_certificate = ${folder}/bundle.pem`,
      'use_proxy = on',
      `http_proxy = ${proxyUrl}`,
      `https_proxy = ${proxyUrl}`,
      'no_proxy =',
    ];
    expect(readFileSync(WGETRC, 'utf8').split('\n')).toEqual(['# my settings', 'tries = 3', 'user_agent = mine', '', ...ours, '']);
  });
});

/** Answers CONNECT for any name, with a certificate for it. */
class Proxy {
  readonly #sites = http.createServer((request, response) => {
    this.requests.push(`${request.headers.host ?? ''}${request.url ?? ''}`);
    response.setHeader('connection', 'close').end('hello from upstream\n');
  });
  readonly #server = http.createServer((request, response) => {
    this.requests.push(request.url ?? '');
    response.writeHead(this.#known(request) ? 200 : 407, { 'proxy-authenticate': 'Basic realm="kz"' }).end('hello from upstream\n');
  });
  readonly requests: string[] = [];

  async listen(): Promise<string> {
    this.#server.on('connect', (request, socket) => {
      if (!this.#known(request)) {
        socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="kz"\r\nContent-Length: 0\r\n\r\n');
        return;
      }
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      const secureContext = authority.contextFor((request.url ?? '').replace(/:\d+$/, ''));
      const secure = new tls.TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] });
      secure.on('error', (error: Error) => this.requests.push(error.message));
      this.#sites.emit('connection', secure);
    });
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
    return `http://kz:${CREDENTIAL}@127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await once(this.#server.close(), 'close');
  }

  #known(request: http.IncomingMessage): boolean {
    return request.headers['proxy-authorization'] === `Basic ${Buffer.from(`kz:${CREDENTIAL}`).toString('base64')}`;
  }
}

const has = (program: string, ...args: string[]): boolean => spawnSync(program, args, { env: { PATH: process.env.PATH } }).status === 0;

const goCache = (): string => spawnSync('go', ['env', 'GOCACHE'], { encoding: 'utf8' }).stdout.trim();

const STRICT_PYTHON = `
import ssl, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
print(urllib.request.urlopen('${URL_UPSTREAM}', context=context).read().decode())`;

const GO = `package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
	response, err := http.Get(os.Args[1])
	if err != nil { fmt.Println(err); os.Exit(1) }
	text, _ := io.ReadAll(response.Body)
	fmt.Print(string(text))
}
`;

const JAVA = `import java.net.*;
public class Get {
  public static void main(String[] args) throws Exception {
    Authenticator.setDefault(new Authenticator() {
      protected PasswordAuthentication getPasswordAuthentication() {
        String[] login = java.net.URI.create(System.getenv("HTTPS_PROXY")).getUserInfo().split(":");
        return new PasswordAuthentication(login[0], login[1].toCharArray());
      }
    });
    System.out.print(new String(new URL(args[0]).openStream().readAllBytes()));
  }
}
`;

/** Looks at the file only: a client of Node's goes through the preload, which has tests of its own. */
const NODE = `
const { hostname, port, username, password } = new URL(process.env.HTTPS_PROXY);
const headers = { 'proxy-authorization': 'Basic ' + btoa(username + ':' + password) };
const tunnel = require('http').request({ hostname, port, method: 'CONNECT', path: 'api.example.test:443', headers }).end();
tunnel.on('connect', (_, socket) => {
  const options = { socket, servername: 'api.example.test', agent: false };
  require('https').get('${URL_UPSTREAM}', { defaultPort: 443, createConnection: () => require('tls').connect(options) }, (response) => response.pipe(process.stdout));
});`;

interface Client {
  readonly name: string;
  readonly there: boolean;
  readonly command: readonly string[];
  /** When the answer is no use to the client, having asked is enough. */
  readonly asks?: string;
  readonly source?: readonly [file: string, text: string];
}

const CLIENTS: readonly Client[] = [
  { name: 'curl', there: has('curl', '--version'), command: ['curl', '-sS', URL_UPSTREAM] },
  { name: 'wget', there: has('wget', '--version'), command: ['wget', '-qO-', URL_UPSTREAM] },
  { name: 'python3', there: has('python3', '--version'), command: ['python3', '-c', STRICT_PYTHON] },
  { name: 'node', there: true, command: [process.execPath, '-e', NODE] },
  {
    name: 'git',
    there: has('git', '--version'),
    command: ['git', 'ls-remote', 'https://git.example.test/a.git'],
    asks: 'git.example.test/a.git/info/refs?service=git-upload-pack',
  },
  { name: 'go', there: has('go', 'version'), command: ['go', 'run', 'get.go', URL_UPSTREAM], source: ['get.go', GO] },
  { name: 'java', there: has('javac', '-version'), command: ['java', 'Get.java', URL_UPSTREAM], source: ['Get.java', JAVA] },
];

describe('the clients', () => {
  let proxy: Proxy;

  beforeEach(() => {
    proxy = new Proxy();
  });

  afterEach(() => proxy.close());

  async function run(command: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
    const [program = '', ...args] = command;
    const child = spawn(program, args, { cwd: top, env: { PATH: process.env.PATH, HOME: top, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await once(child, 'close');
    return out;
  }

  for (const { name, there, command, asks = 'api.example.test/greeting', source } of CLIENTS) {
    it.skipIf(!there)(`${name}${there ? '' : ' (it is not installed)'}`, { timeout: 120_000 }, async () => {
      if (source !== undefined) writeFileSync(join(top, source[0]), source[1]);
      const preload = join(top, 'preload.cjs');
      writeFileSync(preload, '');
      const trust = await prepare({ proxyUrl: await proxy.listen(), preload });
      // With a cache of its own, go would compile its standard library first.
      const out = await run(command, name === 'go' ? { ...trust, GOCACHE: goCache() } : trust);
      if (asks === 'api.example.test/greeting') expect(out).toContain('hello from upstream');
      expect(proxy.requests, out).toContain(asks);
    });
  }

  it.skipIf(!has('curl', '--version'))('curl without TLS', async () => {
    const trust = await prepare({ proxyUrl: await proxy.listen() });
    expect(await run(['curl', '-sS', 'http://api.example.test/plain'], trust)).toBe('hello from upstream\n');
    expect(proxy.requests).toEqual(['http://api.example.test/plain']);
  });
});

it('gives a bundle whose every certificate can be read', async () => {
  const { SSL_CERT_FILE = '' } = await prepare();
  const blocks = readFileSync(SSL_CERT_FILE, 'utf8').split(/(?<=-----END CERTIFICATE-----\n)/);
  expect(blocks.map((block) => new X509Certificate(block).ca)).toEqual([true, true]);
});
