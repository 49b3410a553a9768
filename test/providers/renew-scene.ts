// A keeper of secrets from a shelf, on a clock that the test moves by hand.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { KeeperEvent, NotAdopted } from '../../src/providers/renew-event.ts';
import { Keeper } from '../../src/providers/renew.ts';
import { resolveSecrets, type SetSecret } from '../../src/providers/secrets.ts';
import { HandClock, OneShelf, Shelf } from '../fixtures/shelf.ts';

/** The project and the home folder of each test. */
export let folder: string;
const keepers: Keeper[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-renew-'));
});

afterEach(async () => {
  await Promise.all(keepers.splice(0).map((keeper) => keeper.close()));
  rmSync(folder, { recursive: true, force: true });
});

export interface Scene {
  readonly clock: HandClock;
  readonly shelf: Shelf;
  readonly events: KeeperEvent[];
  readonly adopted: Record<string, string>;
  readonly expired: string[];
  readonly refusals: NotAdopted[];
  readonly keeper: Keeper | undefined;
}

export async function scene(text: string, prepare: (shelf: Shelf) => void, uses = true): Promise<Scene> {
  writeFileSync(join(folder, '.keyzero.toml'), `[secrets]\n${text}`);
  const config = await loadConfig({ env: { HOME: folder }, cwd: folder });
  const clock = new HandClock();
  const shelf = new Shelf(clock);
  prepare(shelf);
  const access = new OneShelf(shelf);
  const { secrets } = await resolveSecrets(config, {}, access, AbortSignal.timeout(10_000));
  const [events, adopted, expired, refusals]: [KeeperEvent[], Record<string, string>, string[], NotAdopted[]] = [[], {}, [], []];
  const consumer = {
    uses: () => uses,
    adopt: (changes: readonly SetSecret[]) => {
      const taken = changes.filter(({ name }) => !refusals.some((each) => each.name === name));
      for (const { name, secret } of taken) adopted[name] = secret.reveal();
      return refusals;
    },
    expire: (names: readonly string[]) => expired.push(...names),
  };
  const options = { config, access, consumer, tell: (event: KeeperEvent) => events.push(event), sleep: clock.sleep };
  const keeper = Keeper.start(secrets, { ...options, now: () => clock.now, random: () => 0.5 });
  if (keeper !== undefined) keepers.push(keeper);
  shelf.calls.length = 0;
  return { clock, shelf, events, adopted, expired, refusals, keeper };
}
