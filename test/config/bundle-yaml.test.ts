// Texts that want to be misread, or to take for ever.
import { expect, it } from 'vitest';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadBundle } from '../../src/config/bundle.ts';
import { readYaml } from '../../src/config/bundle-yaml.ts';

async function problems(text: string): Promise<string[]> {
  const read = await readYaml(text);
  return 'problems' in read ? read.problems.map(({ at, message }) => `${String(at.line)}:${String(at.column)} ${message}`) : [];
}

it.each([
  ['a: &a [x]\nb: [*a, *a]', ['1:7 a bundle has no anchors (&)', '2:5 a bundle has no aliases (*)', '2:9 a bundle has no aliases (*)']],
  ['hosts: [*.x.com]', ['1:9 a bundle has no aliases (*)']],
  ['a: 1\nb: 2\na: 3', ['3:1 "a" is here twice (first in line 1)']],
  ['<<: { a: 1 }', ['1:1 a bundle has no merge keys (<<)']],
  ['a: { __proto__: 1 }', ['1:6 __proto__ cannot be a key']],
  ['%YAML 1.1\n---\na: 1', ['1:1 a bundle has no % directives']],
  ['a: !!str 1', ['1:10 a bundle has no tags (!)']],
  ['a: !has(x)', ['1:11 a bundle has no tags (!)']],
  ['a: 1\n---\nb: 2', ['2:1 a bundle is one document: nothing may follow `---` or `...`']],
  ['a:\n\t- b', ['2:1 not valid YAML: a tab where only spaces may indent']],
  ['a: b: CANARY-c', ['1:4 not valid YAML: a second colon in one line']],
  ['? [a]\n: b', ['1:3 not valid YAML here: a key is text']],
])('%j', async (text, expected) => {
  expect(await problems(text)).toEqual(expected);
});

const MANY = 1_000_000;

it.each([
  ['open brackets', '['.repeat(MANY), 'the file is nested too deeply'],
  ['10,000 mappings', '{a: '.repeat(10_000), 'the file is nested too deeply'],
  ['dashes', '- '.repeat(MANY / 2), 'the file is nested too deeply'],
  ['indentation', Array.from({ length: 1400 }, (_, level) => `${' '.repeat(level)}a:`).join('\n'), 'the file is nested too deeply'],
  ['keys', Array.from({ length: 80_000 }, (_, index) => `k${String(index)}: 1`).join('\n'), 'the file holds too much: split the bundle'],
  ['closing brackets', ']'.repeat(MANY), 'the file holds too much: split the bundle'],
  ['escapes', `"${'\\q'.repeat(MANY / 2)}"`, 'the file holds too much: split the bundle'],
  ['directives', '%A\n'.repeat(MANY / 3), 'the file holds too much: split the bundle'],
  ['line ends', '\n'.repeat(MANY), 'the file holds too much: split the bundle'],
])('refuses %s soon', async (_name, text, message) => {
  const start = process.cpuUsage();
  expect(await problems(text)).toEqual([`1:1 ${message}`]);
  expect(process.cpuUsage(start).user).toBeLessThan(1_000_000);
});

it('refuses files that are too large, no text, or no file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kz-bundle-'));
  const file = join(folder, 'bundle.yaml');
  try {
    await expect(loadBundle(file)).rejects.toMatchObject({ code: 'config-not-found', message: `there is no bundle ${file}` });
    await expect(loadBundle(folder)).rejects.toMatchObject({ message: `cannot read bundle ${folder}: it is not a regular file` });
    writeFileSync(file, Buffer.from([0x61, 0xff]));
    await expect(loadBundle(file)).rejects.toMatchObject({ message: `cannot read bundle ${file}: it is not UTF-8 text` });
    writeFileSync(file, ' '.repeat(1_048_577));
    await expect(loadBundle(file)).rejects.toMatchObject({ message: `cannot read bundle ${file}: it is larger than 1 MiB` });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('what is wrong a thousand times is said a hundred times', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kz-bundle-'));
  const file = join(folder, 'bundle.yaml');
  try {
    const names = Array.from({ length: 3000 }, (_, index) => `b${String(index)}: { type: envv }`);
    writeFileSync(file, `version: 1\nbackends: { ${names.join(', ')} }`);
    const error: unknown = await loadBundle(file).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ message: '101 problems' });
    expect(error).toHaveProperty('problems.100.message', 'and 2900 more problems');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it.each(['a:\n  b: 1\n c: 2\n', '-\t"a\n', '- ["a"b]\n', 'k: v\n x\ny\n'])(
  'thousands of mistakes such as %j are told as fast as others',
  async (text) => {
    const started = performance.now();
    expect(await problems(text.repeat(4000))).toHaveLength(4000);
    expect(performance.now() - started).toBeLessThan(5000);
  },
);
