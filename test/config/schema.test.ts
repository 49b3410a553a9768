import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { expect, it } from 'vitest';
import * as z from 'zod/mini';
import { jsonSchema } from '../../scripts/json-schema.ts';
import { fileSchema } from '../../src/config/schema.ts';

interface Node {
  readonly properties?: Readonly<Record<string, Node>>;
  readonly additionalProperties?: Node | false;
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
  readonly description?: string;
}

/** Every key, as a path. */
function keys(node: Node | undefined, prefix = ''): [string, Node][] {
  if (node === undefined) return [];
  const own = Object.entries(node.properties ?? {}).flatMap(([key, child]): [string, Node][] => [
    [`${prefix}${key}`, child],
    ...keys(child, `${prefix}${key}.`),
  ]);
  const entries = typeof node.additionalProperties === 'object' ? keys(node.additionalProperties, `${prefix}*.`) : [];
  const choices = (node.anyOf ?? []).flatMap((choice) => keys(choice, prefix));
  return [...own, ...entries, ...choices, ...keys(node.items, `${prefix}[].`)];
}

/** Keys whose table says everything. */
const SPEAK_FOR_THEMSELVES = /^(\*\.)|^providers\.\w+$/;

it('describes every key for editors', () => {
  const undescribed = keys(jsonSchema() as Node).filter(
    ([path, node]) => node.description === undefined && !SPEAK_FOR_THEMSELVES.test(path),
  );
  expect(undescribed.map(([path]) => path)).toEqual([]);
});

it('is in schema.json, which ships', () => {
  expect(JSON.parse(readFileSync('schema.json', 'utf8'))).toEqual(JSON.parse(JSON.stringify(jsonSchema())));
});

it('accepts the example, which uses every key of a secret and of blind mode', () => {
  const text = readFileSync('.keyzero.example.toml', 'utf8');
  const document = parse(text);
  const { production, ...own } = document;
  expect(z.safeParse(fileSchema, own).error?.issues ?? []).toEqual([]);
  expect(production).toBeDefined();
  const mentioned = keys(jsonSchema() as Node).map(([path]) => path.split('.').at(-1) ?? '');
  const missing = [...new Set(mentioned)].filter((key) => key !== '' && !new RegExp(`\\b${key}\\b`).test(text));
  expect(missing).toEqual([]);
});
