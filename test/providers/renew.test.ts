// Leases, refreshes and watches on a clock that the test moves by hand.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { KzError } from '../../src/core/errors.ts';
import { Secret } from '../../src/core/secret.ts';
import { Keeper } from '../../src/providers/renew.ts';
import type { Outcome, Ref } from '../../src/providers/provider.ts';
import { resolveSecrets } from '../../src/providers/secrets.ts';
import { HandClock, OneShelf, settled, Shelf } from '../fixtures/shelf.ts';
import { folder, scene } from './renew-scene.ts';

const MINUTE = 60_000;

const ONE = 'A = { provider = "vault", ref = "db" }';

it('has nothing to do for values that never change', async () => {
  const { keeper } = await scene('A = { provider = "exec", ref = "a" }', (shelf) => shelf.values.set('a', 'CANARY-1'));
  expect(keeper).toBeUndefined();
});

it('renews a lease at half its life, again and again, and tells nobody', async () => {
  const { clock, shelf, events } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
  });
  await clock.pass(29 * MINUTE);
  expect(shelf.calls).toEqual([]);
  await clock.pass(2 * MINUTE);
  expect(shelf.calls).toEqual(['renew lease-1']);
  await clock.pass(60 * MINUTE);
  expect(shelf.calls).toEqual(['renew lease-1', 'renew lease-1', 'renew lease-1']);
  expect(events).toEqual([]);
});

it('moves the moment of renewal by up to a tenth', async () => {
  writeFileSync(join(folder, '.keyzero.toml'), `[secrets]\n${ONE}`);
  const config = await loadConfig({ env: { HOME: folder }, cwd: folder });
  for (const [random, first] of [
    [0, 27 * MINUTE],
    [1, 33 * MINUTE],
  ] as const) {
    const clock = new HandClock();
    const shelf = new Shelf(clock);
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
    const access = new OneShelf(shelf);
    const { secrets } = await resolveSecrets(config, {}, access, AbortSignal.timeout(10_000));
    const waits: number[] = [];
    const sleep = (ms: number, signal: AbortSignal) => {
      waits.push(ms);
      return clock.sleep(ms, signal);
    };
    const consumer = { uses: () => true, adopt: () => [], expire: () => undefined };
    const keeper = Keeper.start(secrets, {
      config,
      access,
      consumer,
      tell: () => undefined,
      sleep,
      now: () => clock.now,
      random: () => random,
    });
    await settled();
    await keeper?.close();
    expect(waits[0]).toBeCloseTo(first, 0);
  }
});

it('issues again what cannot be renewed, and gives the new value to the consumer', async () => {
  const { clock, shelf, events, adopted } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
    shelf.renewable = false;
  });
  shelf.values.set('db', 'CANARY-2');
  await clock.pass(31 * MINUTE);
  expect(shelf.calls).toEqual(['get db']);
  expect(adopted).toEqual({ A: 'CANARY-2' });
  expect(events).toEqual([{ type: 'adopted', names: ['A'] }]);
});

it('issues again when the server says that the lease is gone', async () => {
  const { clock, shelf, adopted } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
    shelf.renewFor = () => {
      throw new KzError('lease-ended', 'the lease is gone');
    };
  });
  shelf.values.set('db', 'CANARY-2');
  await clock.pass(31 * MINUTE);
  expect(shelf.calls).toEqual(['renew lease-1', 'get db']);
  expect(adopted).toEqual({ A: 'CANARY-2' });
});

it('issues again while a lease near its longest life still lives', async () => {
  const { clock, shelf } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
    shelf.renewFor = (lease) => ({ ...lease, durationMs: 5 * MINUTE, expiresAt: lease.expiresAt });
  });
  await clock.pass(31 * MINUTE);
  expect(shelf.calls).toEqual(['renew lease-1', 'get db']);
});

it('reads all secrets of one lease again together', async () => {
  const both = 'A = { provider = "vault", ref = "db#a" }\nB = { provider = "vault", ref = "db#b" }';
  const { clock, shelf, adopted } = await scene(both, (shelf) => {
    shelf.values.set('db#a', 'CANARY-A1').set('db#b', 'CANARY-B1');
    shelf.leaseMs = 60 * MINUTE;
    shelf.renewable = false;
  });
  shelf.values.set('db#a', 'CANARY-A2').set('db#b', 'CANARY-B2');
  await clock.pass(31 * MINUTE);
  expect(shelf.calls).toEqual(['get db#a db#b']);
  expect(adopted).toEqual({ A: 'CANARY-A2', B: 'CANARY-B2' });
});

