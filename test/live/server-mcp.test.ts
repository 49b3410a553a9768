// `kz server` under the official tools: the inspector's CLI over standard input and output and over HTTP, in both eras of the protocol, and the
// conformance suite over HTTP. Both need Node 22 or later.
import { execFile, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SigningKey } from '../server/identity/issuer.ts';
import { KZ, Story } from '../stories/kz.ts';
import { folderOf, problemOf } from './clients/parts.mjs';

const BASELINE = fileURLToPath(new URL('./server-conformance-baseline.yml', import.meta.url));
const NODE = join(folderOf('node-22'), 'node');
const INSPECTOR = join(folderOf('mcp-inspector'), 'node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js');
const CONFORMANCE = join(folderOf('mcp-conformance'), 'node_modules/@modelcontextprotocol/conformance/dist/index.js');

const noInspector = problemOf('node-22') ?? problemOf('mcp-inspector');
const noConformance = problemOf('node-22') ?? problemOf('mcp-conformance');

const skipped = (problem: string | undefined): string => (problem === undefined ? '' : ` (skipped: ${problem})`);

let story: Story;
let key: SigningKey;
let value: string;

beforeEach(() => {
  story = new Story();
  key = new SigningKey('ES256');
  value = story.canary();
  story.write('secrets.env', `PAT=${value}\n`, 0o600);
  const { kid, alg, pem } = key;
  const hosts = { hosts: ['api.github.com'], methods: ['GET'] };
  // JSON is YAML, too.
  story.write(
    'bundle.yaml',
    JSON.stringify({
      version: '1',
      issuers: [{ name: 'test', issuer_url: 'https://issuer.example', type: 'custom', audience: 'kz', static_keys: [{ kid, alg, pem }] }],
      policies: [{ name: 'agents', rule: "ref.matches('github/**')", effect: 'allow' }],
      resources: [
        { ref: 'github/pat', resolver: 'file', from: 'PAT', ...hosts },
        { ref: 'github/raw', resolver: 'file', from: 'PAT', mode: 'direct', ...hosts },
        { ref: 'other/pat', resolver: 'file', from: 'PAT', ...hosts },
      ],
      backends: { file: { type: 'env_file', path: './secrets.env' } },
    }),
  );
});

afterEach(() => {
  story.end(['secrets.env']);
});

function token(): string {
  const now = Math.floor(Date.now() / 1000);
  return key.sign({ iss: 'https://issuer.example', sub: 'agent', aud: 'kz', jti: randomUUID(), iat: now, exp: now + 300 });
}

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** With the clone's own home and nothing of this process's environment. */
function runNode(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { cwd: story.project, env: story.environment(env), timeout: 120_000, maxBuffer: 32 * 1024 * 1024 };
    execFile(NODE, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      story.examine(`${stdout}\n${stderr}`, `the output of ${args.join(' ')}`);
      resolve({ code, stdout, stderr });
    });
  });
}

/** Over HTTP, `url` serves MCP until the end of the test. */
async function serve(): Promise<{ readonly url: string; readonly stop: () => Promise<void> }> {
  const server = story.start(['server', 'start', '--bundle', 'bundle.yaml', '--listen', '127.0.0.1:0', '--audit', 'none', '--rate', 'off']);
  const ended = new Promise((resolve) => server.once('exit', resolve));
  const stop = async (): Promise<void> => {
    server.kill('SIGTERM');
    await ended;
  };
  return { url: await endpoint(server), stop };
}

