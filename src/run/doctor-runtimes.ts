// The programs on PATH that blind mode has to lead through its proxy: where each is, which version, and by which variables it is led. What
// the variables are is in proxy/trust.ts; what they do not reach is in docs/limitations.md. Starts each with `--version` and nothing else.
import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ESSENTIAL, type Variables } from './environment.ts';

export interface Runtime {
  readonly name: string;
  /** Undefined: not on PATH. */
  readonly path: string | undefined;
  /** Undefined: it did not say. */
  readonly version: string | undefined;
  /** What leads it to kz's proxy, and what makes it trust the run's authority. */
  readonly proxy: string;
  readonly trust: string;
  /** What does not work with this version on this system. */
  readonly warnings: readonly string[];
  /** What does not work with any. */
  readonly limits: readonly string[];
}

export interface RuntimeOptions {
  readonly env: Variables;
  readonly platform?: NodeJS.Platform;
  readonly limitMs?: number;
}

const LIMIT_MS = 3_000;

/** In the order of the table; also those that are not there. Never throws. */
export function findRuntimes(
  { env, platform = process.platform, limitMs = LIMIT_MS }: RuntimeOptions,
  signal: AbortSignal,
): Promise<Runtime[]> {
  return Promise.all(
    RUNTIMES.map(async ({ name, programs, args, proxy, trust, warn, limits = [] }) => {
      const path = programs.map((program) => findOnPath(program, env.PATH)).find((found) => found !== undefined);
      const said = path === undefined || isStub(path, platform) ? undefined : await ask(path, { args, env, limitMs }, signal);
      const version = said === undefined ? undefined : versionIn(said);
      const warnings = path === undefined ? [] : (warn?.({ version: numbers(version), said: said ?? '', platform }) ?? []);
      return { name, path, version, proxy, trust, warnings, limits };
    }),
  );
}

