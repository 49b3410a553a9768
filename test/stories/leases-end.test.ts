// However a run ends, what was lent for it is given back; and what kz cannot give back any more ends soon.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BlindAsker } from './blind-asker.ts';
import { Story, type Ended } from './kz.ts';
import { Lender, type Lent } from './lender.ts';
import { Running, waitFor, waitUntilGone } from './processes.ts';
import type { Upstream } from './upstream.ts';

let story: Story;
let lender: Lender;
let upstream: Upstream;

beforeEach(async () => {
  story = new Story();
  [lender, upstream] = await Promise.all([Lender.start(story), BlindAsker.listen()]);
});

afterEach(async () => {
  story.end();
  await Promise.all([lender.stop(), upstream.stop()]);
});

const TOKEN = 'TOKEN = { provider = "vault", ref = "database/creds/app#password", hosts = ["api.example"] }';

function configure(provider = '', secrets = TOKEN): void {
  upstream.configure(story, `${lender.provider(provider)}[secrets]\n${secrets}\n`);
}

function accessors(): Promise<number> {
  return lender.fake
    .request('GET', 'auth/token/accessors?list=true')
    .then(({ body }) => (body as { data: { keys: string[] } }).data.keys.length);
}

function revoked(): readonly Lent['revoked'][] {
  return lender.lent.map((each) => each.revoked);
}

describe('a blind run', () => {
  const ENDS: readonly [string, (asker: BlindAsker) => Promise<Ended>, Partial<Ended>][] = [
    ['the program ends', (asker) => asker.end(), { code: 0, signal: null }],
    [
      'kz gets TERM',
      (asker) => {
        asker.running.send('SIGTERM');
        return asker.running.ended;
      },
      { code: null, signal: 'SIGTERM' },
    ],
    [
      'the program is killed',
      async (asker) => {
        process.kill(await asker.pid(), 'SIGKILL');
        return asker.running.ended;
      },
      { code: null, signal: 'SIGKILL' },
    ],
  ];

  describe.each(ENDS)('when %s', (_how, end, expected) => {
    it('gives its lease back, and leaves the token of the user alone', async () => {
      lender.lends('app', { seconds: 2 });
      configure();
      const asker = new BlindAsker(story, upstream, lender.env);
      await asker.pid();
      await lender.renewed(lender.the(1));
      const { code, signal, stderr } = await end(asker);
      expect({ code, signal, stderr }).toEqual({ ...expected, stderr: '' });
      expect(revoked()).toEqual(['itself']);
      expect(lender.asked('PUT auth/token/revoke')).toEqual([]);
      expect((await lender.fake.request('GET', 'auth/token/lookup-self')).status).toBe(200);
    });

    it('gives its login back, and with it what was issued to it', async () => {
      lender.lends('app', { seconds: 2 });
      configure('auth = "approle"');
      const before = await accessors();
      const asker = new BlindAsker(story, upstream, await lender.appRole('1h'));
      await asker.pid();
      expect(await accessors()).toBe(before + 1);
      const { code, signal, stderr } = await end(asker);
      expect({ code, signal, stderr }).toEqual({ ...expected, stderr: '' });
      expect(revoked()).toEqual(['with its token']);
      expect(lender.asked('PUT sys/leases/revoke')).toEqual([]);
      expect(await accessors()).toBe(before);
    });
  });

  it('that is killed gives nothing back, but its login ends soon', async () => {
    lender.lends('app', { seconds: 3600 });
    configure('auth = "approle"');
    const asker = new BlindAsker(story, upstream, await lender.appRole('1h'));
    const child = await asker.pid();
    const startedAt = Date.now();
    await waitFor('the first renewal of the login', () => lender.asked('PUT auth/token/renew-self').length > 0);
    expect(Date.now() - startedAt).toBeGreaterThan(3000);
    expect(lender.asked('PUT auth/token/renew-self').map(({ body }) => body as unknown)).toEqual([{ increment: 600 }]);
    asker.running.send('SIGKILL');
    expect((await asker.running.ended).signal).toBe('SIGKILL');
    await waitUntilGone([child]);
    expect(revoked()).toEqual([undefined]);
    expect(lender.asked('PUT auth/token/revoke')).toEqual([]);
    const looked = await lender.fake.request('POST', 'auth/token/lookup', { token: lender.the(1).token });
    expect((looked.body as { data: { ttl: number } }).data.ttl).toBeLessThanOrEqual(600);
  });

  it('renews a login that is short at half its life', async () => {
    lender.lends('app', { seconds: 3600 });
    configure('auth = "approle"');
    const asker = new BlindAsker(story, upstream, await lender.appRole('2s'));
    const lent = await lender.issued(1);
    await waitFor('renewals of the login', () => lender.asked('PUT auth/token/renew-self').length >= 3);
    expect(lender.asked('PUT auth/token/renew-self').map(({ body }) => body as unknown)).toContainEqual({ increment: 2 });
    expect(await asker.ask()).toBe(lent.password);
    expect((await asker.end()).stderr).toBe('');
    expect(lender.asked('POST auth/approle/login')).toHaveLength(1);
  });

  it('logs in again before its login has reached its longest life, with a new lease for what would end with it', async () => {
    lender.lends('app', { seconds: 3600 });
    let end = Infinity;
    lender.first = ({ path, headers }) => {
      if (path !== 'auth/token/renew-self' || headers['x-vault-token'] !== lender.the(1).token) return undefined;
      end = Math.min(end, Date.now() + 3000);
      return { status: 200, body: { auth: { lease_duration: Math.ceil((end - Date.now()) / 1000), renewable: true } } };
    };
    configure('auth = "approle"');
    const asker = new BlindAsker(story, upstream, await lender.appRole('4s'));
    expect(await asker.ask()).toBe(lender.the(1).password);
    await asker.running.warned('TOKEN changed');
    expect(Date.now()).toBeLessThan(end);
    expect(lender.the(2).token).not.toBe(lender.the(1).token);
    expect(revoked()).toEqual([undefined, undefined]);
    expect(await asker.ask()).toBe(lender.the(2).password);
    const { stderr } = await asker.end();
    expect(stderr).toBe('kz: TOKEN changed: the next request carries the new value\n');
    expect(revoked()).toEqual(['with its token', 'with its token']);
  });

  it('does not wait for a server that has gone', async () => {
    lender.lends('app', { seconds: 3600 });
    configure();
    const asker = new BlindAsker(story, upstream, lender.env);
    await asker.pid();
    lender.first = () => 'hang';
    const endedAt = Date.now();
    const { code, stderr } = await asker.end();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(Date.now() - endedAt).toBeLessThan(4000);
  });

  it('has a lease of its own, also when two start at the same time', async () => {
    lender.lends('app', { seconds: 2 });
    configure();
    const askers = [new BlindAsker(story, upstream, lender.env), new BlindAsker(story, upstream, lender.env)];
    await lender.issued(2);
    const used: string[] = [];
    for (const asker of askers) used.push(await asker.ask());
    expect(used.toSorted()).toEqual(lender.lent.map(({ password }) => password).toSorted());
    const [one, other] = askers;
    await one?.end();
    expect(revoked().filter((each) => each === 'itself')).toHaveLength(1);
    expect(used).toContain(await other?.ask());
    await other?.end();
    expect(revoked()).toEqual(['itself', 'itself']);
  });
});

