import { expect, it } from 'vitest';
import { FirstUse } from '../../src/core/first-use.ts';

function counted(make: (count: number) => Promise<number> = (count) => Promise.resolve(count)): FirstUse<number> {
  let count = 0;
  return new FirstUse(() => make(++count));
}

it('is made once for all who use it, and not before', async () => {
  const thing = counted();
  expect(await thing.used()).toBeUndefined();
  expect(await Promise.all([thing.get(), thing.get()])).toEqual([1, 1]);
  expect(await thing.get()).toBe(1);
  expect(await thing.used()).toBe(1);
});

it('is tried again after a failure, of which everybody hears who waited', async () => {
  const thing = counted((count) => (count === 1 ? Promise.reject(new Error('not yet')) : Promise.resolve(count)));
  const waiting = [thing.get(), thing.get(), thing.used()];
  expect((await Promise.allSettled(waiting)).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
  expect(await thing.used()).toBeUndefined();
  expect(await thing.get()).toBe(2);
});

it('is made anew when it was forgotten', async () => {
  const thing = counted();
  await thing.get();
  thing.forget();
  expect(await thing.get()).toBe(2);
});

it('that was forgotten while it was made, and failed then, takes nothing away from the next one', async () => {
  let fail: (error: Error) => void = () => undefined;
  const first = new Promise<number>((_, reject) => {
    fail = reject;
  });
  const thing = counted((count) => (count === 1 ? first : Promise.resolve(count)));
  const waiting = thing.get();
  thing.forget();
  expect(await thing.get()).toBe(2);
  fail(new Error('too late'));
  await expect(waiting).rejects.toThrow('too late');
  expect(await thing.used()).toBe(2);
  expect(await thing.get()).toBe(2);
});
