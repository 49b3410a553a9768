import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { withFileLock } from '../../src/core/file-lock.ts';
import { onePromptAtATime } from '../../src/providers/one-prompt.ts';

const NEVER = new AbortController().signal;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-prompt-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const act = (): Promise<string> => Promise.resolve('done');

/** Left by a process of another machine. */
function holdElsewhere(path: string): void {
  writeFileSync(`${path}.lock`, JSON.stringify({ pid: 1, start: '1', place: 'elsewhere', id: 'x' }));
}

it('does not wait for long for who cannot be seen', async () => {
  const path = join(folder, 'unlock');
  holdElsewhere(path);
  expect(await onePromptAtATime({ path, unseenMs: 5 }, act, NEVER)).toBe('done');
});

it('passes on what goes wrong then', async () => {
  const path = join(folder, 'unlock');
  holdElsewhere(path);
  const fail = (): Promise<never> => Promise.reject(new KzError('provider-locked', 'dismissed'));
  await expect(onePromptAtATime({ path, unseenMs: 5 }, fail, NEVER)).rejects.toMatchObject({ code: 'provider-locked' });
});

it('waits for who can be seen, until its own time is over', async () => {
  const path = join(folder, 'unlock');
  await withFileLock(
    path,
    async () => {
      const waiting = onePromptAtATime({ path, unseenMs: 5 }, act, AbortSignal.timeout(100));
      await expect(waiting).rejects.toMatchObject({ code: 'provider-timeout' });
    },
    NEVER,
  );
});

it('acts once, and once only, without a folder for the lock', async () => {
  writeFileSync(join(folder, 'file'), '');
  let count = 0;
  const counted = (): Promise<number> => Promise.resolve(++count);
  expect(await onePromptAtATime({ path: join(folder, 'file', 'unlock'), unseenMs: 5 }, counted, NEVER)).toBe(1);
});
