// `kz server start --proxy`: curl and Node send the tokens that they got, upstreams get the values, and nobody gets a token of somebody else swapped.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Seal } from '../../src/server/tokens/seal.ts';
import { collect, has } from './kz.ts';
import { waitFor } from './processes.ts';
import { HOSTS, POLICIES } from './server-parts.ts';
import { Scene, type Answer, type Served } from './server-scene.ts';
import { bodyOf } from './upstream.ts';

let scene: Scene;
let served: Served;
let replica: Served;
/** Has no keys in common with the others. */
let stranger: Served;
const key = randomBytes(32);

beforeAll(async () => {
  scene = await Scene.start();
  const other = scene.story.canary('sk_');
  scene.keep('keys', `${key.toString('base64')}\n`);
  scene.keep('rotated-keys', `# The new one first.\n${randomBytes(32).toString('base64')}\n${key.toString('base64')}\n`);
  scene.keep('secrets.env', `GITHUB_PAT=${scene.value}\nOTHER=${other}\n`);
  scene.bundle({
    policies: [...POLICIES, { name: 'reads', rule: "org == 'readers' && request.tool != 'proxy'", effect: 'allow' }],
    resources: [
      { ref: 'github/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS },
      { ref: 'github/short', resolver: 'gh', from: 'GITHUB_PAT', mode: 'short_lived', ...HOSTS },
      { ref: 'query/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS, credential_location: 'query:key' },
      { ref: 'other/key', resolver: 'gh', from: 'OTHER', hosts: ['other.example'], methods: ['GET'], paths: ['/v1/**'] },
    ],
  });
  const options = { env: scene.keepSigningKey() };
  const start = (name: string, keys: string[]) =>
    scene.serve(['--rate', 'off', '--proxy', '127.0.0.1:0', '--proxy-ca-file', `${name}.pem`, ...keys], options);
  served = await start('one', ['--token-key-file', 'keys']);
  replica = await start('two', ['--token-key-file', 'rotated-keys']);
  stranger = await start('three', []);
});

afterAll(async () => {
  await scene.end();
});

const received = () => scene.upstream.received.at(-1);

async function tokenFor(ref: string, jwt?: string): Promise<string> {
  const { token } = await served.resolved(ref, { jwt });
  return String(token);
}

interface Sent {
  readonly through?: Served;
  /** Undefined: none. */
  readonly jwt?: string | undefined;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Node: CONNECT with `Proxy-Authorization: Bearer`, then TLS with the certificate that `--proxy-ca-file` wrote. */
async function send(url: string, sent: Sent = {}): Promise<Answer> {
  const { through = served, jwt = 'jwt' in sent ? undefined : scene.token({ sub: 'agent' }), method = 'GET', headers = {}, body } = sent;
  const { hostname, port } = new URL(`http://${through.proxy}`);
  const target = new URL(url);
  const authority = `${target.hostname}:${target.port === '' ? '443' : target.port}`;
  const credential = jwt === undefined ? {} : { 'proxy-authorization': `Bearer ${jwt}` };
  const answer = await new Promise<Answer>((resolve, reject) => {
    const read = (response: http.IncomingMessage): void => {
      bodyOf(response).then((text) => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: {} });
      }, reject);
    };
    const tunnel = http.request({ host: hostname, port, method: 'CONNECT', path: authority, headers: { host: authority, ...credential } });
    tunnel.once('error', reject).once('connect', (response: http.IncomingMessage, socket) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: '', json: {} });
        return;
      }
      const ca = readFileSync(join(scene.story.project, NAMES.get(through) ?? 'one.pem'), 'latin1');
      const secure = tls.connect({
        socket,
        ca,
        ...(isIP(target.hostname) === 0 ? { servername: target.hostname } : { host: target.hostname }),
      });
      secure.once('error', reject);
      const request = https.request(url, {
        method,
        headers: { host: target.host, connection: 'close', ...headers },
        createConnection: () => secure,
      });
      request.once('error', reject).once('response', read).end(body);
    });
    tunnel.end();
  });
  scene.story.examine(JSON.stringify(answer.headers) + answer.text, `the answer of ${url}`);
  return answer;
}

/** Whose certificate is where. */
const NAMES = new Map<Served, string>();
beforeAll(() => {
  for (const [each, file] of [
    [served, 'one.pem'],
    [replica, 'two.pem'],
    [stranger, 'three.pem'],
  ] as const)
    NAMES.set(each, file);
});

