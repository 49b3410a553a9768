// An MCP server whose errors hold what it was given, behind `kz run`: nothing of it reaches the client, and every message is still the one
// that the server meant.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXTURES, NODE, Story } from './kz.ts';
import { serverParameters, Session, writeServers } from './mcp-client.ts';

const CARELESS = join(FIXTURES, 'careless-mcp-server.mjs');

let story: Story;
let session: Session | undefined;
let password: string;
let url: string;
/** Digits: as a number it is in messages for other reasons too. */
let account: string;

beforeEach(async () => {
  story = new Story();
  session = undefined;
  password = story.canary('ü"/@');
  url = story.guard(`postgresql://app:${encodeURIComponent(password)}@db.example:5432/app?sslmode=require`);
  account = `9${String(randomBytes(5).readUIntBE(0, 5)).padStart(13, '0')}`;
  story.config('[secrets]\nDATABASE_URL = { provider = "store", ref = "db" }\nACCOUNT = { provider = "env", ref = "THE_ACCOUNT" }\n');
  const { code, stderr } = await story.kz(['put', 'DATABASE_URL'], { input: url });
  expect(code, stderr).toBe(0);
});

afterEach(async () => {
  await session?.client.close();
  story.end();
});

/** What kz hands to the client is kept in a file, where the story looks for values at its end. */
async function connected(): Promise<Session> {
  const args = ['-c', 'kz run -- node "$1" | tee "$2"', 'sh', CARELESS, join(story.folder, 'wire.log')];
  writeServers(story, { careless: { command: 'sh', args, env: { THE_ACCOUNT: account } } });
  session = new Session(serverParameters(story, 'careless'));
  await session.connect();
  return session;
}

async function ended(client: Session): Promise<void> {
  await client.close();
  client.keep(story, 'careless');
  expect(client.noise).toEqual([]);
  expect(client.stderr).not.toContain('kz:');
}

describe('a tool whose error', () => {
  it.each([
    [
      'quotes the connection string',
      'connect',
      'Request cannot be constructed from a URL that includes credentials: [redacted:DATABASE_URL]',
    ],
    ['quotes only the password', 'login', 'password authentication failed for user "app": "[redacted:DATABASE_URL]"'],
  ])('%s tells the client what went wrong, and its name instead of it', async (_, tool, expected) => {
    const client = await connected();
    const { content, isError } = await client.client.callTool({ name: tool });
    expect({ content, isError }).toEqual({ content: [{ type: 'text', text: expected }], isError: true });
    await ended(client);
    // Not before: what writes it may be behind.
    expect(readFileSync(join(story.folder, 'wire.log'), 'utf8')).toContain(`"method":"notifications/message"`);
    expect(client.stderr).toContain(`Error: ${expected}\n    at `);
  });

  it('is a trace of a request has another login in its header', async () => {
    const client = await connected();
    const [, login = ''] = /Authorization: Basic (\S+)\n$/.exec(await client.call('trace')) ?? [];
    expect(Buffer.from(login, 'base64').toString()).toMatch(/^app:.{0,2}\[redacted:DATABASE_URL\]/);
    await ended(client);
    expect(client.stderr).toContain(`Authorization: Basic ${login}\n`);
  });
});

describe('what a client relies on', () => {
  it('is not changed: a number that is also a secret', async () => {
    const client = await connected();
    expect(await client.tools()).toContain('account');
    const { structuredContent } = await client.client.callTool({ name: 'account' });
    expect(structuredContent).toEqual({
      number: Number(account),
      fraction: Number(`0.${account}`),
      text: 'account [redacted:ACCOUNT]',
    });
    await ended(client);
  });

  it('is not changed: an id that is also a secret', async () => {
    const messages = [
      {
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'raw', version: '1' } },
      },
      { id: Number(account), method: 'tools/call', params: { name: 'say', arguments: { text: account } } },
      { id: 'a', method: 'tools/call', params: { name: 'say', arguments: { text: url } } },
    ];
    const input = messages.map((message) => `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`).join('');
    const { stdout, code } = await story.kz(['run', '--', NODE, CARELESS], { input, env: { THE_ACCOUNT: account } });
    expect(code).toBe(0);
    const answers = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: unknown; result: { content?: unknown } });
    expect(answers.map(({ id }) => id)).toEqual(messages.map(({ id }) => id));
    expect(answers.slice(1).map(({ result }) => result.content)).toEqual([
      [{ type: 'text', text: '[redacted:ACCOUNT]' }],
      [{ type: 'text', text: '[redacted:DATABASE_URL]' }],
    ]);
  });

  it('is not changed: every character around a value, and every message without one', async () => {
    const client = await connected();
    const awkward = 'ä€😀\u2028\u0000\ud83d \\ \\u0041 " \' \r\n\t\u007f\u00a0e\u0301 ';
    expect(await client.call('say', { text: awkward })).toBe(awkward);
    expect(await client.call('say', { text: `${awkward}${url}${awkward}${password}` })).toBe(
      `${awkward}[redacted:DATABASE_URL]${awkward}[redacted:DATABASE_URL]`,
    );
    await ended(client);
  });

  it('is there in time when many ask at once', async () => {
    const client = await connected();
    const texts = Array.from({ length: 10 }, (_, index) => `${String(index)} ${'x€'.repeat(index * 10_000)}`);
    const answers = await Promise.all(texts.map((text) => client.call('say', { text: `${text} ${url}` })));
    expect(answers).toEqual(texts.map((text) => `${text} [redacted:DATABASE_URL]`));
    await ended(client);
  });
});
