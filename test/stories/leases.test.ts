// What is lent to a blind program while it runs: renewed, issued again, missed while the server is away. `test/live/leases.test.ts` is the
// same with a real Vault and a real database.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BlindAsker } from './blind-asker.ts';
import { Story } from './kz.ts';
import { Lender } from './lender.ts';
import { waitFor } from './processes.ts';
import type { Upstream } from './upstream.ts';

let story: Story;
let lender: Lender;
let upstream: Upstream;

beforeEach(async () => {
  story = new Story();
  lender = await Lender.start(story);
  // Answers with every value that there was and is: none of them may reach the program.
  upstream = await BlindAsker.listen(() => lender.lent.map(({ password }) => password));
});

afterEach(async () => {
  story.end();
  await Promise.all([lender.stop(), upstream.stop()]);
});

const TOKEN = 'TOKEN = { provider = "vault", ref = "database/creds/app#password", hosts = ["api.example"] }';

function configure(secrets = `[secrets]\n${TOKEN}`): void {
  upstream.configure(story, `${lender.provider()}${secrets}\n`);
}

async function rotations(): Promise<readonly unknown[]> {
  const events = await auditEvents();
  return events.filter(({ type }) => type === 'rotation').map(({ names, result }) => ({ names, result }));
}

async function auditEvents(): Promise<readonly Record<string, unknown>[]> {
  const { stdout } = await story.kz(['audit', '--json']);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

it('a lease is renewed at half its life, and nobody notices', async () => {
  lender.lends('app', { seconds: 2 });
  configure();
  const asker = new BlindAsker(story, upstream, lender.env);
  const lent = await lender.issued(1);
  expect(await asker.ask()).toBe(lent.password);
  await lender.renewed(lent, 3);
  expect(await asker.ask()).toBe(lent.password);
  const { code, stderr, stdout } = await asker.end();
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  story.examine(stdout, 'what the program printed');
  expect(lender.lent).toEqual([{ ...lent, revoked: 'itself' }]);
  expect(lender.asked('PUT sys/leases/renew').map(({ body }) => body as unknown)).toContainEqual({ lease_id: lent.id, increment: 2 });
  expect(await rotations()).toEqual([]);
});

it('what cannot be renewed is issued again, and the next request carries the new value', async () => {
  lender.lends('app', { seconds: 4, renewable: false });
  configure();
  const asker = new BlindAsker(story, upstream, lender.env);
  const first = await lender.issued(1);
  // Only once, or it might change again during the request.
  lender.lends('app', { seconds: 60, renewable: false });
  const pid = await asker.pid();
  expect(await asker.ask()).toBe(first.password);
  const second = await lender.issued(2);
  await asker.running.warned('TOKEN changed');
  expect(await asker.ask()).toBe(second.password);
  const { stdout, stderr } = await asker.end();
  expect(stderr).toBe('kz: TOKEN changed: the next request carries the new value\n');
  expect(asker.running.count(`done ${String(pid)}`)).toBe(2);
  story.examine(stdout, 'what the program printed');
  expect(lender.asked('PUT sys/leases/renew')).toEqual([]);
  expect(lender.lent.every(({ revoked }) => revoked === 'itself')).toBe(true);
  expect(await rotations()).toEqual([{ names: ['TOKEN'], result: 'adopted' }]);
});

it('what has reached its longest life is issued again before it ends', async () => {
  lender.lends('app', { seconds: 4 });
  lender.first = ({ path, body }) => {
    const { lease_id: id } = (body ?? {}) as { lease_id?: unknown };
    if (path !== 'sys/leases/renew' || id !== lender.the(1).id) return undefined;
    return { status: 200, body: { lease_id: id, lease_duration: 1, renewable: true } };
  };
  configure();
  const asker = new BlindAsker(story, upstream, lender.env);
  await asker.running.warned('TOKEN changed');
  expect(Date.now()).toBeLessThan(lender.the(1).expiresAt);
  expect(await asker.ask()).toBe(lender.the(2).password);
  await asker.end();
});

it('what the policy lets nobody renew is issued again before it ends', async () => {
  lender.lends('app', { seconds: 4 });
  lender.first = ({ path }) =>
    path === 'sys/leases/renew' ? { status: 403, body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] } } : undefined;
  configure();
  const asker = new BlindAsker(story, upstream, lender.env);
  await asker.running.warned('changed');
  expect(Date.now()).toBeLessThan(lender.the(1).expiresAt);
  expect((await asker.end()).stderr).toMatch(/^(?:kz: TOKEN changed: the next request carries the new value\n)+$/);
});