describe.skipIf(!has('curl'))('curl', () => {
  async function curl(args: readonly string[], jwt = scene.token({ sub: 'agent' })): Promise<{ code: number | null; stdout: string }> {
    const proxy = `http://kz:${jwt}@${served.proxy}`;
    const child = scene.story.startProgram(['curl', '-q', '-sS', '--cacert', 'one.pem', '-w', '\\n%{http_code}', ...args], {
      env: { https_proxy: proxy },
    });
    const { code, stdout, stderr } = await collect(child);
    scene.story.examine(stdout + stderr, 'the output of curl');
    return { code, stdout };
  }

  it('sends a token, and the upstream gets the value', async () => {
    const jwt = scene.token({ sub: 'agent' });
    const token = await tokenFor('github/pat', jwt);
    const { code, stdout } = await curl(['-H', `Authorization: Bearer ${token}`, 'https://api.example/user'], jwt);
    const [answer = '', status] = stdout.split('\n');
    expect({ code, status }, stdout).toEqual({ code: 0, status: '200' });
    expect(received()).toMatchObject({ host: 'api.example', path: '/user', headers: { authorization: `Bearer ${scene.value}` } });
    expect(received()?.headers).not.toHaveProperty('proxy-authorization');
    // The upstream has sent the value back.
    expect(JSON.parse(answer)).toMatchObject({ credential: `Bearer ${token}` });
  });

  it('sends one as the password of a login, and in a form', async () => {
    const jwt = scene.token({ sub: 'agent' });
    const token = await tokenFor('github/pat', jwt);
    await curl(['-u', `me:${token}`, 'https://api.example/login'], jwt);
    expect(received()?.headers.authorization).toBe(`Basic ${Buffer.from(`me:${scene.value}`).toString('base64')}`);
    const { stdout } = await curl(['--data-urlencode', `client_secret=${token}`, '-d', 'grant=x', 'https://api.example/form'], jwt);
    expect(received()).toMatchObject({ method: 'POST', path: '/form' });
    expect(received()?.headers['content-length']).toBe(String(`client_secret=${scene.value}&grant=x`.length));
    // Under one of the tokens that it has of this caller.
    expect(stdout).toMatch(/"body":"client_secret=KZ_TOK_[^&]+&grant=x"/);
  });

  it('is not let in without a JWT, or with a bad one', async () => {
    const before = scene.upstream.received.length;
    for (const jwt of ['', 'x.y.z', scene.token({ aud: 'other' })]) {
      const { code, stdout } = await curl(['https://api.example/in'], jwt);
      expect({ code, stdout: stdout.trim() }).toEqual({ code: 56, stdout: '000' });
    }
    expect(scene.upstream.received.length).toBe(before);
  });
});

describe('Node', () => {
  it('sends a token in a header, gets the answer without the value, and both are in the log', async () => {
    const jwt = scene.token({ sub: 'header', jti: 'swapped' });
    const token = await tokenFor('github/pat', jwt);
    const answer = await send('https://api.example/node?x=1', { jwt, headers: { authorization: `Bearer ${token}` } });
    expect(answer.status, answer.text).toBe(200);
    expect(received()).toMatchObject({ path: '/node?x=1', headers: { authorization: `Bearer ${scene.value}` } });
    expect(JSON.parse(answer.text)).toMatchObject({ credential: `Bearer ${token}` });
    expect(answer.headers['x-echo']).toBe(`Bearer ${token}`);
    await waitFor('its line', () => served.decisions.some(({ jti, tool }) => jti === 'swapped' && tool === 'proxy'));
    expect(served.decisions.findLast(({ jti, tool }) => jti === 'swapped' && tool === 'proxy')).toMatchObject({
      ...{ face: 'proxy', ref: 'github/pat', policy: 'acme', outcome: 'allowed', host: 'api.example', method: 'GET', path: '/node' },
    });
  });

  it('sends one in JSON', async () => {
    const jwt = scene.token({ sub: 'json' });
    const token = await tokenFor('github/pat', jwt);
    const headers = { 'content-type': 'application/json' };
    const { text, status } = await send('https://api.example/json', {
      ...{ jwt, method: 'POST', headers },
      body: JSON.stringify({ api_key: token, a: 1 }),
    });
    expect(status, text).toBe(200);
    expect((JSON.parse(text) as { body: string }).body).toBe(JSON.stringify({ api_key: token, a: 1 }));
    expect(received()?.headers['content-length']).toBe(String(JSON.stringify({ api_key: scene.value, a: 1 }).length));
  });

  it('sends a short-lived JWT, and the credential goes where the resource wants it', async () => {
    const short = await tokenFor('github/short', scene.token({ sub: 'agent' }));
    const { status, text } = await send('https://api.example/short', { headers: { authorization: `Bearer ${short}` } });
    expect(status, text).toBe(200);
    expect(received()?.headers.authorization).toBe(`Bearer ${scene.value}`);
    // It says who calls, too.
    expect((await send('https://api.example/alone', { jwt: short, headers: { authorization: `Bearer ${short}` } })).status).toBe(200);
    expect(received()).toMatchObject({ path: '/alone', headers: { authorization: `Bearer ${scene.value}` } });
  });

  it('sends one in the query where that is its place', async () => {
    const token = await tokenFor('query/pat', scene.token({ sub: 'agent' }));
    expect((await send(`https://api.example/q?key=${token}`)).status).toBe(200);
    expect(received()?.path).toBe(`/q?key=${scene.value}`);
  });

  it('goes without a token to a host of the bundle', async () => {
    expect((await send('https://api.example/open', { headers: { authorization: 'Bearer mine' } })).status).toBe(200);
    expect(received()?.headers.authorization).toBe('Bearer mine');
  });
});

