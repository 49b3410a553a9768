import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startServer } from '../../src/server/serve.ts';
import { McpPipes, post, ServeLab, urlOf } from './serve-lab.ts';

let lab: ServeLab;

beforeEach(() => {
  lab = new ServeLab();
});

afterEach(() => lab.end());

const allowed = (value: string) => ({ results: { 'a/value': { allowed: true, policy: 'reads', mode: 'direct', value } } });

async function occupied(): Promise<{ address: string; close: () => Promise<void> }> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => {
        resolve();
      });
    });
  return { address: `127.0.0.1:${String((server.address() as AddressInfo).port)}`, close };
}

function isOpen(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = net.connect(Number(port), hostname);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

describe('a server', () => {
  it('serves until it is stopped, and then nothing of it is left', async () => {
    const server = await lab.start({ proxy: '127.0.0.1:0' });
    expect(server.announcements).toHaveLength(2);
    expect(await post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt())).toEqual({ status: 200, json: allowed(lab.value) });
    const addresses = [urlOf(server), urlOf(server, 'proxy: ')];
    expect(await Promise.all(addresses.map(isOpen))).toEqual([true, true]);
    server.stop();
    server.stop();
    await server.ended;
    expect(await Promise.all(addresses.map(isOpen))).toEqual([false, false]);
    expect(lab.lines.map(({ type }) => type)).toEqual(['server-started', 'decision', 'server-ended']);
    expect(readFileSync(lab.path('audit.jsonl'), 'utf8')).not.toContain(lab.value);
    expect(lab.texts()).toBe('');
  });

  it.each(['listen', 'proxy'] as const)('closes what it has opened when the port of --%s is taken', async (flag) => {
    const { address, close } = await occupied();
    const other = flag === 'listen' ? { proxy: '127.0.0.1:0' } : {};
    await expect(startServer(lab.options({ ...other, [flag]: address }))).rejects.toMatchObject({
      code: 'start-failed',
      message: `cannot listen on ${address}: something else listens there`,
      hint: `let --${flag} name another port; 0 is one that is free`,
    });
    // Its log is complete, and nobody watches the bundle any more.
    expect(lab.lines.map(({ type }) => type)).toEqual(['server-started', 'server-ended']);
    lab.writeBundle(['name: reads', 'name: others']);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(lab.texts()).toBe('');
    await close();
  });

  it('closes what it has opened when the certificate of its proxy cannot be written', async () => {
    const options = lab.options({ proxy: '127.0.0.1:0', proxyCaFile: lab.path('none/ca.pem') });
    await expect(startServer(options)).rejects.toMatchObject({ code: 'write-failed' });
    expect(lab.lines.at(-1)).toMatchObject({ type: 'server-ended', lost: 0 });
  });

  it.each([
    ['jwt', { jwt: { file: 'x', audience: undefined } }, '--jwt-file needs --mcp'],
    ['audience', { jwt: { file: undefined, audience: 'x' } }, '--jwt-audience needs --mcp'],
    ['certificate', { proxyCaFile: 'x' }, '--proxy-ca-file needs --proxy'],
  ])('refuses a %s that nobody would use', async (_, more, message) => {
    await expect(startServer(lab.options(more))).rejects.toMatchObject({ code: 'usage', message });
    expect(existsSync(lab.path('audit.jsonl'))).toBe(false);
  });
});