it('keeps the value while its provider is down, tells it once, and says when it works again', async () => {
  const { clock, shelf, events, expired } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
  });
  shelf.down = new KzError('provider-unavailable', 'cannot reach the shelf');
  await clock.pass(50 * MINUTE);
  expect(shelf.calls.length).toBeGreaterThan(5);
  expect(events).toEqual([{ type: 'failing', names: ['A'], error: shelf.down, until: 1_000_000 + 60 * MINUTE }]);
  expect(expired).toEqual([]);
  shelf.down = undefined;
  await clock.pass(2 * MINUTE);
  expect(events.at(-1)).toEqual({ type: 'working', names: ['A'] });
});

it('says when the lease of a provider that stays down is over, and takes the next value it gets', async () => {
  const { clock, shelf, events, expired, adopted } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 60 * MINUTE;
  });
  shelf.down = new KzError('provider-unavailable', 'cannot reach the shelf');
  await clock.pass(70 * MINUTE);
  expect(expired).toEqual(['A']);
  expect(events.map(({ type }) => type)).toEqual(['failing', 'expired']);
  shelf.down = undefined;
  shelf.values.set('db', 'CANARY-2');
  await clock.pass(3 * MINUTE);
  expect(adopted).toEqual({ A: 'CANARY-2' });
  expect(events.slice(2).map(({ type }) => type)).toEqual(['adopted', 'working']);
});

it('says when a lease ends that nobody could take the successor of, and asks no more', async () => {
  const { clock, shelf, events } = await scene(
    ONE,
    (shelf) => {
      shelf.values.set('db', 'CANARY-1');
      shelf.leaseMs = 60 * MINUTE;
      shelf.renewable = false;
    },
    false,
  );
  await clock.pass(24 * 60 * MINUTE);
  expect(shelf.calls).toEqual([]);
  expect(events).toEqual([{ type: 'ending', names: ['A'], at: 1_000_000 + 60 * MINUTE }]);
});

it('does not adopt a new value that fails its checks, and says so once', async () => {
  const checked = 'A = { provider = "aws", ref = "a", refresh = "15m", starts_with = "CANARY-" }';
  const { clock, shelf, events, adopted } = await scene(checked, (shelf) => shelf.values.set('a', 'CANARY-1'));
  shelf.values.set('a', 'other');
  await clock.pass(50 * MINUTE);
  expect(shelf.calls).toEqual(['get a', 'get a', 'get a']);
  expect(adopted).toEqual({});
  expect(events).toEqual([{ type: 'kept', name: 'A', why: 'does not start with "CANARY-" (provider: aws, ref: a)' }]);
  shelf.values.set('a', 'CANARY-2');
  await clock.pass(15 * MINUTE);
  expect(adopted).toEqual({ A: 'CANARY-2' });
});

it('refreshes all secrets of one interval in one call', async () => {
  const many = Array.from({ length: 20 }, (_, n) => `S${String(n)} = { provider = "aws", ref = "r${String(n)}", refresh = "15m" }`).join(
    '\n',
  );
  const { clock, shelf, events, adopted } = await scene(many, (shelf) => {
    for (let n = 0; n < 20; n++) shelf.values.set(`r${String(n)}`, `CANARY-${String(n)}`);
  });
  shelf.values.set('r7', 'CANARY-new');
  await clock.pass(16 * MINUTE);
  expect(shelf.calls).toHaveLength(1);
  expect(adopted).toEqual({ S7: 'CANARY-new' });
  expect(events).toEqual([{ type: 'adopted', names: ['S7'] }]);
});

it('tells which values the consumer would not take, and why', async () => {
  const { clock, shelf, events, refusals } = await scene('A = { provider = "aws", ref = "a", refresh = "15m" }', (shelf) =>
    shelf.values.set('a', 'CANARY-1'),
  );
  refusals.push({ name: 'A', why: 'would go elsewhere' });
  shelf.values.set('a', 'CANARY-2');
  await clock.pass(40 * MINUTE);
  expect(events).toEqual([{ type: 'kept', name: 'A', why: 'would go elsewhere' }]);
});

