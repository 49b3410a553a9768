// The clients of the matrix: how each is started, where it puts the token, and what this machine lacks for it.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { folderOf, isInstalled, problemOf, PROGRAMS, PYTHON } from './parts.mjs';
import { SLOTS, type Slot } from './upstream.ts';

export interface Client {
  readonly name: string;
  /** Why it cannot be tested here. */
  readonly problem: string | undefined;
  /** `node` is the folder of the Node programs, beside which their libraries are. */
  readonly command: (node: string) => readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
  readonly slots: readonly Slot[];
  /** What the upstream speaks with it, where that is not the library's own business. */
  readonly httpVersion?: '1.1' | '2.0';
  /** WebSocket: what comes after the handshake. */
  readonly sendsMessage?: true;
  /** What it prints: the upstream's JSON, or something of its own. */
  readonly prints?: string;
  readonly inTheClear?: true;
  /** Its errors do not say what is wrong. */
  readonly silent?: true;
}

const NODES = [
  { version: 18, got: 'got-11', undici: 'undici-6' },
  { version: 20, got: 'got-14', undici: 'undici-7' },
  { version: 22, got: 'got-16', undici: 'undici-8' },
  { version: 24, got: 'got-16', undici: 'undici-8' },
  { version: 26, got: 'got-16', undici: 'undici-8' },
] as const;

/** The first Node with the browser's WebSocket. */
const WITH_WEBSOCKET = 22;

export const CLIENTS: readonly Client[] = [
  ...NODES.flatMap(nodeClients),
  ...otherJavaScript(),
  ...shellClients(),
  ...pythonClients(),
  ...compiledClients(),
  ruby(),
];

function nodeClients({ version, got, undici }: (typeof NODES)[number]): Client[] {
  const part = `node-${String(version)}`;
  const client = (program: string, more: Partial<Client> = {}, ...args: string[]): Client => ({
    name: `Node ${String(version)}: ${args[0] ?? program}`,
    problem: problemOf(part) ?? problemOf('node-modules'),
    command: (folder) => [join(folderOf(part), 'node'), join(folder, `${program}.mjs`), ...args],
    slots: SLOTS,
    ...more,
  });
  return [
    client('fetch'),
    client('https'),
    client('own-agent'),
    client('http', { inTheClear: true }),
    client('axios'),
    client('got', {}, got),
    client('node-fetch'),
    client('undici', {}, undici),
    client('ws', { slots: ['header', 'basic', 'query'], sendsMessage: true }),
    ...(version < WITH_WEBSOCKET ? [] : [client('websocket', { slots: ['query'], sendsMessage: true, silent: true })]),
    client('http2', { httpVersion: '2.0' }),
    client('grpc', { slots: ['header', 'basic'], httpVersion: '2.0' }),
  ];
}

/** They run the same programs. */
function otherJavaScript(): Client[] {
  const client = (runtime: string, args: readonly string[], program: string, more: Partial<Client> = {}): Client => ({
    name: `${runtime}: ${program}`,
    problem: problemOf(runtime) ?? problemOf('node-modules'),
    command: (folder) => [join(folderOf(runtime), runtime), ...args, join(folder, `${program}.mjs`)],
    slots: SLOTS,
    ...more,
  });
  const deno = ['run', '--allow-all'];
  return [
    // Bun's node:https and WebSocket read no proxy variables, and its sockets are not Node's: those reach nothing.
    ...['fetch', 'axios', 'node-fetch'].map((program) => client('bun', [], program)),
    ...['fetch', 'https', 'own-agent', 'axios', 'node-fetch'].map((program) => client('deno', deno, program)),
    client('deno', deno, 'websocket', { slots: ['query'], sendsMessage: true }),
  ];
}

function shellClients(): Client[] {
  const client = (program: string, more: Partial<Client> = {}, ...args: string[]): Client => ({
    name: [program, ...args].join(' '),
    problem: isInstalled(program) ? undefined : `no ${program}`,
    command: () => [join(PROGRAMS, 'shell', `${program}.sh`), ...args],
    slots: SLOTS,
    ...more,
  });
  const noHttp2 = curlKnowsHttp2() ? {} : { problem: 'no curl that knows HTTP/2' };
  return [
    client('curl', { httpVersion: '1.1' }, '--http1.1'),
    client('curl', { httpVersion: '2.0', ...noHttp2 }, '--http2'),
    client('wget'),
    client('git', { slots: ['header', 'basic'], prints: 'refs/heads/main' }),
  ];
}

function curlKnowsHttp2(): boolean {
  return isInstalled('curl') && execFileSync('curl', ['--version'], { encoding: 'utf8' }).includes('HTTP2');
}

function pythonClients(): Client[] {
  const client = (library: string, more: Partial<Client> = {}, ...args: string[]): Client => ({
    name: `Python: ${[library, ...args].join(' ')}`,
    problem: problemOf('python-modules'),
    command: () => [PYTHON, join(PROGRAMS, 'python', `with_${library}.py`), ...args],
    env: { PYTHONPATH: folderOf('python-modules'), PYTHONDONTWRITEBYTECODE: '1' },
    slots: SLOTS,
    ...more,
  });
  return [
    client('requests'),
    client('httpx', { httpVersion: '1.1' }),
    client('httpx', { httpVersion: '2.0' }, 'http2'),
    // Reads the proxy variables only with `trust_env=True`.
    client('aiohttp'),
    client('grpcio', { slots: ['header', 'basic'], httpVersion: '2.0' }),
    client('websockets', { slots: ['header', 'basic', 'query'], sendsMessage: true }),
    client('urllib', { problem: PYTHON === '' ? 'no python3' : undefined }),
  ];
}

function compiledClients(): Client[] {
  const http2 = { slots: SLOTS, httpVersion: '2.0' } as const;
  const jdk = (name: string): Client => ({
    name: `Java: ${name}`,
    problem: problemOf('java') ?? (process.platform === 'linux' ? undefined : 'kz knows processes by their connection on Linux only'),
    command: () => ['java', '-XX:TieredStopAtLevel=1', '-cp', folderOf('java'), 'Client', name],
    slots: SLOTS,
  });
  return [
    { name: 'Go: net/http', problem: problemOf('go'), command: () => [join(folderOf('go'), 'nethttp')], ...http2 },
    { name: 'Go: gRPC', problem: problemOf('go'), command: () => [join(folderOf('go'), 'grpc')], ...http2, slots: ['header', 'basic'] },
    { ...jdk('HttpClient'), httpVersion: '2.0' },
    { ...jdk('HttpURLConnection'), httpVersion: '1.1' },
    { name: 'Rust: reqwest', problem: problemOf('rust'), command: () => [join(folderOf('rust'), 'client')], ...http2 },
  ];
}

function ruby(): Client {
  const problem = isInstalled('ruby') ? undefined : 'no ruby';
  return { name: 'Ruby: net/http', problem, command: () => ['ruby', join(PROGRAMS, 'ruby/client.rb')], slots: SLOTS };
}