describe('a reload', () => {
  it('takes a changed bundle over, and says so', async () => {
    const server = await lab.start();
    lab.writeBundle(['effect: allow', 'effect: deny']);
    await expect.poll(() => lab.texts(), { timeout: 5000 }).toContain('notice: serving');
    expect((await post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt())).status).toBe(403);
    expect(lab.lines.find(({ type }) => type === 'bundle-reloaded')).toMatchObject({ ok: true, bundle_version: '1', problems: 0 });
  });

  it('changes nothing when the bundle is wrong, and names every problem', async () => {
    const server = await lab.start();
    lab.writeBundle(['effect: allow', 'effect: maybe'], ['audience: kz', 'audience: [1]']);
    await expect.poll(() => lab.texts(), { timeout: 5000 }).toContain('the old one serves on');
    expect(lab.texts()).toMatch(/warning: .*bundle\.yaml:\d+:\d+: /);
    expect((await post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt())).status).toBe(200);
    expect(lab.lines.find(({ type }) => type === 'bundle-reloaded')).toMatchObject({ ok: false, bundle_version: '1', problems: 2 });
  });

  it('of an issuer whose keys cannot be read leaves the old one', async () => {
    const server = await lab.start();
    lab.writeBundle(['static_keys', 'jwks_file: ./none.json\n    static_keys']);
    await expect.poll(() => lab.texts(), { timeout: 5000 }).toContain('the old one serves on');
    expect((await post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt())).status).toBe(200);
  });

  it('that is asked for again and again happens one at a time, and the last one counts', async () => {
    const server = await lab.start();
    for (let index = 0; index < 200; index++) server.reload();
    await expect.poll(() => lab.texts().split('serving').length - 1).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(lab.texts().split('serving').length - 1).toBeLessThan(5);
    expect((await post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt())).status).toBe(200);
  });

  it('leaves a call that runs the backends that it began with', async () => {
    const slow = 'file: { type: exec, command: [sh, -c, "sleep 1; echo CANARY-slow"] }';
    lab.writeBundle(['file: { type: env_file, path: ./secrets.env }', slow]);
    const server = await lab.start({ fetchTimeoutMs: 1 });
    const running = post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt());
    await expect.poll(async () => (await fetch(`${urlOf(server)}/metrics`)).text()).toContain('\nkz_in_flight 1\n');
    server.reload();
    await expect.poll(() => lab.texts()).toContain('notice: serving');
    expect(await running).toEqual({ status: 200, json: allowed('CANARY-slow') });
  });
});

describe('an MCP client', () => {
  it('is told at the start, through whoever starts the server, that calls without a token will fail', async () => {
    const mcp = new McpPipes();
    await lab.start({ listen: undefined, mcp });
    await expect
      .poll(() => lab.texts())
      .toBe('warning: neither --jwt-file nor KEYZERO_JWT gives a token (JWT): only calls that bring one of their own are answered');
    const { result } = await mcp.call('list_resources');
    expect(result).toMatchObject({ isError: true, content: [{ text: expect.stringMatching(/^jwt-missing: /) as string }] });
    await expect.poll(() => lab.decisions).toMatchObject([{ face: 'mcp', tool: null, outcome: 'denied', code: 'jwt-missing' }]);
  });

  it('whose server has a token that cannot be read leaves a line for each call', async () => {
    const mcp = new McpPipes();
    await lab.start({ listen: undefined, mcp, jwt: { file: lab.path('none.jwt'), audience: undefined } });
    await expect.poll(() => lab.texts()).toContain('none.jwt');
    const { result } = await mcp.call('list_resources');
    expect(result?.content?.[0]?.text).toMatch(/^jwt-missing: the token that this server was started with /);
    await expect.poll(() => lab.decisions).toMatchObject([{ face: 'mcp', outcome: 'denied', code: 'jwt-missing' }]);
    writeFileSync(lab.path('none.jwt'), `${lab.jwt()}\n`);
    expect((await mcp.call('list_resources')).result?.isError).not.toBe(true);
    await expect.poll(() => lab.decisions).toHaveLength(2);
  });

  it('that goes away ends the server, and HTTP with it', async () => {
    const mcp = new McpPipes();
    const server = await lab.start({ mcp, jwt: { file: undefined, audience: undefined } });
    const url = urlOf(server);
    mcp.stdin.end();
    await server.ended;
    expect(await isOpen(url)).toBe(false);
    expect(lab.lines.at(-1)?.type).toBe('server-ended');
  });

  it('learns no value, whatever it asks', async () => {
    writeFileSync(lab.path('agent.jwt'), lab.jwt());
    const mcp = new McpPipes();
    await lab.start({ listen: undefined, mcp, jwt: { file: lab.path('agent.jwt'), audience: undefined } });
    const answers = [
      await mcp.call('resolve', { resource: 'a/value' }),
      await mcp.call('resolve', { resource: 'a/masked' }),
      await mcp.call('resolve', { resource: 'a\nhint: b' }),
      await mcp.call('fetch', { resource: 'a/value', url: 'https://evil.test/' }),
      await mcp.call('resolve', { resource: 'a/value', context: JSON.parse(nested(1000)) as object }),
    ];
    const text = JSON.stringify(answers);
    expect(text).not.toContain(lab.value);
    expect(text).not.toContain(lab.jwt().slice(0, 20));
    expect(text).not.toContain(lab.folder);
    expect(answers.map(({ result }) => result?.content?.[0]?.text.split(':')[0])).toEqual([
      'mode-forbidden',
      '{"mode"',
      'ref-invalid',
      'url-forbidden',
      'request-invalid',
    ]);
    await expect
      .poll(() => lab.decisions.map(({ code }) => code))
      .toEqual(['mode-forbidden', null, 'ref-invalid', 'url-forbidden', 'request-invalid']);
    expect(lab.texts()).toBe('');
  });
});

