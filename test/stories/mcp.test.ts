// MCP clients start servers through kz: nothing of kz is on the wire, the server has its secret, and nothing is left when the client goes.
import { spawn } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { collect, FIXTURES, Story, type Ended } from './kz.ts';
import { PACKAGES, serverParameters, Session, writeServers, type ServerEntry } from './mcp-client.ts';

const EVERYTHING = join(PACKAGES, '@modelcontextprotocol/server-everything/dist/index.js');
const GITHUB = join(PACKAGES, '@modelcontextprotocol/server-github/dist/index.js');
const DEAF = join(FIXTURES, 'deaf-mcp-server.mjs');

let story: Story;
let sessions: Session[];
let allowed: string[];

beforeEach(() => {
  story = new Story();
  sessions = [];
  allowed = [];
});

afterEach(async () => {
  for (const session of sessions) await session.client.close();
  for (const [index, session] of sessions.entries()) session.keep(story, String(index));
  story.end(allowed);
});

/** A declared secret, in the store, as `kz put` leaves it. */
async function stored(name: string, value = story.canary()): Promise<string> {
  story.config(`[secrets]\n${name} = { provider = "store", ref = "${name.toLowerCase()}" }\n`);
  const { code, stderr } = await story.kz(['put', name], { input: value });
  expect(code, stderr).toBe(0);
  return value;
}

function session(name: string, cwd?: string): Session {
  const started = new Session(serverParameters(story, name, cwd));
  sessions.push(started);
  return started;
}

async function connected(name: string, cwd?: string): Promise<Session> {
  const started = session(name, cwd);
  await started.connect();
  return started;
}

function kzRun(...command: string[]): ServerEntry {
  return { command: 'kz', args: ['run', '--', ...command] };
}

/** For a client that is to see what its server has. */
function kzReveals(...command: string[]): ServerEntry {
  return { command: 'kz', args: ['run', '--no-redact', '--', ...command] };
}

async function expectCleanEnd(ended: Session): Promise<void> {
  const { signals } = await ended.close();
  expect(signals, 'kz and its tree end on the end of standard input').toEqual([]);
  expect(ended.noise).toEqual([]);
}

describe('a server started through npx', () => {
  beforeEach(() => {
    // What `npm install` in a project leaves, so that npx has nothing to ask a registry for.
    symlinkSync(PACKAGES, join(story.project, 'node_modules'));
    const offline = { npm_config_offline: 'true', npm_config_update_notifier: 'false' };
    const command = ['npx', '-y', '@modelcontextprotocol/server-everything'];
    writeServers(story, {
      everything: { ...kzRun(...command), env: offline },
      revealing: { ...kzReveals(...command), env: offline },
    });
  });

  test.each([
    ['has the secret', 'revealing', (value: string) => value],
    ['does not show it to the client', 'everything', () => '[redacted:API_TOKEN]'],
  ])('%s, and ends with the client', async (_, name, shown) => {
    const value = await stored('API_TOKEN');
    const server = await connected(name);
    expect(await server.tools()).toContain('get-env');
    const environment = JSON.parse(await server.call('get-env')) as Record<string, string>;
    expect(environment).toMatchObject({ API_TOKEN: shown(value), HOME: story.home });
    expect(await server.call('echo', { message: `ä "${value}" 😀` })).toContain(`ä "${shown(value)}" 😀`);
    await expectCleanEnd(server);
  });
});

describe('server-github', () => {
  /** Its requests go to a stub inside the server's own process. */
  const github = (): ServerEntry => ({
    ...kzRun('node', '--require', join(FIXTURES, 'stub-fetch.cjs'), GITHUB),
    env: { FETCH_LOG: join(story.folder, 'fetch.log') },
  });

  async function searches(started: Session, value: string): Promise<void> {
    expect(await started.tools()).toContain('search_repositories');
    expect(JSON.parse(await started.call('search_repositories', { query: 'keyzero' }))).toMatchObject({ total_count: 0 });
    allowed.push('fetch.log');
    const requests = readFileSync(join(story.folder, 'fetch.log'), 'utf8').trim().split('\n');
    const seen = requests.map((line) => JSON.parse(line) as { url: string; authorization: string });
    expect(seen.map(({ authorization }) => authorization)).toEqual([`Bearer ${value}`]);
    expect(seen[0]?.url).toMatch(/^https:\/\/api\.github\.com\/search\/repositories\?q=keyzero/);
    await expectCleanEnd(started);
  }

  test('sends the secret to its API', async () => {
    const value = await stored('GITHUB_PERSONAL_ACCESS_TOKEN', story.canary('ghp_'));
    writeServers(story, { github: github() });
    await searches(await connected('github'), value);
  });

  test.each(['KEYZERO_CONFIG', 'CLAUDE_PROJECT_DIR'])('is started in / and kz finds its config through %s', async (variable) => {
    const value = await stored('GITHUB_PERSONAL_ACCESS_TOKEN', story.canary('ghp_'));
    const place = variable === 'KEYZERO_CONFIG' ? join(story.project, '.keyzero.toml') : story.project;
    const { env, ...entry } = github();
    writeServers(story, { github: { ...entry, env: { ...env, [variable]: place } } });
    await searches(await connected('github', '/'), value);
  });

  test('three at once each have it', async () => {
    const value = await stored('API_TOKEN');
    const names = ['one', 'two', 'three'];
    writeServers(story, Object.fromEntries(names.map((name) => [name, kzReveals('node', EVERYTHING)])));
    const started = await Promise.all(names.map((name) => connected(name)));
    const environments = await Promise.all(started.map((one) => one.call('get-env')));
    for (const environment of environments) expect(JSON.parse(environment)).toMatchObject({ API_TOKEN: value });
    await Promise.all(started.map(expectCleanEnd));
  });
});

