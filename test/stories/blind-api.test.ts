// Logins that are no header: an OAuth refresh in a form, a token in the path; and what comes back in an answer.
import type http from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NODE, Story, has } from './kz.ts';
import { answerJson, bodyOf, Upstream } from './upstream.ts';

let story: Story;
let upstream: Upstream;
let serve: http.RequestListener;

beforeEach(async () => {
  story = new Story();
  upstream = await Upstream.start((request, response) => {
    serve(request, response);
  });
});

afterEach(async () => {
  story.end();
  await upstream.stop();
});

/** Runs a program in Node that awaits, and prints what it returns. */
async function node(program: string, env: Record<string, string>): Promise<unknown> {
  const text = `(async () => { ${program} })().then((result) => console.log(JSON.stringify(result)))`;
  const { stdout, stderr, code } = await story.kz(['run', '--blind', '--', NODE, '-e', text], { env: { ...upstream.environment, ...env } });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

describe('an OAuth refresh', () => {
  const REFRESH = `
    const { CLIENT_SECRET: client_secret, REFRESH_TOKEN: refresh_token } = process.env;
    const body = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'app', client_secret, refresh_token });
    const response = await fetch('https://login.example/token', { method: 'POST', body });
    const granted = await response.json();
    const headers = { authorization: 'Bearer ' + granted.access_token };
    return { granted, env: { client_secret, refresh_token }, me: await (await fetch('https://api.example/me', { headers })).json() };`;

  it('sends both secrets in the form, and the new token comes through and works', async () => {
    const [secret, refresh] = [story.canary(), story.canary()];
    const lines = ['CLIENT_SECRET', 'REFRESH_TOKEN'].map(
      (name) => `${name} = { provider = "env", ref = "S_${name}", hosts = ["login.example"] }`,
    );
    upstream.configure(story, `[secrets]\n${lines.join('\n')}\n`);
    let form = '';
    serve = (request, response) => {
      if (request.headers.host === 'api.example') {
        answerJson(response, { you: request.headers.authorization });
        return;
      }
      void bodyOf(request).then((body) => {
        form = body;
        // As many servers do, the refresh token comes back with the new one.
        answerJson(response, { access_token: 'fresh-and-unknown-to-kz', token_type: 'Bearer', expires_in: 3600, refresh_token: refresh });
      });
    };
    const result = (await node(REFRESH, { S_CLIENT_SECRET: secret, S_REFRESH_TOKEN: refresh })) as Record<string, Record<string, string>>;
    expect(Object.fromEntries(new URLSearchParams(form))).toEqual({
      grant_type: 'refresh_token',
      client_id: 'app',
      client_secret: secret,
      refresh_token: refresh,
    });
    expect(result.granted).toMatchObject({ access_token: 'fresh-and-unknown-to-kz', refresh_token: result.env?.refresh_token });
    expect(result.me).toEqual({ you: 'Bearer fresh-and-unknown-to-kz' });
  });
});

describe('a token in the path', () => {
  const GET_ME = `
    const response = await fetch('https://' + process.env.API + '/bot' + process.env.BOT_TOKEN + '/getMe');
    return [response.status, await response.json()];`;

  beforeEach(() => {
    serve = (request, response) => {
      answerJson(response, { ok: true, result: { path: request.url } });
    };
  });

  it.each([
    ['of Telegram, by itself', 'api.telegram.org', ''],
    ['of another, where the config says so', 'bot.example', ', hosts = ["bot.example"], swap = ["path"]'],
  ])('%s', async (_, host, more) => {
    const value = story.guard(`123456789:${story.canary().slice(-24)}ABCDEFGHIJK`);
    upstream.configure(story, `[secrets]\nBOT_TOKEN = { provider = "env", ref = "SOURCE"${more} }\n`, 'scope = "strict"');
    const [status, answer] = (await node(GET_ME, { SOURCE: value, API: host })) as [number, { result: { path: string } }];
    expect(status).toBe(200);
    expect(answer.result.path).toMatch(/^\/bot123456789:kz_masked_\w{32}\/getMe$/);
    expect(upstream.received.map(({ path }) => path)).toEqual([`/bot${value}/getMe`]);
  });

  it('stays masked without swap = ["path"]', async () => {
    const value = story.canary();
    upstream.configure(story, '[secrets]\nBOT_TOKEN = { provider = "env", ref = "SOURCE", hosts = ["bot.example"] }\n');
    await node(GET_ME, { SOURCE: value, API: 'bot.example' });
    expect(upstream.received[0]?.path).toMatch(/^\/botkz_masked_\w{32}\/getMe$/);
  });
});

describe.skipIf(!has('curl'))('HTTP in the clear', () => {
  const PROGRAM = `
    const headers = { authorization: 'Bearer ' + process.env.TOKEN };
    const curl = ['-q', '-sS', '-H', 'Authorization: ' + headers.authorization, 'http://plain.example/curl'];
    const answers = [await (await fetch('http://plain.example/fetch', { headers })).json()];
    answers.push(JSON.parse(require('child_process').execFileSync('curl', curl, { encoding: 'utf8' })));
    return answers.map(({ you }) => you === headers.authorization);`;

  it.each([
    ['gets the value where the config names the port', 'plain.example:80', /^Bearer CANARY-/],
    ['gets the masked token otherwise', 'plain.example', /^Bearer kz_masked_/],
  ])('%s, from Node and from curl', async (_, host, seen) => {
    upstream.configure(story, `[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["${host}"] }\n`);
    serve = (request, response) => {
      answerJson(response, { you: request.headers.authorization });
    };
    expect(await node(PROGRAM, { SOURCE: story.canary() })).toEqual([true, true]);
    expect(upstream.received.map(({ path }) => path)).toEqual(['/fetch', '/curl']);
    for (const { headers } of upstream.received) expect(headers.authorization).toMatch(seen);
    expect(new Set(upstream.connects)).toEqual(new Set(['plain.example:80']));
  });
});