it('while the server is away the old value serves until its lease ends; then the token is not swapped, until there is a new one', async () => {
  lender.lends('app', { seconds: 4 });
  configure();
  const asker = new BlindAsker(story, upstream, lender.env);
  const lent = await lender.issued(1);
  expect(await asker.ask()).toBe(lent.password);
  await lender.unplug();
  await asker.running.warned('TOKEN cannot be read again, the old value stays until ');
  expect(await asker.ask()).toBe(lent.password);
  expect(Date.now()).toBeLessThan(lent.expiresAt);
  await asker.running.warned('the lease of TOKEN is over');
  // kz counts from its question.
  expect(Date.now()).toBeGreaterThan(lent.expiresAt - 500);
  expect(await asker.ask()).toMatch(/^kz_masked_/);
  lender.lends('app', { seconds: 60 });
  await lender.plugIn();
  await asker.running.warned('TOKEN can be read again');
  expect(await asker.ask()).toBe(lender.the(2).password);
  const { code, stderr } = await asker.end();
  expect(code).toBe(0);
  const until = new Date(lent.expiresAt).toTimeString().slice(0, 5);
  expect(stderr.split('\n')).toEqual([
    expect.stringMatching(
      new RegExp(
        `^kz: warning: TOKEN cannot be read again, the old value stays until ${until}:\\d\\d: cannot reach vault at http://127.0.0.1`,
      ),
    ),
    'kz: warning: the lease of TOKEN is over, and there is no new value',
    'kz: TOKEN changed: the next request carries the new value',
    'kz: TOKEN can be read again',
    '',
  ]);
  const events = await auditEvents();
  const exchanges = events.filter(({ type }) => type === 'exchange');
  expect(exchanges.map(({ swapped, left }) => [(swapped as unknown[]).length, left])).toEqual([
    [1, []],
    [1, []],
    [0, [expect.objectContaining({ name: 'TOKEN', reason: 'expired' })]],
    [1, []],
  ]);
  expect(await rotations()).toEqual(['failing', 'expired', 'adopted', 'working'].map((result) => ({ names: ['TOKEN'], result })));
});

it('a server that is sealed for a moment is asked again, and nothing changes', async () => {
  lender.lends('app', { seconds: 4 });
  configure();
  const asker = new BlindAsker(story, upstream, lender.env);
  const lent = await lender.issued(1);
  lender.fake.sealed = true;
  lender.first = () => ({ status: 503, body: { errors: ['Vault is sealed'] } });
  await asker.running.warned('is sealed');
  lender.first = undefined;
  lender.fake.sealed = false;
  await asker.running.warned('TOKEN can be read again');
  expect(lent.renewals).toBe(1);
  expect(await asker.ask()).toBe(lent.password);
  await asker.end();
  expect(lender.lent).toHaveLength(1);
});

it('two variables of one lease change together, also when a document gave them', async () => {
  lender.lends('app', { seconds: 4, renewable: false });
  configure(
    `[[secrets_from]]\nprovider = "vault"\nref = "database/creds/app"\nkeys = { PASS = "password" }\n` +
      `[secrets]\n${TOKEN}\nPAIR = { provider = "vault", ref = "database/creds/app", template = "{username}.{password}", hosts = ["api.example"] }\n` +
      '[[blind.connections]]\nallow = true\nhost = "*"\n',
  );
  const asker = new BlindAsker(story, upstream, lender.env);
  const first = await lender.issued(1);
  lender.lends('app', { seconds: 60, renewable: false });
  expect(await asker.ask()).toBe(first.password);
  await asker.running.warned('changed: the next request carries the new value');
  expect(await asker.ask()).toBe(lender.the(2).password);
  const { stderr } = await asker.end();
  expect(stderr).toMatch(/^kz: TOKEN, PAIR, PASS changed: the next request carries the new value$/m);
  expect(lender.lent).toHaveLength(2);
});

it('thirty leases live on side by side, with nothing on standard error', async () => {
  const roles = Array.from({ length: 30 }, (_, index) => `role${String(index)}`);
  for (const [index, role] of roles.entries()) lender.lends(role, { seconds: 2, renewable: index % 2 === 0 });
  const declared = roles.map((role, index) => {
    const more = index === 0 ? '' : ', refresh = "2s"';
    return `T${String(index)} = { provider = "vault", ref = "database/creds/${role}#password", hosts = ["api.example"]${index % 10 === 0 ? more : ''} }`;
  });
  configure(`[secrets]\n${declared.join('\n')}`);
  const asker = new BlindAsker(story, upstream, lender.env);
  await asker.pid();
  const steady = lender.lent.filter(({ role, renewable }) => renewable && role !== 'role10' && role !== 'role20');
  expect(steady).toHaveLength(13);
  await waitFor('five renewals of each', () => steady.every(({ renewals }) => renewals >= 5), 20_000);
  const { code, stderr } = await asker.end();
  expect(code).toBe(0);
  const lines = stderr.split('\n').filter((line) => line !== '');
  expect(lines.length).toBeGreaterThan(30);
  expect(lines.filter((line) => !/^kz: T\d+(?:, T\d+)* changed: the next request carries the new value$/.test(line))).toEqual([]);
  expect(lender.lent.filter(({ revoked, expiresAt }) => revoked === undefined && expiresAt > Date.now())).toEqual([]);
});
