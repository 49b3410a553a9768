// Patterns of ref.matches that are made when a rule is asked: which stars are the rule's own, and which a value has brought.
import { beforeAll, describe, expect, it } from 'vitest';
import { openCel, type CelEngine, type CelProblem } from '../../src/policy/cel.ts';
import type { PolicyInput } from '../../src/policy/permit.ts';

let engine: CelEngine;
beforeAll(async () => {
  engine = await openCel();
});

const INPUT: PolicyInput = {
  issuer: 'github',
  identity: { org: 'acme', service: '', env: '', action: '', branch: '', actor: '', groups: [] },
  claims: {},
  ref: 'github/pat',
  context: {},
  request: { tool: 'resolve', method: '', host: '', path: '' },
};

function ask(source: string, more: Partial<PolicyInput> = {}): boolean {
  const rule = engine.compile(source);
  if ('problem' in rule) throw new Error(rule.problem);
  return rule.evaluate({ ...INPUT, ...more });
}

function problem(source: string): CelProblem {
  const compiled = engine.compile(source);
  if ('problem' in compiled) return compiled;
  throw new Error(`${source} was taken`);
}

describe('ref.matches', () => {
  it('takes a part of the pattern from a value, which cannot be a star', () => {
    const source = "ref.matches(context.team + '/*')";
    expect(ask(source, { context: { team: 'github' } })).toBe(true);
    expect(ask(source, { context: { team: 'other' } })).toBe(false);
    expect(() => ask(source, { context: { team: '**' } })).toThrow('a value put a star into the pattern of ref.matches');
    expect(() => ask(source, { context: { team: '' } })).toThrow('became one that no ref can match');
    expect(() => ask('ref.matches(context.team)', { context: { team: '**' } })).toThrow('a value put a star');
  });

  it.each([
    "ref.matches(org == 'other' ? 'team/*' : context.path)",
    "ref.matches(org == 'other' ? 'team/*' : 'github/' + context.path)",
    "ref.matches((org == 'other' ? 'team/*' : 'github/') + context.path)",
    "['team/*', 'github/' + context.path].exists(p, ref.matches(p))",
    "['team', context.path + '/*'].exists(a, ['/*', ''].exists(b, ref.matches(a + b)))",
    "ref.matches(org == 'other' ? 'team#x' : string(context.path))",
  ])('takes no pattern whose stars a value could bring: %s', (source) => {
    expect(problem(source).problem).toBe('the pattern of ref.matches is one of several, and a value could bring the stars of another one');
  });

  it.each([
    "ref.matches(org == 'acme' ? string(context.path) + '/*' : 'team/*')",
    "ref.matches(org == 'other' ? 'pat' : string(context.path) + '/*')",
    "ref.matches('team/*') || ref.matches(context.path + '/pat')",
    "['team/*', context.path + '/*'].exists(p, ref.matches(p))",
    "['team', string(context.path)].exists(p, ref.matches(p + '/*'))",
  ])('takes patterns of which none has more stars than that of a value: %s', (source) => {
    expect(ask(source, { context: { path: 'github' } })).toBe(true);
    for (const path of ['*', '**', 'git*', 'g*b', 'github#x', 'team/*', '*/'])
      expect(() => ask(source, { context: { path } })).toThrow(/a value put a star/);
  });
});