describe('what is lent to other commands', () => {
  beforeEach(() => {
    lender.lends('app', { seconds: 3600 });
  });

  it('kz status and kz doctor give back', async () => {
    configure();
    expect((await story.kz(['status'], { env: lender.env })).code).toBe(0);
    await story.kz(['doctor', '--json'], { env: lender.env });
    expect(lender.lent.length).toBeGreaterThan(0);
    expect(revoked().every((each) => each === 'itself')).toBe(true);
  });

  it('kz get and kz export print, and leave alive', async () => {
    configure();
    const got = await story.kz(['get', 'TOKEN'], { env: lender.env, reveals: true });
    const exported = await story.kz(['export', '--format', 'json'], { env: lender.env, reveals: true });
    expect(got.stdout).toBe(`${lender.the(1).password}\n`);
    expect(exported.stdout).toContain(lender.the(2).password);
    expect(revoked()).toEqual([undefined, undefined]);
    expect(lender.asked('PUT auth/token/revoke')).toEqual([]);
  });

  it.each([
    [['false'], 1],
    [['kz-no-such-program'], 127],
    [['/'], 126],
  ])('kz run -- %j gives back', async (words, status) => {
    configure();
    for (const mode of [[], ['--blind']]) expect((await story.kz(['run', ...mode, '--', ...words], { env: lender.env })).code).toBe(status);
    expect(revoked()).toEqual(['itself', 'itself']);
  });

  it('kz run gives back when it refuses to start', async () => {
    configure('', `${TOKEN}\nOTHER = { provider = "env", ref = "NOT_THERE", hosts = ["api.example"] }`);
    for (const mode of [[], ['--blind']]) expect((await story.kz(['run', ...mode, '--', 'true'], { env: lender.env })).code).toBe(125);
    expect(revoked()).toEqual(['itself', 'itself']);
  });

  it.each([
    ['a token', '', () => Promise.resolve(lender.env), 'itself'],
    ['a login', 'auth = "approle"', () => lender.appRole('1h'), 'with its token'],
  ])('^C while another secret is still awaited gives back what was issued to %s', async (_who, provider, env, how) => {
    configure(provider, `${TOKEN}\nSLOW = { provider = "vault", ref = "database/creds/slow", hosts = ["api.example"] }`);
    lender.first = ({ path }) => (path === 'database/creds/slow' ? 'hang' : undefined);
    const running = new Running(story.start(['run', '--', 'true'], { env: await env() }));
    await lender.issued(1);
    await waitFor('the slow one', () => lender.asked('GET database/creds/slow').length > 0);
    running.send('SIGINT');
    expect((await running.ended).signal).toBe('SIGINT');
    expect(revoked()).toEqual([how]);
  });
});