/** Relative folders of PATH are passed over: what they hold depends on where kz is started. */
export function findOnPath(program: string, path = ''): string | undefined {
  const folders = path.split(':').filter((folder) => folder.startsWith('/'));
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

interface Facts {
  readonly version: readonly number[];
  /** What `--version` printed. */
  readonly said: string;
  readonly platform: NodeJS.Platform;
}

interface Row {
  readonly name: string;
  /** The first that is found counts. */
  readonly programs: readonly string[];
  readonly args: readonly string[];
  readonly proxy: string;
  readonly trust: string;
  readonly warn?: (facts: Facts) => readonly string[];
  readonly limits?: readonly string[];
}

const VERSION = ['--version'];
const VARIABLES = 'HTTPS_PROXY';

const RUNTIMES: readonly Row[] = [
  {
    name: 'node',
    programs: ['node'],
    args: VERSION,
    proxy: 'NODE_OPTIONS: a preload',
    trust: 'NODE_EXTRA_CA_CERTS',
    // Below: the private parts that the preload uses (preload/private-parts.ts); above: not tested.
    warn: ({ version }) =>
      between(version, [18, 20], [19]) || between(version, [20], [27])
        ? []
        : ['kz’s preload knows Node 18.20, and 20 to 26: with another, only libraries that read HTTPS_PROXY may go through kz'],
    limits: ['loopback is reached directly, past the rules'],
  },
  {
    name: 'python',
    programs: ['python3', 'python'],
    args: VERSION,
    proxy: VARIABLES,
    trust: 'SSL_CERT_FILE, REQUESTS_CA_BUNDLE',
    limits: ['aiohttp needs trust_env=True; a bare urllib3 PoolManager knows no proxy'],
  },
  {
    name: 'go',
    programs: ['go'],
    args: ['version'],
    proxy: VARIABLES,
    trust: 'SSL_CERT_FILE',
    warn: ({ platform }) =>
      platform === 'darwin' ? ['on macOS, Go programs ignore SSL_CERT_FILE and do not trust the run’s authority'] : [],
  },
  {
    name: 'java',
    programs: ['java'],
    // Java 8 does not know --version.
    args: ['-version'],
    proxy: 'JAVA_TOOL_OPTIONS',
    trust: 'JAVA_TOOL_OPTIONS',
    warn: ({ platform }) =>
      platform === 'linux' ? [] : ['the JDK’s own clients send no credential and get 407; kz knows a JVM by its process on Linux only'],
    limits: ['every JVM prints JAVA_TOOL_OPTIONS on standard error'],
  },
  { name: 'ruby', programs: ['ruby'], args: VERSION, proxy: VARIABLES, trust: 'SSL_CERT_FILE' },
  { name: 'deno', programs: ['deno'], args: VERSION, proxy: VARIABLES, trust: 'DENO_CERT' },
  {
    name: 'bun',
    programs: ['bun'],
    args: VERSION,
    proxy: VARIABLES,
    trust: 'NODE_EXTRA_CA_CERTS',
    warn: () => ['Bun’s node:https and WebSocket know no proxy: only its fetch goes through kz'],
  },
  {
    name: 'php',
    programs: ['php'],
    args: VERSION,
    proxy: VARIABLES,
    trust: 'COMPOSER_CAFILE (composer), SSL_CERT_FILE',
    warn: () => ['PHP’s own streams know no proxy, and its curl extension may have a list of authorities of its own; Composer is led'],
  },
  {
    name: 'rust',
    programs: ['cargo', 'rustc'],
    args: VERSION,
    proxy: VARIABLES,
    trust: 'CARGO_HTTP_CAINFO, SSL_CERT_FILE',
    limits: ['programs with built-in roots (reqwest with rustls-tls) do not trust the run’s authority'],
  },
  { name: 'curl', programs: ['curl'], args: VERSION, proxy: VARIABLES, trust: 'CURL_CA_BUNDLE', limits: ['~/.curlrc goes before'] },
  { name: 'git', programs: ['git'], args: VERSION, proxy: VARIABLES, trust: 'GIT_SSL_CAINFO', limits: ['~/.gitconfig goes before'] },
  {
    name: 'wget',
    programs: ['wget'],
    args: VERSION,
    proxy: 'WGETRC',
    trust: 'WGETRC',
    warn: ({ said }) => (/wget2/i.test(said) ? ['wget2 is not supported'] : []),
  },
];

interface Question {
  readonly args: readonly string[];
  readonly env: Variables;
  readonly limitMs: number;
}

const LARGEST_ANSWER = 65_536;

/**
 * What it printed; undefined when it failed or took too long. No shell, few variables, and not in the project's folder, where version managers
 * and toolchains would start to download things. A group of its own, so that what a version manager started ends with it.
 */
function ask(path: string, { args, env, limitMs }: Question, signal: AbortSignal): Promise<string | undefined> {
  const few = Object.fromEntries(ESSENTIAL.map((name) => [name, env[name]]));
  return new Promise((resolve) => {
    const child = started(path, args, { ...few, LC_ALL: 'C', GOTOOLCHAIN: 'local' });
    if (child === undefined) {
      resolve(undefined);
      return;
    }
    let said = '';
    const end = (answer?: string): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      resolve(answer);
    };
    const giveUp = (): void => {
      endGroup(child);
      end();
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('latin1').on('data', (chunk: string) => {
        said += chunk;
        if (said.length > LARGEST_ANSWER) giveUp();
      });
    }
    const timer = setTimeout(giveUp, limitMs);
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    child.once('error', giveUp);
    child.once('close', (code) => {
      end(code === 0 ? said : undefined);
    });
  });
}

function started(path: string, args: readonly string[], env: Variables): ChildProcess | undefined {
  try {
    return spawn(path, args, { cwd: '/', env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  } catch {
    return undefined;
  }
}

function endGroup({ pid, stdout, stderr }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // All of it is gone already.
  }
  stdout?.destroy();
  stderr?.destroy();
}

/** The first number that stands for itself (the 2 of `Wget2` does not), or follows `v` or `go`. Never more of what a program prints. */
function versionIn(text: string): string | undefined {
  return /(?<![\w.])(?:v|go)?(\d+(?:\.\d+)*[\w.+-]{0,24})/.exec(text)?.[1];
}

function numbers(version: string | undefined): readonly number[] {
  return (/^[\d.]+/.exec(version ?? '')?.[0] ?? '')
    .split('.')
    .filter((part) => part !== '')
    .map(Number);
}

/** True for a version that is not known. */
function between(version: readonly number[], least: readonly number[], below: readonly number[]): boolean {
  return version.length === 0 || (compare(version, least) >= 0 && compare(version, below) < 0);
}

function compare(one: readonly number[], other: readonly number[]): number {
  const index = other.findIndex((part, at) => part !== (one[at] ?? 0));
  return index === -1 ? 0 : (one[index] ?? 0) - (other[index] ?? 0);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** What macOS puts into /usr/bin opens a dialog that offers to install the real one. */
function isStub(path: string, platform: NodeJS.Platform): boolean {
  if (platform !== 'darwin' || !path.startsWith('/usr/bin/')) return false;
  const hasTools = ['/Library/Developer/CommandLineTools', '/Applications/Xcode.app'].some((folder) => existsSync(folder));
  return path.endsWith('/java') || (!hasTools && ['/usr/bin/git', '/usr/bin/python3'].includes(path));
}
