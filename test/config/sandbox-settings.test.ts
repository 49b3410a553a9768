import { expect, it } from 'vitest';
import { sandboxSettings } from '../../src/config/sandbox-settings.ts';

const NOTHING = { read: [], write: [], hide: [], allowLoopback: [] };

it('isolates where it can when nothing is said', () => {
  expect(sandboxSettings(undefined)).toEqual({ mode: 'auto', ...NOTHING });
  expect(sandboxSettings({})).toEqual({ mode: 'auto', ...NOTHING });
  expect(sandboxSettings({ sandbox: {} })).toEqual({ mode: 'auto', ...NOTHING });
});

it('takes a word', () => {
  expect(sandboxSettings({ sandbox: 'strict' })).toEqual({ mode: 'strict', ...NOTHING });
  expect(sandboxSettings({ sandbox: 'off' })).toEqual({ mode: 'off', ...NOTHING });
});

it('takes a table', () => {
  expect(sandboxSettings({ sandbox: { hide: ['/srv/data'], allow_loopback: [5432, 6379, 5432] } })).toEqual({
    ...NOTHING,
    mode: 'auto',
    hide: ['/srv/data'],
    allowLoopback: [5432, 6379],
  });
  expect(sandboxSettings({ sandbox: { mode: 'strict', read: ['/a'], write: ['/b'] } })).toEqual({
    ...NOTHING,
    mode: 'strict',
    read: ['/a'],
    write: ['/b'],
  });
});
