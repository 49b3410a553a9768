import { expect, it } from 'vitest';
import { anchored, searchesOf } from '../../src/policy/cel-searches.ts';
import { openCel } from '../../src/policy/cel.ts';

const engine = await openCel();

function searches(rule: string): unknown {
  const compiled = engine.compile(rule);
  return 'problem' in compiled ? compiled.problem : compiled.searches;
}

it.each([
  [`org.matches('acme/app')`, ['acme/app']],
  [`matches(org, 'acme|evil')`, ['acme|evil']],
  [`org.matches(r'acme\\$')`, ['acme\\$']],
  [`org.matches(r'acme\\\\$')`, []],
  [`org.matches('a') && org.matches('a') && org.matches('b')`, ['a', 'b']],
  [`groups.exists(g, g.matches('admins'))`, ['admins']],
  [`org.matches('^acme')`, []],
  [`org.matches('acme$')`, []],
  [`org.matches('(?i)^acme')`, []],
  [`org.matches('(?i:^acme)')`, []],
  [`org.matches('(^a|^b)')`, []],
  [`org.matches('(?:a|b$)')`, []],
  [`org.matches('.+') || org.matches('.*') || org.matches('.')`, []],
  [`ref.matches('github/*')`, []],
  [`matches(ref, 'github/*')`, []],
  [`string(ref).matches('github')`, ['github']],
  [`org.matches(claims.pattern)`, []],
  [`!org.matches('evil')`, []],
  [`!(actor == 'x' && !org.matches('acme'))`, ['acme']],
  [`org == 'acme'`, []],
])('%s: %j', (rule, expected) => {
  expect(searches(rule)).toEqual(expected);
});

it('says what is of the whole text', () => {
  expect([anchored('acme/app'), anchored('a|b')]).toEqual(['^acme/app$', '^(?:a|b)$']);
  for (const pattern of ['acme/app', 'a|b']) {
    const call = { node: { op: 'call' } as never, isGlob: false, isNegated: false, literal: anchored(pattern), stars: new Set<number>() };
    expect(searchesOf({ matches: [call] })).toEqual([]);
  }
});
