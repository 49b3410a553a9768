// Blind mode with the HTTP clients that people use: each sends the masked token wherever credentials go, the API gets the value, and what it
// echoes comes back as the token. No client is told to skip the check of certificates; each is shown to make it.
import { cpSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { collect, Story } from '../stories/kz.ts';
import { folderOf, PROGRAMS } from './clients/parts.mjs';
import { CLIENTS, type Client } from './clients/table.ts';
import { EchoUpstream } from './clients/upstream.ts';

const PRELOAD = fileURLToPath(new URL('../../dist/preload.cjs', import.meta.url));
/** Where the table looked for what is installed. */
const { PATH = '' } = process.env;

let story: Story;
let upstream: EchoUpstream;
let value: string;
let messageValue: string;
let nodePrograms: string;

beforeAll(async () => {
  story = new Story();
  upstream = await EchoUpstream.start();
  value = story.canary();
  messageValue = story.canary();
  story.write('ca.pem', upstream.authority.certificate);
  story.config(`
    [secrets.TOKEN]
    provider = "env"
    ref = "VALUE"
    hosts = ["api.example.test", "api.example.test:80"]
    [secrets.MESSAGE_TOKEN]
    provider = "env"
    ref = "MESSAGE_VALUE"
    hosts = ["api.example.test"]
    swap = ["body"]
    [blind]
    upstream_ca = "ca.pem"
  `);
  nodePrograms = join(story.folder, 'node');
  cpSync(join(PROGRAMS, 'node'), nodePrograms, { recursive: true });
  symlinkSync(join(folderOf('node-modules'), 'node_modules'), join(nodePrograms, 'node_modules'));
});

beforeEach(() => {
  upstream.forget();
});

afterAll(() => {
  upstream.close();
  story.end();
});

const rows = CLIENTS.map((client) => {
  const { name, problem } = client;
  return { title: problem === undefined ? name : `${name} (skipped: ${problem})`, skip: problem !== undefined, client };
});

describe('a client of a blind run', () => {
  for (const { title, skip, client } of rows) {
    it.skipIf(skip)(`sends the value and sees the token: ${title}`, async () => {
      const { proxyUrl } = upstream;
      const ended = await story.kz(['run', '--blind', '--', ...client.command(nodePrograms)], {
        env: { PATH, ...client.env, HTTPS_PROXY: proxyUrl, HTTP_PROXY: proxyUrl, VALUE: value, MESSAGE_VALUE: messageValue },
      });
      expect(ended.code, ended.stderr).toBe(0);
      expectArrival(client);
      if (client.prints === undefined) expectTokens(client, ended.stdout);
      else expect(ended.stdout).toContain(client.prints);
    });
  }
});

describe('without the run’s certificate', () => {
  for (const { title, skip, client } of rows.filter((row) => row.client.inTheClear !== true)) {
    it.skipIf(skip)(`a client sends nothing: ${title}`, async () => {
      const ended = await collect(story.startProgram(client.command(nodePrograms), { env: { PATH, ...client.env, ...strangersProxy() } }));
      expect(ended.code).not.toBe(0);
      if (client.silent !== true) expect(ended.stderr).toMatch(UNTRUSTED);
      expect(upstream.connections).toBeGreaterThan(0);
      expect(upstream.arrivals).toEqual([]);
    });
  }
});

/** What clients say of a certificate whose issuer they do not know, each in its own words. */
const UNTRUSTED = /certificate|CERT_|PKIX|UnknownIssuer|issuer/i;

/** Leads a program to the upstream the way kz would, but nothing makes it trust what is there. */
function strangersProxy(): Record<string, string> {
  const { proxyUrl } = upstream;
  const url = proxyUrl.replace('//', '//kz:none@');
  const { hostname, port } = new URL(proxyUrl);
  return {
    TOKEN: 'kz_masked_0',
    MESSAGE_TOKEN: 'kz_masked_1',
    HTTPS_PROXY: url,
    https_proxy: url,
    // Ruby goes by it for https, too.
    http_proxy: url,
    KEYZERO_PROXY: url,
    NODE_OPTIONS: `--require "${PRELOAD}"`,
    JAVA_TOOL_OPTIONS: `-Dhttps.proxyHost=${hostname} -Dhttps.proxyPort=${port}`,
  };
}

/** In every slot, the value and nothing else; a request may have some of them only. */
function expectArrival(client: Client): void {
  const { arrivals } = upstream;
  const found = arrivals.flatMap((arrival) => Object.entries(arrival.found));
  expect(new Set(found.map(([slot]) => slot))).toEqual(new Set(client.slots));
  expect(found.filter(([, text]) => text !== value)).toEqual([]);
  if (client.httpVersion !== undefined)
    expect(new Set(arrivals.map((arrival) => arrival.httpVersion))).toEqual(new Set([client.httpVersion]));
  if (client.sendsMessage === true) expect(arrivals.map(({ message }) => message)).toEqual([messageValue]);
}

const TOKEN = /^kz_masked_[0-9a-f]{32}$/;

function expectTokens(client: Client, stdout: string): void {
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Readonly<Record<string, string>>);
  const tokens = answers.flatMap((answer) => client.slots.flatMap((slot) => answer[slot] ?? []));
  expect(tokens.length).toBeGreaterThanOrEqual(client.slots.length);
  expect(tokens[0]).toMatch(TOKEN);
  expect(new Set(tokens).size).toBe(1);
  for (const { authorization } of answers) {
    if (authorization !== undefined) expect(decoded(authorization)).toBe(`me:${tokens[0] ?? ''}`);
  }
  if (client.sendsMessage === true) expect(answers.at(-1)?.message).toMatch(TOKEN);
  // Inside a gRPC message every length stays as it was.
  for (const { message } of answers) if (message !== undefined) expect(message).toMatch(/^kz_masked_/);
}

function decoded(authorization: string): string {
  return Buffer.from(authorization.replace(/^Basic /, ''), 'base64').toString();
}
