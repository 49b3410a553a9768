import { expect, it } from 'vitest';
import { tellStrayErrors } from '../../src/run/stray-errors.ts';

it('tells an error that nobody caught by its class and place, once, and nothing of what it says', () => {
  const told: string[] = [];
  const before = process.listeners('uncaughtException');
  const stop = tellStrayErrors(({ text }) => told.push(text));
  const [listener] = process.listeners('uncaughtException').filter((each) => !before.includes(each));
  const error = new TypeError('CANARY-in-the-message\n    at CANARY-in-a-line:1:1');
  listener?.(error, 'uncaughtException');
  listener?.(error, 'uncaughtException');
  listener?.('CANARY-thrown' as never, 'uncaughtException');
  stop();
  expect(process.listeners('uncaughtException')).toEqual(before);
  expect(told).toHaveLength(2);
  expect(told[0]).toMatch(/^unexpected TypeError stray-errors\.test\.ts:\d+:\d+: one connection failed/);
  expect(told[1]).toMatch(/^unexpected string: /);
  expect(told.join()).not.toContain('CANARY');
});
