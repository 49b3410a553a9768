import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { identify } from '../../src/providers/file-watch.ts';
import type { Compiled } from '../../src/server/compile.ts';
import { Reloader, type ReloadOptions } from '../../src/server/reload.ts';
import { ServeLab } from './serve-lab.ts';

let lab: ServeLab;
let ending: AbortController;
let adopted: Compiled[];
let refused: KzError[];

beforeEach(() => {
  lab = new ServeLab();
  ending = new AbortController();
  adopted = [];
  refused = [];
});

afterEach(() => {
  ending.abort();
  return lab.end();
});

async function reloader(more: Partial<ReloadOptions> = {}): Promise<Reloader> {
  const { context } = lab.options();
  const known = await identify(lab.bundle);
  return new Reloader(lab.bundle, {
    ...{ context, known, signal: ending.signal, settleMs: 10 },
    adopt: (compiled) => adopted.push(compiled),
    refuse: (error) => refused.push(error),
    ...more,
  });
}

const names = (): unknown[] => adopted.map(({ policies }) => policies[0]?.name);

it('reads nothing while nothing changes', async () => {
  await reloader();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect([adopted, refused]).toEqual([[], []]);
});

it('notices a bundle that changed after it was read and before it was watched', async () => {
  const known = await identify(lab.bundle);
  lab.writeBundle(['name: reads', 'name: others']);
  await reloader({ known });
  await expect.poll(names).toEqual(['others']);
});

it('adopts what is there when it is asked, changed or not', async () => {
  (await reloader()).now();
  await expect.poll(names).toEqual(['reads']);
});

it('reads once more what was asked for while it read, and not more often', async () => {
  const bundle = await reloader();
  for (let index = 0; index < 50; index++) bundle.now();
  await expect.poll(names).toEqual(['reads', 'reads']);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(names()).toHaveLength(2);
});

it.each([
  ['is no YAML', '{', 'config-syntax'],
  ['is gone for a moment', undefined, 'config-not-found'],
])('refuses a bundle that %s, and adopts the next one', async (_, text, code) => {
  const at = text === undefined ? lab.path('none.yaml') : lab.bundle;
  const { context } = lab.options();
  const known = await identify(at);
  if (text !== undefined) writeFileSync(at, text);
  const bundle = new Reloader(at, {
    ...{ context, known, signal: ending.signal, settleMs: 10 },
    adopt: (compiled) => adopted.push(compiled),
    refuse: (error) => refused.push(error),
  });
  bundle.now();
  await expect.poll(() => refused.map((error) => error.code)).toContain(code);
  writeFileSync(at, lab.bundleText());
  await expect.poll(names, { timeout: 3000 }).toContain('reads');
});

it('takes no bundle that is still being written: a part of it may allow more than the whole', async () => {
  const whole = lab.bundleText().replace('name: reads', 'name: whole');
  await reloader({ settleMs: 150 });
  // In place, and slowly.
  const { length } = whole;
  for (const part of [0.5, 0.7, 0.9, 1]) {
    writeFileSync(lab.bundle, whole.slice(0, Math.floor(length * part)));
    await new Promise((resolve) => setTimeout(resolve, 70));
  }
  await expect.poll(names, { timeout: 5000 }).toEqual(['whole']);
  expect(refused).toEqual([]);
});

it('tries one again that was refused, and says no more of it until it is served', async () => {
  const { pem } = lab.key;
  lab.writeBundle([`pem: ${JSON.stringify(pem)}`, 'pem_file: ./key.pem']);
  const bundle = await reloader({ retryMs: 20 });
  bundle.now();
  await expect.poll(() => refused.length).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([names(), refused.length]).toEqual([[], 1]);
  // Nothing of the bundle itself changes.
  writeFileSync(lab.path('key.pem'), pem);
  await expect.poll(names).toEqual(['reads']);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([names().length, refused.length]).toEqual([1, 1]);
});

it('adopts nothing once it is over', async () => {
  const bundle = await reloader();
  bundle.now();
  ending.abort();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(names()).toEqual([]);
});

it.each([
  ['takes nothing over', undefined],
  ['calls nothing wrong', '{'],
])('%s after the end, though it looked for it a moment before', async (_, text) => {
  const { context } = lab.options();
  const { signal } = ending;
  const known = await identify(lab.bundle);
  /** Had it ended when something was taken over or refused? */
  const late: boolean[] = [];
  let isOver = false;
  await new Promise<void>((over) => {
    let isRead = false;
    // Who reads that it goes on finds the end right after that.
    Object.defineProperty(signal, 'aborted', {
      configurable: true,
      get: () => {
        if (!isRead || new Error().stack?.includes('reload.ts') !== true) return false;
        Reflect.deleteProperty(signal, 'aborted');
        queueMicrotask(() => {
          isOver = true;
          ending.abort();
          over();
        });
        return false;
      },
    });
    const took = (): void => {
      late.push(isOver);
    };
    const options = {
      ...{ known, signal, settleMs: 0, adopt: took, refuse: took },
      get context() {
        isRead = true;
        return context;
      },
    };
    if (text !== undefined) writeFileSync(lab.bundle, text);
    new Reloader(lab.bundle, options).now();
  });
  // As long as it takes to look at the file once more.
  for (let look = 0; look < 5; look += 1) await identify(lab.bundle);
  expect(late).not.toContain(true);
});
