import { expect, it } from 'vitest';
import type { ResourceEntry } from '../../src/config/bundle.ts';
import { ResourceTable } from '../../src/server/resources.ts';

function entry(ref: string, more: Partial<ResourceEntry> = {}): ResourceEntry {
  return {
    ...{ ref, resolver: 'file', mode: 'masked', ttlMs: 1000, hosts: ['api.example.com'], methods: ['GET'] },
    location: { kind: 'header', name: 'Authorization', prefix: 'Bearer' },
    at: { file: '/bundle.yaml', line: 7, column: 5 },
    ...more,
  };
}

function table(...refs: string[]): ResourceTable {
  return ResourceTable.compile({ resources: refs.map((ref) => entry(ref)) });
}

function found(resources: ResourceTable, ref: string): unknown {
  const { resource, captures } = resources.find(ref) ?? {};
  return resource === undefined ? undefined : [resource.entry.ref, captures];
}

it('finds the exact one first, then the glob that says most', () => {
  const resources = table('a/**', 'a/b/*', 'a/b/c', 'a/*');
  expect(found(resources, 'a/b/c')).toEqual(['a/b/c', []]);
  expect(found(resources, 'a/b/d')).toEqual(['a/b/*', ['d']]);
  expect(found(resources, 'a/b/d/e')).toEqual(['a/**', ['b/d/e']]);
  expect(found(resources, 'b')).toBeUndefined();
});

it('of globs that say equally much takes the first in the file', () => {
  expect(found(table('a/**', 'a/*'), 'a/x')).toEqual(['a/**', ['x']]);
  expect(found(table('a/*', 'a/**'), 'a/x')).toEqual(['a/*', ['x']]);
});

it('finds no resource by the name of something in JavaScript', () => {
  const resources = table('a/b');
  for (const ref of ['__proto__', 'constructor', 'toString', '']) expect(resources.find(ref)).toBeUndefined();
});

it('has a rule for each host and path, and none without methods: then no request may carry the value', () => {
  const paths = ['/a/**', '/b'];
  const { all } = ResourceTable.compile({
    resources: [entry('a', { hosts: ['one.example', 'two.example'], paths }), entry('b', { methods: [] }), entry('c', { hosts: [] })],
  });
  expect(all.map(({ rules }) => rules.length)).toEqual([4, 0, 0]);
});

it('tells everything that is wrong, each at its resource', () => {
  const resources = [entry('a/***'), entry('b', { hosts: ['not a host'] }), entry('c')];
  expect(() => ResourceTable.compile({ resources })).toThrow(
    expect.objectContaining({
      problems: [expect.objectContaining({ code: 'config-invalid', at: { file: '/bundle.yaml', line: 7, column: 5 } }), expect.anything()],
    }) as Error,
  );
});