describe.skipIf(noInspector !== undefined)(`the inspector${skipped(noInspector)}`, () => {
  interface InspectOptions {
    readonly KEYZERO_JWT?: string;
    readonly era?: string;
    /** Left out: the inspector starts kz itself. */
    readonly url?: string | undefined;
  }

  const inspect = (args: readonly string[], { KEYZERO_JWT = token(), era = 'auto', url }: InspectOptions = {}): Promise<Ended> => {
    const command = { command: process.execPath, args: [KZ, 'server', 'start', '--bundle', 'bundle.yaml', '--mcp', '--audit', 'none'] };
    const started = { ...command, cwd: story.project, env: { KEYZERO_JWT } };
    const remote = { type: 'streamable-http', url, headers: { Authorization: `Bearer ${KEYZERO_JWT}` } };
    const file = story.write('mcp.json', JSON.stringify({ mcpServers: { kz: url === undefined ? started : remote } }));
    const common = ['--cli', '--config', file, '--server', 'kz', '--protocol-era', era, '--format', 'json'];
    return runNode([INSPECTOR, ...common, ...args], { MCP_INSPECTOR_SECRET_STORE: 'memory', MCP_AUTO_OPEN_ENABLED: 'false' });
  };

  const call = (tool: string, parameters: object, options: InspectOptions = {}): Promise<Ended> => {
    return inspect(['--method', 'tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(parameters)], options);
  };

  const resultOf = ({ stdout }: Ended): unknown => (JSON.parse(stdout) as { readonly result: unknown }).result;

  const ways = ['legacy', 'auto', 'modern'].flatMap((era) => [[era, 'standard input and output'] as const, [era, 'HTTP'] as const]);

  describe.each(ways)('%s, over %s', (era, way) => {
    let url: string | undefined;
    let stop = (): Promise<void> => Promise.resolve();

    beforeEach(async () => {
      if (way === 'HTTP') ({ url, stop } = await serve());
    });

    afterEach(() => stop());

    it('lists the tools', async () => {
      const ended = await inspect(['--method', 'tools/list'], { era, url });
      expect(ended.code, ended.stderr).toBe(0);
      expect(resultOf(ended)).toMatchObject({ tools: [{ name: 'resolve' }, { name: 'fetch' }, { name: 'list_resources' }] });
    });

    it('gets a token, and never the value', async () => {
      const ended = await call('resolve', { resource: 'github/pat' }, { era, url });
      expect(ended.code, ended.stderr).toBe(0);
      expect(resultOf(ended)).toMatchObject({
        structuredContent: {
          mode: 'masked',
          token: expect.stringMatching(/^KZ_TOK_/) as unknown,
          resource: 'github/pat',
          policy: 'agents',
          hosts: ['api.github.com'],
          methods: ['GET'],
        },
      });
    });

    it('is told what is wrong', async () => {
      const { code, stdout, stderr } = await call('fetch', { resource: 'github/pat', url: 'https://evil.example/' }, { era, url });
      expect(code, stderr).toBe(5);
      expect(stdout).toContain('url-forbidden');
    });
  });

  it('lists what the caller may use', async () => {
    const ended = await call('list_resources', {});
    expect(ended.code, ended.stderr).toBe(0);
    expect(resultOf(ended)).toMatchObject({
      structuredContent: { resources: [{ ref: 'github/pat' }, { ref: 'github/raw' }], truncated: false },
    });
  });

  it('takes a token as an argument', async () => {
    const ended = await call('resolve', { resource: 'github/pat', jwt: token() }, { KEYZERO_JWT: '' });
    expect(ended.code, ended.stderr).toBe(0);
  });

  it.each([
    ['what no policy allows', 'resolve', { resource: 'other/pat' }, 'denied'],
    ['the value of mode direct', 'resolve', { resource: 'github/raw' }, 'mode-forbidden'],
    ['another host', 'fetch', { resource: 'github/pat', url: 'https://evil.example/' }, 'url-forbidden'],
    ['a ref that climbs', 'resolve', { resource: 'github/../other/pat' }, 'ref-invalid'],
    ['a token that is none', 'resolve', { resource: 'github/pat', jwt: 'a.b.c' }, 'jwt-invalid'],
    ['an argument that there is not', 'resolve', { resource: 'github/pat', more: 1 }, 'Input validation error'],
  ])('is refused %s', async (_, tool, parameters, words) => {
    const { code, stdout, stderr } = await call(tool, parameters);
    expect(code, stderr).toBe(5);
    expect(stdout + stderr).toContain(words);
  });
});

describe.skipIf(noConformance !== undefined)(`conformance${skipped(noConformance)}`, () => {
  let server: Awaited<ReturnType<typeof serve>>;

  beforeEach(async () => {
    server = await serve();
  });

  afterEach(() => server.stop());

  // Each revision's own list of scenarios, as it was when the revision came out, and those that have to pass whatever the baseline came to hold.
  it.each([
    ['2025-11-25', ['server-initialize', 'ping', 'tools-list', 'dns-rebinding-protection']],
    ['2026-07-28', ['tools-list', 'dns-rebinding-protection', 'http-header-validation']],
  ])('to %s', async (revision, scenarios) => {
    const results = join(story.project, 'results');
    const args = ['server', '--url', server.url, '--requirements', revision, '--expected-failures', BASELINE, '--output-dir', results];
    const { code, stdout, stderr } = await runNode([CONFORMANCE, ...args]);
    expect(named(stdout, 'Unexpected failures'), 'failed, and not in the baseline').toEqual([]);
    expect(named(stdout, 'Stale baseline entries'), 'passed, and in the baseline').toEqual([]);
    expect(code, `${stdout.slice(-4000)}\n${stderr.slice(-1000)}`).toBe(0);
    expect(stdout).toContain('Baseline check passed');
    for (const scenario of scenarios) expect(stdout).toMatch(new RegExp(`✓ ${scenario}: [1-9]\\d* passed, 0 failed`));
    // Also of the scenarios that may fail.
    const messages = checksIn(results).filter(({ id }) => id === 'wire-schema-valid');
    expect(messages.length).toBeGreaterThan(10);
    expect(messages.filter(({ status }) => status !== 'SUCCESS')).toEqual([]);
  });
});

/** What the conformance suite lists under a heading. */
function named(stdout: string, heading: string): string[] {
  const [, list = ''] = stdout.split(heading);
  const lines = list.split('\n').slice(1);
  const end = lines.findIndex((line) => !line.startsWith('  '));
  return lines.slice(0, end === -1 ? undefined : end).map((line) => line.replace(/^\s*\S\s+/, ''));
}

interface Check {
  readonly id: string;
  readonly status: string;
}

/** Of every scenario that ran. */
function checksIn(results: string): Check[] {
  const files = readdirSync(results).map((folder) => join(results, folder, 'checks.json'));
  return files.flatMap((file) => JSON.parse(readFileSync(file, 'utf8')) as Check[]);
}

/** Where it serves MCP, as it says on standard error. */
async function endpoint(server: ChildProcess): Promise<string> {
  const { stderr } = server;
  if (stderr === null) throw new Error('no standard error');
  for await (const line of createInterface({ input: stderr })) {
    const [url] = /http:\/\/\S+\/mcp/.exec(line) ?? [];
    if (url === undefined) continue;
    stderr.resume();
    return url;
  }
  throw new Error('the server ended before it listened');
}