describe('is refused', () => {
  const bearer = (token: string): Readonly<Record<string, string>> => ({ authorization: `Bearer ${token}` });

  async function refused(url: string, sent: Sent, status = 403): Promise<Answer> {
    const before = scene.upstream.received.length;
    const answer = await send(url, sent);
    expect(answer.status, answer.text).toBe(status);
    expect(scene.upstream.received.length).toBe(before);
    return answer;
  }

  it('whoever has no JWT', async () => {
    const answer = await refused('https://api.example/', { jwt: undefined }, 407);
    expect(answer.headers['proxy-authenticate']).toBeDefined();
    await refused('https://api.example/', { jwt: scene.token({ exp: scene.issuer.seconds() - 3600 }) }, 407);
  });

  it('the token of another caller', async () => {
    const token = await tokenFor('github/pat', scene.token({ sub: 'agent' }));
    await refused('https://api.example/', { jwt: scene.token({ sub: 'thief' }), headers: bearer(token) });
    const short = await tokenFor('github/short', scene.token({ sub: 'agent' }));
    await refused('https://api.example/', { jwt: scene.token({ sub: 'thief' }), headers: bearer(short) });
    expect((await send('https://api.example/', { jwt: scene.token({ sub: 'agent' }), headers: bearer(token) })).status).toBe(200);
  });

  it('a token to another host, path or method', async () => {
    const jwt = scene.token({ sub: 'agent' });
    const [pat, other] = [await tokenFor('github/pat', jwt), await tokenFor('other/key', jwt)];
    await refused('https://other.example/v1/x', { jwt, headers: bearer(pat) });
    await refused('https://api.example/', { jwt, headers: bearer(other) });
    await refused('https://other.example/admin', { jwt, headers: bearer(other) });
    await refused('https://other.example/v1/%2e%2e/admin', { jwt, headers: bearer(other) });
    await refused('https://other.example/v1/x', { jwt, method: 'POST', headers: bearer(other) });
    expect((await send('https://other.example/v1/x', { jwt, headers: bearer(other) })).status).toBe(200);
  });

  it('a token that has expired', async () => {
    const facts = { ref: 'github/pat', issuer: 'lab', sub: 'agent', hosts: ['api.example'] };
    const old = await Seal.open([key], { now: () => Date.now() - 7_200_000 }).seal({ ...facts, expiresAt: Date.now() - 3_600_000 });
    await refused('https://api.example/', { jwt: scene.token({ sub: 'agent' }), headers: bearer(old) });
    const good = await Seal.open([key]).seal({ ...facts, expiresAt: Date.now() + 60_000 });
    expect((await send('https://api.example/', { jwt: scene.token({ sub: 'agent' }), headers: bearer(good) })).status).toBe(200);
  });

  it('a token that was forged, or changed', async () => {
    const token = await tokenFor('github/pat', scene.token({ sub: 'agent' }));
    const facts = { ref: 'github/pat', issuer: 'lab', sub: 'agent', expiresAt: Date.now() + 60_000 };
    const forged = await Seal.open([randomBytes(32)]).seal(facts);
    const changed = `${token.slice(0, -2)}${token.endsWith('AA') ? 'BB' : 'AA'}`;
    for (const each of [forged, changed]) await refused('https://api.example/', { headers: bearer(each) });
  });

  it('a token whose use no policy allows', async () => {
    const jwt = scene.token({ sub: 'reader', org: 'readers' });
    await refused('https://api.example/', { jwt, headers: bearer(await tokenFor('github/pat', jwt)) });
  });

  it.each(['https://evil.example/', 'https://127.0.0.1/', 'https://169.254.169.254/', 'https://x.api.example/'])(
    'a host that no resource names: %s',
    async (url) => {
      const token = await tokenFor('github/pat', scene.token({ sub: 'agent' }));
      await refused(url, { headers: bearer(token) });
      expect(scene.upstream.connects).not.toContain(`${new URL(url).hostname}:443`);
    },
  );
});

describe('replicas', () => {
  it('that share a key open each other’s tokens, also while it is being replaced', async () => {
    const jwt = scene.token({ sub: 'agent' });
    const headers = { authorization: `Bearer ${await tokenFor('github/pat', jwt)}` };
    expect((await send('https://api.example/replica', { through: replica, jwt, headers })).status).toBe(200);
    expect(received()).toMatchObject({ path: '/replica', headers: { authorization: `Bearer ${scene.value}` } });
  });

  it('that do not share one do not', async () => {
    const jwt = scene.token({ sub: 'agent' });
    const headers = { authorization: `Bearer ${await tokenFor('github/pat', jwt)}` };
    const before = scene.upstream.received.length;
    expect((await send('https://api.example/', { through: stranger, jwt, headers })).status).toBe(403);
    expect(scene.upstream.received.length).toBe(before);
  });

  it('say where the proxy is', async () => {
    expect(await served.resolved('github/pat')).toMatchObject({ proxy: `http://${served.proxy}` });
  });
});
