import { afterEach, describe, expect, it } from 'vitest';
import { Seal } from '../../../src/server/tokens/seal.ts';
import type { LabOptions } from '../../proxy/lab.ts';
import { basic, TokenLab, type TokenLabOptions } from './token-lab.ts';

const HOST = 'https://api.github.com';
let lab: TokenLab;

afterEach(async () => {
  await lab.close();
});

async function start(options: TokenLabOptions = {}): Promise<string> {
  lab = await TokenLab.start(options);
  return lab.token();
}

describe('a token is refused, and the request with it', () => {
  async function refusal(token: string, url = `${HOST}/user`, method = 'GET'): Promise<unknown> {
    const { status, headers, text } = await lab.ask(url, { method, headers: { authorization: `Bearer ${token}` } });
    expect([status, lab.upstream.received, lab.fetched]).toEqual([403, [], 0]);
    expect(text).not.toContain(token);
    // That is for rules of a config. What a token lacks, whoever asks can mend.
    expect(text).not.toContain('Only a person can change that');
    expect(lab.events.at(-1)).toMatchObject({ code: headers['x-kz-error'], event: { decision: 'blocked', swapped: [] } });
    return headers['x-kz-error'];
  }

  it('of another caller', async () => {
    await start();
    expect(await refusal(await lab.token('github/pat', 'bob'))).toBe('token-invalid');
    expect(lab.decisions).toEqual([]);
  });

  it('that has expired', async () => {
    let time = Date.now();
    await start({ now: () => time });
    const token = await lab.token('github/pat', 'alice', time + 60_000);
    time += 61_000;
    expect(await refusal(token)).toBe('token-expired');
  });

  it('that was tampered with, cut, or sealed by somebody else', async () => {
    const token = await start();
    const foreign = await Seal.random().seal({ ref: 'github/pat', issuer: 'lab', sub: 'alice', expiresAt: Date.now() + 60_000 });
    const middle = token.length - 40;
    const flipped = token.slice(0, middle) + (token[middle] === 'A' ? 'B' : 'A') + token.slice(middle + 1);
    for (const bad of [flipped, token.slice(0, -1), token.slice(0, 40), 'KZ_TOK_', foreign])
      expect(await refusal(bad)).toBe('token-invalid');
  });

  it('at another host, with another method, on another path', async () => {
    const resources = [
      { ref: 'github/pat', paths: ['/repos/**'], methods: ['GET'] },
      { ref: 'other', hosts: ['other.example', 'api.github.com'] },
    ];
    const token = await start({ resources });
    expect(await refusal(token, 'https://other.example/repos/a')).toBe('url-forbidden');
    expect(await refusal(token, `${HOST}/repos/a`, 'POST')).toBe('url-forbidden');
    expect(await refusal(token, `${HOST}/user`)).toBe('url-forbidden');
    expect(await refusal(token, `${HOST}/repos/../user`)).toBe('url-forbidden');
  });

  it('at a host that the resource got later', async () => {
    const token = await start({ resources: [{ ref: 'github/pat' }, { ref: 'wide', hosts: ['other.example'] }] });
    const [pat, wide] = lab.resources;
    if (pat === undefined || wide === undefined) throw new Error('no resources');
    lab.resources = [{ entry: { ...pat.entry, hosts: ['other.example'] }, rules: wide.rules }];
    expect(await refusal(token, 'https://other.example/x')).toBe('url-forbidden');
  });

  it('when the policies have changed their mind, or the resource is gone', async () => {
    const token = await start({ resources: [{ ref: 'github/pat' }, { ref: 'b' }] });
    lab.policy = (_caller, { request }) => request?.path !== '/user';
    expect(await refusal(token)).toBe('denied');
    lab.policy = () => true;
    lab.resources = lab.resources.slice(1);
    expect(await refusal(token)).toBe('ref-unknown');
  });

  it('when there are too many', async () => {
    await start();
    const tokens = await Promise.all(Array.from({ length: 17 }, () => lab.token()));
    expect(await refusal(tokens.join(','))).toBe('request-invalid');
  });

  it('whose value cannot be in a header', async () => {
    const token = await start({ resources: [{ ref: 'github/pat', value: 'CANARY-1\nCANARY-2' }] });
    const { status, headers } = await lab.ask(`${HOST}/user`, { headers: { authorization: `Bearer ${token}` } });
    expect([status, headers['x-kz-error'], lab.upstream.received]).toEqual([403, 'header-forbidden', []]);
  });
});

