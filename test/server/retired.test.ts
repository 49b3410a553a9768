import { expect, it } from 'vitest';
import type { Backends } from '../../src/server/backends.ts';
import { Retired } from '../../src/server/retired.ts';

it('at the end waits for those whose time was up a moment before', async () => {
  const steps: string[] = [];
  let givenBack = (): void => undefined;
  const retired = new Retired();
  await new Promise<void>((begun) => {
    const close = () =>
      new Promise<void>((resolve) => {
        givenBack = () => {
          steps.push('given back');
          resolve();
        };
        begun();
      });
    retired.add({ close } as unknown as Backends, 0);
  });
  const closed = retired.close({ close: () => Promise.resolve() } as unknown as Backends).then(() => steps.push('closed'));
  // As many turns as closing takes that waits for nobody.
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  givenBack();
  await closed;
  expect(steps).toEqual(['given back', 'closed']);
});