function nested(depth: number): string {
  return `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
}

describe('the proxy', () => {
  it('leaves one line for each request', async () => {
    const server = await lab.start({ proxy: '127.0.0.1:0' });
    const { json } = await post(server, '/v1/resolve', { resource: 'a/masked' }, lab.jwt());
    const { token } = (json as { results: { 'a/masked': { token: string } } }).results['a/masked'];
    await expect.poll(() => lab.decisions).toHaveLength(1);
    const proxy = new URL(urlOf(server, 'proxy: '));
    lab.writeBundle(['effect: allow', 'effect: deny']);
    await expect.poll(() => lab.texts(), { timeout: 5000 }).toContain('notice: serving');
    expect(await plain(proxy, 'CANARY-jwt', 'none')).toMatch(/^HTTP\/1\.1 407 /);
    await expect.poll(() => lab.decisions).toHaveLength(2);
    expect(lab.decisions.at(-1)).toMatchObject({ face: 'proxy', tool: null, outcome: 'denied', code: 'jwt-invalid' });
    const asked: [string, string, string][] = [
      [lab.jwt(), token, 'denied'],
      [lab.jwt(), 'KZ_TOK_none', 'token-invalid'],
    ];
    for (const [jwt, sent, code] of asked) {
      const before = lab.decisions.length;
      expect(await plain(proxy, jwt, sent)).toMatch(/^HTTP\/1\.1 403 /);
      await expect.poll(() => lab.decisions.length).toBe(before + 1);
      expect(lab.decisions.at(-1)).toMatchObject({ face: 'proxy', tool: 'proxy', outcome: 'denied', code, host: 'api.example.com' });
    }
    server.stop();
    await server.ended;
    expect(lab.decisions).toHaveLength(2 + asked.length);
  });
});

/** A request in the clear, and the answer's first bytes. */
function plain({ hostname, port }: URL, jwt: string, token: string): Promise<string> {
  const login = Buffer.from(`x:${jwt}`).toString('base64');
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), hostname, () => {
      const head = `Host: api.example.com\r\nProxy-Authorization: Basic ${login}\r\nAuthorization: Bearer ${token}\r\n`;
      socket.write(`GET http://api.example.com/ HTTP/1.1\r\n${head}Connection: close\r\n\r\n`);
    });
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
    socket.once('close', () => {
      resolve(text);
    });
    socket.once('error', reject);
  });
}
