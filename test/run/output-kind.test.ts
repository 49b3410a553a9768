// What kz's own output leads to. Sockets are in filtered-output.test.ts: only a child has one there.
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { leadToTheSame, needsFilter } from '../../src/run/output-kind.ts';
import { close, openPipes } from '../../src/run/real-pipe.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-kind-'));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

it('a pipe and a regular file are read by somebody, a device and a folder are not', () => {
  const [pipe] = openPipes(1) ?? [];
  const file = openSync(join(folder, 'file'), 'w');
  const device = openSync('/dev/null', 'w');
  const directory = openSync(folder, 'r');
  expect([pipe?.writer ?? -1, file, device, directory].map(needsFilter)).toEqual([true, true, false, false]);
  closeSync(file);
  expect(needsFilter(file)).toBe(false);
  for (const descriptor of [device, directory]) closeSync(descriptor);
  if (pipe !== undefined) close(pipe);
});

it('two descriptors of one file lead to the same place', () => {
  const one = openSync(join(folder, 'one'), 'w');
  const again = openSync(join(folder, 'one'), 'a');
  const other = openSync(join(folder, 'other'), 'w');
  expect([leadToTheSame(one, again), leadToTheSame(one, other), leadToTheSame(one, 9999), leadToTheSame(9998, 9999)]).toEqual([
    true,
    false,
    false,
    false,
  ]);
  for (const descriptor of [one, again, other]) closeSync(descriptor);
});
