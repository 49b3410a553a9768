import { expect, it } from 'vitest';
import { call, deferred, openLab, raw } from './http-lab.ts';

it('is not ready any more, also for who asked before', async () => {
  const asked = deferred();
  const { promise: found, resolve } = deferred<{ ok: boolean; problems: string[] }>();
  const ready = () => {
    asked.resolve();
    return found;
  };
  const at = await openLab({ ready });
  const probe = call(at, '/readyz');
  await asked.promise;
  const closed = at.server.close();
  resolve({ ok: true, problems: [] });
  expect((await probe).status).toBe(503);
  await closed;
});

it('has written down what it broke off', async () => {
  const at = await openLab({ timeouts: { drain: 10 } });
  const head = 'POST /v1/resolve HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer good\r\ncontent-type: application/json\r\n';
  const cut = raw(at, `${head}content-length: 10\r\n\r\n{`);
  await expect.poll(() => at.limits.inFlight).toBe(1);
  await at.server.close();
  expect(at.refused).toMatchObject([{ code: 'cancelled', tool: 'resolve' }]);
  expect(at.limits.inFlight).toBe(0);
  await cut;
});
