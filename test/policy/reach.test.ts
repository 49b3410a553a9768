import { describe, expect, it } from 'vitest';
import { hiddenRules, unreachable } from '../../src/policy/reach.ts';
import { compileRules, type RuleEntry } from '../../src/policy/rule.ts';

const allow = (host: string, more: Partial<RuleEntry> = {}): RuleEntry => ({ allow: true, host, ...more });
const deny = (host: string, more: Partial<RuleEntry> = {}): RuleEntry => ({ allow: false, host, ...more });

describe('a rule is hidden', () => {
  const hidden = (...entries: RuleEntry[]): number[][] => hiddenRules(compileRules(entries)).map(({ rule, by }) => [rule.index, by.index]);

  it('by an earlier one that matches all that it would', () => {
    expect(hidden(deny('*'), allow('a.example'), allow('*.a.example'), allow('re:.*'), allow('*'))).toEqual([
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 0],
    ]);
    expect(hidden(allow('*.a.example'), deny('x.a.example'), deny('*.x.a.example'), deny('*.a.example'))).toHaveLength(3);
    expect(hidden(allow('a.example'), allow('A.Example', { port: 443 }), allow('a.example:80'))).toHaveLength(2);
    expect(hidden(allow('a.example:443'), deny('a.example', { port: 443 }))).toEqual([[1, 0]]);
    // Bytes that are not HTTP need a rule with a port, and this one never comes to decide.
    expect(hidden(allow('db.example'), allow('db.example', { port: 5432 }))).toEqual([[1, 0]]);
    expect(hidden(allow('re:a+'), deny('re:a+', { methods: ['GET'] }))).toEqual([[1, 0]]);
  });

  it('not by one that is narrower, or looks at something else', () => {
    expect(hidden(allow('a.example'), deny('*'))).toEqual([]);
    expect(hidden(deny('*', { port: 22 }), allow('a.example', { port: 23 }), allow('a.example'))).toEqual([]);
    expect(hidden(deny('*', { methods: ['DELETE'] }), allow('a.example'))).toEqual([]);
    expect(hidden(deny('*', { path: '/**' }), allow('a.example'))).toEqual([]);
    expect(hidden(allow('*.a.example'), allow('a.example'), allow('*.example.org'), allow('xa.example'))).toEqual([]);
    expect(hidden(allow('x.a.example'), allow('*.a.example'))).toEqual([]);
    expect(hidden(allow('re:.*'), allow('a.example'))).toEqual([]);
  });
});

describe('a host pattern is unreachable', () => {
  const by = (pattern: string, ...entries: RuleEntry[]): number | 'none' | 'reachable' => {
    const found = unreachable(pattern, compileRules(entries));
    return found === undefined ? 'reachable' : (found.by?.index ?? 'none');
  };

  it('when no rule matches, or one that denies comes first', () => {
    expect(by('a.example', allow('b.example'))).toBe('none');
    expect(by('a.example', allow('b.example'), deny('*'))).toBe(1);
    expect(by('a.example', deny('*.org.example'), deny('a.example'), allow('*'))).toBe(1);
    expect(by('a.example:8443', allow('a.example', { port: 443 }))).toBe('none');
    expect(by('*.a.example', allow('a.example'), deny('*'))).toBe(1);
    expect(by('*.a.example', deny('*'), allow('x.a.example'))).toBe(0);
    expect(by('*', deny('*'))).toBe(0);
  });

  it('not when some request may pass', () => {
    expect(by('a.example')).toBe('reachable');
    expect(by('A.example', allow('a.example', { methods: ['GET'], path: '/x' }), deny('*'))).toBe('reachable');
    expect(by('a.example', deny('a.example', { path: '/admin/**' }), allow('*'))).toBe('reachable');
    expect(by('a.example', allow('a.example', { port: 9443 }))).toBe('reachable');
    expect(by('a.example', allow('re:[ab]\\.example'))).toBe('reachable');
    expect(by('*.a.example', allow('x.a.example'), deny('*'))).toBe('reachable');
    expect(by('*.a.example', allow('*.x.a.example'), deny('*'))).toBe('reachable');
    expect(by('*.x.a.example', deny('y.x.a.example'), allow('*.a.example'))).toBe('reachable');
    expect(by('*', allow('a.example'))).toBe('reachable');
    // Nobody can tell which names it matches.
    expect(by('*.a.example', allow('re:[xyz]{7}\\.a\\.example'), deny('*'))).toBe('reachable');
  });
});
