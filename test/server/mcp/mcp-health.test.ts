import { expect, it } from 'vitest';
import { rememberHealth, type HealthReport } from '../../../src/server/mcp/mcp-health.ts';

const REPORT: HealthReport = { bundleVersion: 'b', uptimeMs: 1, backends: [], resources: [] };
const NEVER = new AbortController().signal;

it('asks once for everybody who asks within some seconds', async () => {
  let asked = 0;
  let time = 0;
  const health = rememberHealth(
    () => {
      asked += 1;
      return Promise.resolve({ ...REPORT, uptimeMs: asked });
    },
    { keepMs: 1000, now: () => time },
  );
  await Promise.all([health(NEVER), health(NEVER)]);
  time = 1000;
  expect(await health(NEVER)).toMatchObject({ uptimeMs: 1 });
  time = 1001;
  expect(await health(NEVER)).toMatchObject({ uptimeMs: 2 });
  expect(asked).toBe(2);
});

it('goes on when the one who asked first goes away', async () => {
  let finish: (report: HealthReport) => void = () => undefined;
  const signals: AbortSignal[] = [];
  const health = rememberHealth((signal) => {
    signals.push(signal);
    return new Promise((resolve) => {
      finish = resolve;
    });
  });
  const first = new AbortController();
  const left = health(first.signal);
  const stayed = health(NEVER);
  first.abort();
  await expect(left).rejects.toThrow('aborted');
  await expect(health(AbortSignal.abort())).rejects.toThrow('aborted');
  finish(REPORT);
  expect(await stayed).toBe(REPORT);
  expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
});

it('does not remember a failure', async () => {
  let asked = 0;
  const health = rememberHealth(() => {
    asked += 1;
    return asked === 1 ? Promise.reject(new Error('down')) : Promise.resolve(REPORT);
  });
  await expect(health(NEVER)).rejects.toThrow('down');
  expect(await health(NEVER)).toBe(REPORT);
});

it('ends a check that takes too long', async () => {
  const health = rememberHealth(
    (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          reject(new Error('too long'));
        });
      }),
    { patienceMs: 20 },
  );
  await expect(health(NEVER)).rejects.toThrow('too long');
});