it('reads a watched file when it changed, and looks twice before it says that it is gone', async () => {
  const { clock, shelf, events, adopted } = await scene('A = { provider = "file", ref = "a" }', (shelf) =>
    shelf.values.set('a', 'CANARY-1'),
  );
  await settled();
  shelf.values.set('a', 'CANARY-2');
  shelf.touch('a');
  await settled();
  expect(adopted).toEqual({ A: 'CANARY-2' });
  shelf.values.delete('a');
  shelf.touch('a');
  await settled();
  shelf.values.set('a', 'CANARY-3');
  await clock.pass(2000);
  expect(adopted).toEqual({ A: 'CANARY-3' });
  expect(events.map(({ type }) => type)).toEqual(['adopted', 'adopted']);
  shelf.values.delete('a');
  shelf.touch('a');
  await clock.pass(2000);
  expect(events.at(-1)).toMatchObject({ type: 'kept', name: 'A' });
});

it('renews what the provider is logged in with, soon and then at half its life', async () => {
  const { clock, shelf } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 24 * 60 * MINUTE;
    shelf.loginLease = shelf.lease('login', 20 * MINUTE);
    shelf.renewFor = (lease) => {
      const next = shelf.lease(lease.id, 10 * MINUTE);
      shelf.loginLease = next;
      return next;
    };
  });
  await clock.pass(6000);
  expect(shelf.calls).toEqual(['renew login']);
  await clock.pass(11 * MINUTE);
  expect(shelf.calls).toEqual(['renew login', 'renew login', 'renew login']);
});

it('asks nothing any more once it is closed', async () => {
  const { clock, shelf, keeper } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = MINUTE;
  });
  await keeper?.close();
  await clock.pass(60 * MINUTE);
  expect(shelf.calls).toEqual([]);
});

it.each([false, true])(
  'says and changes nothing once it is closed, and waits a moment for who is being asked (answers: %s)',
  async (answers) => {
    const { clock, shelf, events, adopted, keeper } = await scene('A = { provider = "vault", ref = "db", refresh = "1m" }', (shelf) =>
      shelf.values.set('db', 'CANARY-1'),
    );
    let asked: { readonly signal: AbortSignal; readonly answer: () => void } | undefined;
    const get = (_refs: readonly Ref[], signal: AbortSignal): Promise<readonly Outcome[]> =>
      new Promise((resolve) => {
        const answer = (): void => {
          resolve([{ ok: true, secret: new Secret('CANARY-2') }]);
        };
        asked = { signal, answer };
      });
    Object.assign(shelf, { get });
    await clock.pass(2 * MINUTE);
    const closed = keeper?.close();
    await settled();
    // What comes now may have been issued, and is given back only when it is known.
    expect(asked?.signal.aborted).toBe(false);
    if (answers) asked?.answer();
    await closed;
    await settled();
    expect({ isAborted: asked?.signal.aborted, events, adopted }).toEqual({ isAborted: true, events: [], adopted: {} });
  },
);

it('says nothing once it is closed, of a lease that is being renewed', async () => {
  const prepare = (shelf: Shelf): void => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 2 * MINUTE;
  };
  const { clock, shelf, events, keeper } = await scene(ONE, prepare, false);
  let answer: (() => void) | undefined;
  shelf.renew = (lease) =>
    new Promise((resolve) => {
      // Near its longest life.
      answer = () => {
        resolve({ ...lease, durationMs: 1000, expiresAt: clock.now + 1000 });
      };
    });
  await clock.pass(MINUTE);
  await keeper?.close();
  answer?.();
  await settled();
  expect({ asked: answer !== undefined, events }).toEqual({ asked: true, events: [] });
});

it('goes on asking for a login that could not be renewed, once a minute and not more', async () => {
  const { clock, shelf } = await scene(ONE, (shelf) => {
    shelf.values.set('db', 'CANARY-1');
    shelf.leaseMs = 24 * 60 * MINUTE;
    shelf.loginLease = shelf.lease('login', 2 * MINUTE);
    shelf.renewFor = () => {
      throw new KzError('lease-ended', 'the login cannot be renewed');
    };
  });
  await clock.pass(6000);
  shelf.loginLease = undefined;
  await clock.pass(3 * MINUTE);
  expect(shelf.calls).toEqual(['renew login']);
  shelf.loginLease = shelf.lease('login', 2 * MINUTE);
  await clock.pass(10 * MINUTE);
  expect(shelf.calls.length).toBeLessThanOrEqual(12);
  expect(shelf.calls.length).toBeGreaterThan(5);
});
