// What is lent to a program that has the values themselves.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NODE, Story } from './kz.ts';
import { Lender } from './lender.ts';
import { alive, Running } from './processes.ts';

let story: Story;
let lender: Lender;

beforeEach(async () => {
  story = new Story();
  lender = await Lender.start(story);
});

afterEach(async () => {
  story.end();
  await lender.stop();
});

/** Says what it has, and ends with its standard input. */
const SHOWS = `
  console.log('token ' + process.env.TOKEN);
  if (process.env.PAIR) console.log('pair ' + (process.env.PAIR === process.env.NAME + ':' + process.env.TOKEN));
  console.log('ready ' + process.pid);
  process.stdin.on('data', () => undefined).on('end', () => process.exit(3));
`;

function start(secrets: string, ...flags: string[]): Running {
  story.config(`${lender.provider()}\n${secrets}\n`);
  return new Running(story.start(['run', ...flags, '--', NODE, '-e', SHOWS], { env: lender.env, keepInput: true }));
}

function token(more = ''): string {
  return `[secrets]\nTOKEN = { provider = "vault", ref = "database/creds/app#password"${more} }`;
}

async function end(running: Running): Promise<{ code: number | null; stdout: string; stderr: string }> {
  running.child.stdin?.end();
  const { code, stdout, stderr } = await running.ended;
  return { code, stdout, stderr };
}

it('a lease is renewed while the program runs, and given back when it ends', async () => {
  lender.lends('app', { seconds: 2 });
  const running = start(token());
  await running.numbers('ready');
  await lender.renewed(lender.the(1), 3);
  expect(await end(running)).toMatchObject({ code: 3, stderr: '' });
  expect(lender.lent).toEqual([{ ...lender.the(1), revoked: 'itself' }]);
});

describe('what cannot be renewed', () => {
  beforeEach(() => {
    lender.lends('app', { seconds: 4, renewable: false });
  });

  it('is issued again for on_rotate = "restart", and both values are redacted', async () => {
    const running = start(token(', on_rotate = "restart"'));
    await lender.issued(1);
    lender.lends('app', { seconds: 60, renewable: false });
    const [first = 0] = await running.numbers('ready');
    const [, second] = await running.numbers('ready', 2);
    expect(second).not.toBe(first);
    expect(alive(first)).toBe(false);
    // While the first one had its value, that was good.
    expect(Date.now()).toBeLessThan(lender.the(1).expiresAt + 1000);
    const { code, stdout, stderr } = await end(running);
    expect({ code, stderr }).toEqual({ code: 3, stderr: 'kz: TOKEN changed: the program is restarted\n' });
    expect(stdout.match(/token \[redacted:TOKEN\]/g)).toHaveLength(2);
    story.examine(stdout, 'the output');
    expect(lender.lent.map(({ revoked }) => revoked)).toEqual(['itself', 'itself']);
  });

  it('ends, without on_rotate, and kz says when', async () => {
    const running = start(token());
    await running.numbers('ready');
    await running.warned('cannot be renewed');
    const { code, stderr } = await end(running);
    expect(code).toBe(3);
    const { expiresAt } = lender.the(1);
    const times = [expiresAt - 1000, expiresAt].map((ms) => new Date(ms).toTimeString().slice(0, 8));
    expect(stderr).toMatch(
      new RegExp(
        `^kz: warning: the lease of TOKEN ends at (${times.join('|')}) and cannot be renewed: the program keeps the old one; ` +
          'on_rotate = "restart" would give it a new one\n$',
      ),
    );
    expect(lender.lent).toHaveLength(1);
  });

  it('changes all variables of one lease at once: one restart, and the document, template and field fit', async () => {
    const running = start(
      `[[secrets_from]]\nprovider = "vault"\nref = "database/creds/app"\nkeys = { NAME = "username" }\n` +
        `${token()}\nPAIR = { provider = "vault", ref = "database/creds/app", template = "{username}:{password}" }`,
      '--on-rotate',
      'restart',
    );
    await lender.issued(1);
    lender.lends('app', { seconds: 60, renewable: false });
    await running.numbers('ready', 2);
    const { stdout, stderr } = await end(running);
    expect(stderr).toBe('kz: TOKEN, PAIR, NAME changed: the program is restarted\n');
    expect(stdout.match(/pair true/g)).toHaveLength(2);
    story.examine(stdout, 'the output');
    expect(lender.lent).toHaveLength(2);
  });

  it('is issued again for a signal', async () => {
    const running = start(token(', on_rotate = "signal:USR2"'));
    await lender.issued(1);
    lender.lends('app', { seconds: 60, renewable: false });
    // It has no handler for it.
    const { signal, stderr } = await running.ended;
    expect({ signal, stderr }).toEqual({ signal: 'SIGUSR2', stderr: 'kz: TOKEN changed: the program gets SIGUSR2\n' });
    expect(lender.lent.map(({ revoked }) => revoked)).toEqual(['itself', 'itself']);
  });
});

it('a server that is away, without on_rotate, is told once, and the end of the lease once', async () => {
  lender.lends('app', { seconds: 3 });
  const running = start(token());
  await running.numbers('ready');
  await lender.unplug();
  await running.warned('the lease of TOKEN is over');
  const { code, stderr } = await end(running);
  expect(code).toBe(3);
  expect(stderr.split('\n')).toEqual([
    expect.stringMatching(/^kz: warning: TOKEN cannot be read again, the old value stays until \d\d:\d\d:\d\d: cannot reach vault at /),
    'kz: warning: the lease of TOKEN is over, and there is no new value',
    '',
  ]);
});

it('thirty leases restart a program together, and nothing else is said', async () => {
  const roles = Array.from({ length: 30 }, (_, index) => `role${String(index)}`);
  for (const role of roles) lender.lends(role, { seconds: 2 });
  lender.lends('app', { seconds: 3, renewable: false });
  const others = roles.map((role, index) => `T${String(index)} = { provider = "vault", ref = "database/creds/${role}#password" }`);
  const running = start(`${token(', on_rotate = "restart"')}\n${others.join('\n')}`);
  await lender.issued(31);
  lender.lends('app', { seconds: 60, renewable: false });
  for (const each of lender.lent.filter(({ renewable }) => renewable)) await lender.renewed(each, 4);
  await running.numbers('ready', 2);
  expect(await end(running)).toMatchObject({ code: 3, stderr: 'kz: TOKEN changed: the program is restarted\n' });
  expect(lender.lent).toHaveLength(32);
  expect(lender.lent.every(({ revoked }) => revoked === 'itself')).toBe(true);
});
