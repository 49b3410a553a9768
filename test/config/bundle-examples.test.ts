// The examples of the reference page are bundles.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { readBundle } from '../../src/config/bundle-read.ts';
import { readYaml } from '../../src/config/bundle-yaml.ts';

it('the examples of docs/bundle.md load', async () => {
  const page = readFileSync(new URL('../../docs/bundle.md', import.meta.url), 'utf8');
  const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text);
  expect(examples).toHaveLength(4);
  for (const text of examples) expect(await problems(text)).toEqual([]);
});

it('names of Object’s own properties are names like any other', async () => {
  expect(
    await problems(
      'version: 1\nbackends: { constructor: { type: env } }\nresources: [{ ref: toString, resolver: constructor, mode: direct }]',
    ),
  ).toEqual([]);
  expect(await problems('version: 1\nresources: [{ ref: a, resolver: toString, mode: direct, hasOwnProperty: 1 }]')).toEqual([
    'resolver "toString" is not the name of a backend',
    'unknown key "hasOwnProperty" in resource "a"',
  ]);
});

async function problems(text: string): Promise<string[]> {
  const yaml = await readYaml(text);
  if ('problems' in yaml) return yaml.problems.map(({ message }) => message);
  const place = () => ({ file: 'bundle.yaml', line: 1 });
  const { problems: found } = readBundle(yaml.content, { file: 'bundle.yaml', place, textPlace: place, absolute: (path) => path });
  return found.map(({ message }) => message);
}