describe('the wire', () => {
  /** What a client writes, one message at a time: the next one goes out when the answer is there. */
  const conversation = [
    {
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'story', version: '1' } },
    },
    { method: 'notifications/initialized' },
    { id: 2, method: 'tools/list', params: {} },
    { id: 3, method: 'tools/call', params: { name: 'echo', arguments: { message: `${'ä€😀\u2028\r\n\t"\\'.repeat(40_000)} end` } } },
    { id: 4, method: 'no/such/method', params: {} },
  ];

  async function transcript(command: string, args: readonly string[]): Promise<Ended> {
    const { env, cwd } = serverParameters(story, 'raw');
    const child = spawn(command, args, { env: { ...env }, cwd });
    const ended = collect(child);
    let text = '';
    const waiting = new Map<number, () => void>();
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (const [id, answer] of waiting) if (text.includes(`"id":${String(id)}`) && text.endsWith('\n')) answer();
    });
    for (const message of conversation) {
      const answered = new Promise<void>((resolve) => {
        if (message.id === undefined) resolve();
        else waiting.set(message.id, resolve);
      });
      child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
      await answered;
    }
    child.stdin.end();
    return ended;
  }

  test('carries the bytes of the server and none of kz', async () => {
    await stored('API_TOKEN');
    writeServers(story, { raw: kzRun('node', EVERYTHING) });
    const { command, args = [] } = serverParameters(story, 'raw');
    const alone = await transcript('node', [EVERYTHING]);
    const wrapped = await transcript(command, args);
    expect(alone.bytes.length).toBeGreaterThan(400_000);
    expect(wrapped.bytes.equals(alone.bytes)).toBe(true);
    expect(wrapped).toMatchObject({ code: alone.code, stderr: alone.stderr });
  });
});

describe('a server that cannot be started', () => {
  test('for want of a secret: the client sees the connection close, the person sees why', async () => {
    story.config('[secrets]\nAPI_TOKEN = { provider = "store", ref = "api-token" }\n');
    writeServers(story, { everything: kzRun('node', EVERYTHING) });
    const refused = session('everything');
    await expect(refused.connect()).rejects.toThrow(/connection closed/i);
    expect(refused.stderr).toMatch(/^kz: error: API_TOKEN is missing \(provider: store, ref: api-token\)\nkz: hint: /);
    const { command, args = [], env, cwd } = serverParameters(story, 'everything');
    const { bytes, code } = await collect(spawn(command, args, { env: { ...env }, cwd }));
    expect({ stdout: bytes.length, code }).toEqual({ stdout: 0, code: 125 });
  });

  test('for want of a config in /: it says where kz looked', async () => {
    writeServers(story, { everything: kzRun('node', EVERYTHING) });
    const refused = session('everything', '/');
    await expect(refused.connect()).rejects.toThrow(/connection closed/i);
    expect(refused.stderr).toContain('/.keyzero.toml');
  });
});

// The SDK's clients wait two seconds after closing a server's standard input, and as long after TERM, before they send KILL to kz alone.
describe('a server that ignores the end of its standard input', () => {
  test('ends on TERM, and its whole tree before the client sends KILL', async () => {
    await stored('API_TOKEN');
    writeServers(story, { deaf: kzRun('node', DEAF), stubborn: kzRun('node', DEAF, 'stubborn') });
    const started = await Promise.all(['deaf', 'stubborn'].map((name) => connected(name)));
    for (const one of started) expect(await one.tools()).toEqual(['nothing']);
    const [deaf, stubborn] = await Promise.all(started.map((one) => one.close()));
    expect([deaf?.signals, stubborn?.signals]).toEqual([['SIGTERM'], ['SIGTERM']]);
    // Only the other one makes kz wait.
    expect(deaf?.goneMs).toBeLessThan(stubborn?.goneMs ?? 0);
  });
});
