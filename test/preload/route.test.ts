// Whether the preload loads, loads once, and stays out of the way where it has to.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { openWorkbench, type Workbench } from '../fixtures/preload-run.ts';

let bench: Workbench;

beforeAll(async () => {
  bench = await openWorkbench();
});
afterAll(() => bench.close());
beforeEach(() => {
  bench.proxy.seen.length = 0;
});

it('patches a program of the run', async () => {
  expect(await bench.client('is patched')).toEqual({ answer: true, stderr: '', code: 0 });
});

it('does nothing without a proxy', async () => {
  expect(await bench.client('is patched', { KEYZERO_PROXY: undefined })).toEqual({ answer: false, stderr: '', code: 0 });
});

it('routes each connection once, even when it is loaded twice', async () => {
  const copy = join(bench.preload, '..', 'copy.cjs');
  copyFileSync(bench.preload, copy);
  const { answer } = await bench.client('https', { NODE_OPTIONS: `--require="${bench.preload}" --require="${copy}"` });
  expect(answer).toMatchObject({ host: 'api.test' });
  expect(bench.proxy.seen).toEqual([{ authority: 'api.test:443', authorized: true }]);
});

it('warns and lets the program run when the proxy is no URL', async () => {
  const { answer, stderr, code } = await bench.client('is patched', { KEYZERO_PROXY: 'CANARY-7f3a' });
  expect({ answer, code }).toEqual({ answer: false, code: 0 });
  expect(stderr).toContain('KEYZERO_PROXY is not a URL');
  expect(stderr).not.toContain('CANARY');
});

it('warns and lets the program run on a Node it does not know', async () => {
  const stranger = join(bench.preload, '..', 'stranger.cjs');
  const forget = `const { prototype } = require('net').Socket;
    for (const symbol of Object.getOwnPropertySymbols(prototype)) if (/reinitializeHandle/i.test(String(symbol))) delete prototype[symbol];`;
  writeFileSync(stranger, forget);
  const { answer, stderr, code } = await bench.client('is patched', {
    NODE_OPTIONS: `--require="${stranger}" --require="${bench.preload}"`,
  });
  expect({ answer, code }).toEqual({ answer: false, code: 0 });
  expect(stderr).toContain(`Node ${process.version} is not one that kz knows`);
});

it('warns and still routes when the certificate cannot be read', async () => {
  const { answer, stderr } = await bench.client('https', { KEYZERO_CA: join(bench.preload, '..', 'absent.pem') });
  expect(answer).toMatchObject({ host: 'api.test' });
  expect(stderr).toContain('cannot read the certificate');
});