describe('who may come in', () => {
  it('nobody without a credential, or with a bad one', async () => {
    await start();
    for (const credential of [undefined, 'Basic eDo=', basic('mallory'), 'Digest x', 'Bearer mallory']) {
      const { head } = await lab.connect('api.github.com:443', credential);
      expect(head).toMatch(/^HTTP\/1\.1 407 .*\r\nProxy-Authenticate: Basic/);
    }
    const reply = await lab.ask('http://api.github.com/', { jwt: 'mallory' });
    expect([reply.status, reply.headers['x-kz-error']]).toEqual([407, 'jwt-invalid']);
    expect(lab.events.every(({ event }) => event.type === 'refused')).toBe(true);
  });

  it('a caller with Basic or Bearer', async () => {
    await start();
    for (const credential of [basic('alice'), 'Bearer alice']) {
      expect((await lab.connect('api.github.com:443', credential)).head).toMatch(/^HTTP\/1\.1 200/);
    }
  });

  it('to hosts that a resource names, and nowhere else', async () => {
    await start();
    const reply = await lab.ask('https://evil.example/');
    expect([reply.status, reply.headers['x-kz-error']]).toEqual([403, 'denied']);
    expect(reply.text).not.toContain('blind.connections');
    expect((await lab.ask(`${HOST}/`, { method: 'DELETE' })).status).toBe(403);
    expect((await lab.ask(`${HOST}/`)).status).toBe(200);
    lab.resources = [];
    expect((await lab.ask(`${HOST}/`)).status).toBe(403);
    expect((await lab.ask('https://evil.example/')).status).toBe(403);
  });

  it.each(['10.0.0.1', '127.0.0.1', '169.254.169.254', '::1', '::ffff:10.0.0.1', '64:ff9b::a9fe:a9fe', '2002:7f00:1::', '0.0.0.0'])(
    'not to a name below a star that is at %s, with a token or without one',
    async (address) => {
      const resources = [{ ref: 'github/pat', hosts: ['*.example.com'] }];
      const token = await start({ resources, lookup: () => [address] });
      for (const headers of [{ authorization: `Bearer ${token}` }, {}]) {
        const { status, headers: answered } = await lab.ask('https://mine.example.com/', { headers });
        expect([status, answered['x-kz-error'], lab.upstream.received]).toEqual([403, 'address-forbidden', []]);
      }
      expect(await lab.ask2('mine.example.com:443', { ':path': '/', authorization: `Bearer ${token}` })).toMatchObject({
        ...{ status: 403, code: 'address-forbidden' },
      });
    },
  );

  it('to a private address where a resource names the host, also beside one for hosts of any name', async () => {
    const wide = { ref: 'wide', hosts: ['*', '*.intranet.example'] };
    const resources = [wide, { ref: 'github/pat', hosts: ['a.intranet.example'] }];
    const upstream: LabOptions = {
      serveHttp2: (stream) => {
        stream.respond({ ':status': 200 });
        stream.end();
      },
    };
    const token = await start({ resources, lookup: () => ['10.0.0.1'], upstream });
    const headers = { authorization: `Bearer ${token}` };
    expect((await lab.ask('https://a.intranet.example/x', { headers })).status).toBe(200);
    expect((await lab.ask('https://b.intranet.example/x')).headers['x-kz-error']).toBe('address-forbidden');
    expect(await lab.ask2('a.intranet.example:443', { ':path': '/x', ...headers })).toMatchObject({ status: 200 });
  });

  it('not for bytes that are not HTTP', async () => {
    await start();
    const { socket } = await lab.connect('api.github.com:443', basic('alice'));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('SSH-2.0-x\r\n');
    await closed;
    expect(lab.upstream.received).toEqual([]);
  });

  it('two callers at the same time, each with its own tokens', async () => {
    const mine = await start();
    const theirs = await lab.token('github/pat', 'bob');
    const [alice, bob] = [await lab.tunnel('api.github.com:443', 'alice'), await lab.tunnel('api.github.com:443', 'bob')];
    const statuses: number[] = [];
    for (const [socket, token] of [
      [alice, mine],
      [bob, theirs],
      [bob, mine],
      [alice, theirs],
      [alice, mine],
    ] as const) {
      statuses.push((await lab.ask(`${HOST}/user`, { headers: { authorization: `Bearer ${token}` } }, socket)).status);
    }
    expect(statuses).toEqual([200, 200, 403, 403, 200]);
  });

  it('as long as its JWT lives', async () => {
    let time = Date.now();
    await start({ now: () => time });
    lab.add('carol', time + 1000);
    const socket = await lab.tunnel('api.github.com:443', 'carol');
    expect((await lab.ask(`${HOST}/`, {}, socket)).status).toBe(200);
    time += 1000;
    const reply = await lab.ask(`${HOST}/`, {}, socket);
    expect([reply.status, reply.headers['x-kz-error'], reply.headers.connection]).toEqual([401, 'jwt-expired', 'close']);
    expect((await lab.connect('api.github.com:443', basic('carol'))).head).toMatch(/^HTTP\/1\.1 407/);
  });
});
