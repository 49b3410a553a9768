// Rules: what they mean, what is refused when they are loaded, and what they cannot be made to do.
import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { openCel, type CelEngine, type CelProblem, type CelRule } from '../../src/policy/cel.ts';
import type { PolicyInput } from '../../src/policy/permit.ts';

let engine: CelEngine;
beforeAll(async () => {
  engine = await openCel();
});

const INPUT: PolicyInput = {
  issuer: 'github',
  identity: {
    org: 'acme',
    service: 'acme/shop',
    env: 'prod',
    action: 'deploy',
    branch: 'refs/heads/main',
    actor: 'ada',
    groups: ['team-a', 'team-b'],
  },
  claims: {
    sub: 'x',
    number: 5,
    half: 1.5,
    flag: true,
    nothing: null,
    list: ['a', 'b'],
    map: { z: 1 },
    constructor: 'c',
    tenant: 'acme',
    proto: '__proto__',
  },
  ref: 'github/pat',
  context: { ticket: 'OPS-1' },
  request: { tool: 'fetch', method: 'GET', host: 'api.github.com', path: '/user' },
};

const using = (more: Partial<PolicyInput>): PolicyInput => ({ ...INPUT, ...more });

function rule(source: string): CelRule {
  const compiled = engine.compile(source);
  if ('problem' in compiled) throw new Error(compiled.problem);
  return compiled;
}

function problem(source: string): CelProblem {
  const compiled = engine.compile(source);
  if ('problem' in compiled) return compiled;
  throw new Error(`${source} was taken`);
}

const ask = (source: string, more: Partial<PolicyInput> = {}): boolean => rule(source).evaluate(using(more));

describe('a rule sees', () => {
  it.each([
    "issuer == 'github' && org == 'acme' && service == 'acme/shop' && env == 'prod'",
    "action == 'deploy' && branch == 'refs/heads/main' && actor == 'ada'",
    "'team-a' in groups && size(groups) == 2 && groups.exists(g, g.endsWith('-b'))",
    "claims.sub == 'x' && claims['sub'] == 'x' && 'sub' in claims && has(claims.sub) && !has(claims.other)",
    'claims.number == 5 && claims.number > 4 && claims.half == 1.5 && claims.flag == true && claims.nothing == null',
    "claims.list == ['a', 'b'] && 'a' in claims.list && claims.map.z == 1 && claims.map.all(k, k == 'z')",
    "claims.constructor == 'c' && !has(claims.toString) && !('__proto__' in claims)",
    "!(claims.proto in {'ada': true}) && !('constructor' in {'ada': true}) && !has(claims.list.length) && !has(claims.sub.length)",
    // Of different types nothing is equal, and that is no error.
    "claims.number != '5' && !(claims.sub == 5) && !(claims.number in ['5']) && claims.flag != 'true' && claims.list != 'a'",
    "context.ticket.startsWith('OPS-')",
    "request.tool == 'fetch' && request.method == 'GET' && request.host == 'api.github.com' && request.path == '/user'",
    "org + '/shop' == service && service.split('/')[0] == org && actor.upperAscii() == 'ADA'",
    'has(claims.other) ? false : true',
    "1 - (2 - 3) == 2 && timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026 && duration('1h') > duration('30m')",
    "int('-12') == -12 && int(claims.half) == 1 && int(claims.number) == 5 && int('9223372036854775807') > 0",
    // Whatever one side does, the other settles it.
    'claims.other == 1 || true',
    '!(claims.other == 1 && false)',
  ])('%s', (source) => {
    expect(ask(source)).toBe(true);
  });

  it('lower and upper case of ASCII only', () => {
    expect(ask("org.lowerAscii() == 'kz'", { identity: { ...INPUT.identity, org: 'KZ' } })).toBe(true);
    expect(ask("org.lowerAscii() == 'kz'", { identity: { ...INPUT.identity, org: '\u212AZ' } })).toBe(false);
    expect(ask("org.upperAscii() == 'SS'", { identity: { ...INPUT.identity, org: 'ß' } })).toBe(false);
  });

  it('no number that JavaScript takes for another one', () => {
    const claims = JSON.parse(
      '{"id":9007199254740993,"ids":[1,9007199254740993],"in":{"id":-1e400,"x":1},"last":9007199254740991}',
    ) as object;
    const more = { claims: claims as Record<string, unknown> };
    for (const one of [
      'claims.id == 9007199254740992',
      'claims.id != 9007199254740992',
      '9007199254740992 in claims.ids',
      'claims["in"].id < 0',
    ])
      expect(() => ask(one, more)).toThrow('no such key');
    expect(ask('claims.last == 9007199254740991 && claims["in"].x == 1 && !has(claims.id)', more)).toBe(true);
  });

  it('an own property called __proto__ as a claim like any other', () => {
    const claims = JSON.parse('{"__proto__":{"admin":true}}') as Record<string, unknown>;
    expect(() => ask('claims.admin == true', { claims })).toThrow('no such key');
    expect(ask("claims['__proto__'].admin == true", { claims })).toBe(true);
  });
});

describe('ref.matches', () => {
  it.each([
    ["ref.matches('github/*')", true],
    ["(ref).matches('github/**')", true],
    ["matches(ref, 'github/*')", true],
    ["ref.matches('github')", false],
    ["ref.matches('GitHub/*')", false],
    ["['github/*', 'x'].exists(p, ref.matches(p))", true],
    ["['**', 'x/*', 'y'].exists(p, ref.matches(p))", true],
    ["ref.matches(org == 'acme' ? 'github/*' : 'x')", true],
    ["ref.matches('git' + 'hub/*')", true],
    // Anything but the variable itself is a text for RE2.
    ["(ref + '').matches('^git.*t$')", true],
    ["string(ref).matches('hub/p')", true],
    ["['x/y'].exists(r, r.matches('^x/.$'))", true],
    ["claims.sub.matches('^x$')", true],
    ["matches(actor, 'd')", true],
    ["actor.matches('(?i)^ADA$')", true],
    ["actor.matches('^a' + 'da$')", true],
  ])('%s → %s', (source, expected) => {
    expect(ask(source)).toBe(expected);
  });

  // The engine’s own expressions are JavaScript’s, which know no (?P<name>).
  it.each([
    ['all', "groups.all(g, g.matches('(?P<n>team)'))"],
    ['exists', "groups.exists(g, g.matches('(?P<n>team)'))"],
    ['exists_one', "groups.exists_one(g, g.matches('(?P<n>-a)'))"],
    ['map', "groups.map(g, g.matches('(?P<n>team)')) == [true, true]"],
    ['map with a filter', "size(groups.map(g, g.matches('(?P<n>-a)'), g.matches('(?P<n>team)'))) == 1"],
    ['filter', "size(groups.filter(g, g.matches('(?P<n>-a)'))) == 1"],
    ['two of them', "groups.exists(g, groups.exists(h, h.matches('(?P<n>-a)') && g.matches('(?P<n>-b)')))"],
    ['a range', "groups.filter(g, g.matches('(?P<n>-a)')).exists(g, g.matches('(?P<n>-a)'))"],
    ['a condition', "actor.matches('(?P<n>ada)') ? org.matches('(?P<n>ac)') : org.matches('(?P<n>x)')"],
    ['a list', "[actor.matches('(?P<n>ada)')][0] && actor.matches('(?P<n>ada)') in [true]"],
    ['a map', "{'a': actor.matches('(?P<n>ada)')}['a'] && {'b': 1}[actor.matches('(?P<n>ada)') ? 'b' : 'c'] == 1"],
    ['not', "!(!actor.matches('(?P<n>ada)'))"],
    ['a function', "string(actor.matches('(?P<n>ada)')) == 'true' && matches(org, '(?P<n>a)')"],
    ['a receiver', "string(actor.matches('(?P<n>ada)')).matches('(?P<n>^true$)')"],
    ['a pattern', "actor.matches(org.matches('(?P<n>ac)') ? '(?P<n>ada)' : 'x')"],
  ])('goes to RE2 in %s', (_, source) => {
    expect(ask(source)).toBe(true);
  });

  it.each([
    ["ref.matches('a/***')", 'more than two stars'],
    ["ref.matches('^github/.*$')", 'a character that no ref can have'],
    ["ref.matches('')", 'is empty'],
    ["groups.exists(ref, ref.matches('a'))", 'exists() would hide the variable "ref"'],
    ["[1].map(org, 'a')[0] == 'a'", 'map() would hide the variable "org"'],
    ["cel.bind(ref, 'x', ref.matches('x'))", 'no function "bind"'],
    ["actor.matches('(')", 'not one of RE2: missing closing )'],
    ["actor.matches('(?<=a)b')", 'not one of RE2'],
    ["actor.matches('secret/**')", 'not one of RE2: invalid nested repetition operator'],
    ["actor.matches('((a{100}){100}){100}')", 'not one of RE2'],
    [`actor.matches('${'.{1000}'.repeat(6)}')`, 'too large'],
    [`actor.matches('${'a'.repeat(1001)}')`, 'too large'],
  ])('refuses %s', (source, why) => {
    expect(problem(source).problem).toContain(why);
  });
});

describe('a rule is refused when it is loaded', () => {
  it.each([
    ['', 'the rule is empty', 1, 1],
    ['org ==', 'unexpected token', 1, 7],
    ["org == 'a' &&\n  brnach == 'b'", 'unknown variable: brnach', 2, 3],
    ["'a' == org && org + 1 == 'a'", 'no such overload: string + int', 1, 15],
    ['org', 'the rule is of type string, and has to be true or false', 1, 1],
    ['claims.admin', 'the rule is whatever the claim is', 1, 1],
    ['org.matches(1)', "no matching overload for 'string.matches(int)'", 1, 1],
    ["matches(org, 'a', 'b')", 'no matching overload', 1, 1],
    ["true && org.mathces('a')", 'no function "mathces"', 1, 9],
    ["startsWith(ref, 'a')", 'no function "startsWith"', 1, 1],
    ["kz_lowerAscii('A') == 'a'", 'no function "kz_lowerAscii"', 1, 1],
    ["'A'.kz_lowerAscii() == 'a'", 'no function "kz_lowerAscii"', 1, 1],
    ["bytes('{}').json() == {}", 'no function "json"', 1, 1],
    ["request.methd == 'GET'", 'request has no field "methd"', 1, 1],
    ['duration(claims.x) > duration("1s")', 'duration() takes only a text that is written in the rule', 1, 1],
    ['while == 1', 'reserved identifier', 1, 1],
    ["org == 'ä", 'unterminated string', 1, 8],
    ['claims.list.exists(1, true)', 'invalid predicate iteration variable', 1, 20],
  ])('%j: %s', (source, why, line, column) => {
    expect(engine.compile(source)).toMatchObject({ problem: expect.stringContaining(why) as string, line, column });
  });

  it('says what was meant', () => {
    expect(problem("brnach == 'x'").hint).toBe('did you mean branch?');
    expect(problem("org.startWith('x')").hint).toBe('did you mean startsWith?');
    expect(problem("startsWith(org, 'x')").hint).toBe('did you mean ref.startsWith(…)?');
    expect(problem("org == 'a' and true")).toMatchObject({ problem: 'rules have no "and"', hint: 'and is &&, or is ||, not is !' });
    expect(problem("groups == 'admins'").hint).toBe("'admins' in groups");
    expect(problem("(org == 'a'").problem).toBe('a parenthesis is not closed');
    expect(problem("request.metod == 'x'").hint).toBe('did you mean request.method?');
    expect(problem('claims.admin').hint).toContain('claims.admin == true');
  });

  it.each([
    ['parentheses', `${'('.repeat(2000)}true${')'.repeat(2000)}`],
    ['lists', `${'['.repeat(2000)}1${']'.repeat(2000)} == 1`],
    ['not', `${'!'.repeat(8000)}true`],
    ['minus', `${'-'.repeat(8000)}1 == 1`],
    ['fields', `claims${'.a'.repeat(3000)} == 1`],
    ['nodes', `${"org == 'a' || ".repeat(580)}true`],
    ['length', `true ${' '.repeat(9000)}`],
    ['quantifiers', `${'groups.exists(g, '.repeat(200)}true${')'.repeat(200)}`],
  ])('or, if it is not, evaluated in time: much of %s', (_, source) => {
    const started = performance.now();
    const compiled = engine.compile(source);
    if (!('problem' in compiled)) {
      try {
        compiled.evaluate(INPUT);
      } catch (error) {
        expect(String(error)).toContain('RuleFault');
      }
    }
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('a rule that fails', () => {
  const canary = `CANARY-${randomBytes(8).toString('hex')}`;

  it.each([
    ["claims.other == 'a'", 'there is no such key: claims.other'],
    ['claims[claims.canary] == 1', 'there is no such key: claims[claims.canary]'],
    ["claims.number.matches('a')", "a value is not of a type that this takes: claims.number.matches('a')"],
    ['claims.canary && true', 'a condition is neither true nor false: claims.canary'],
    ['bool(claims.canary)', 'this cannot be evaluated: bool(claims.canary)'],
    ['int(claims.canary) == 1', 'int() takes whole numbers of 64 bits'],
    ["int('') < 3", 'int() takes whole numbers of 64 bits'],
    ["int('0b11') == 3", 'int() takes whole numbers of 64 bits'],
    ["int('9223372036854775808') > 0", 'int() takes whole numbers of 64 bits'],
    ['9223372036854775807 + int(claims.number) > 0', 'a number is too large'],
    ['1 / (int(claims.number) - 5) == 1', 'division by zero'],
    ['claims.list[7] == "a"', 'there is no such'],
    ['timestamp(claims.canary) == timestamp(claims.canary)', 'this cannot be evaluated'],
    ["timestamp('2026-01-01T00:00:00Z').getHours(claims.canary) == 1", 'this cannot be evaluated'],
    ["actor.matches('(' + claims.canary)", 'a pattern became one that is not a regular expression'],
    ["ref.matches('*' + claims.star)", 'a value put a star into the pattern'],
    ['claims.canary.exists(c, true)', 'neither a list nor a map'],
  ])('%s: says so, and quotes no value', (source, why) => {
    const evaluate = (): unknown => ask(source, { claims: { number: 5, list: ['a'], canary, star: `*${canary}` } });
    expect(evaluate).toThrow(why);
    expect(message(evaluate)).not.toContain(canary);
  });

  it('cannot be given what is not JSON, or too much of it', () => {
    expect(() => ask('true', { context: { f: () => 1 } })).toThrow('what is not JSON');
    expect(() => ask('true', { context: { f: 'x'.repeat(70_000) } })).toThrow('too large');
    let deep: unknown = 1;
    for (let i = 0; i < 100; i++) deep = [deep];
    expect(() => ask('true', { context: { deep } })).toThrow('too large');
  });
});

describe('nothing that a caller sends makes a rule slow', () => {
  const long = 'a'.repeat(60_000);
  const list = Array.from({ length: 20_000 }, () => 'a');

  it.each([
    ["context.text.matches('^(a+)+$')", { text: `${long}!` }],
    ["context.text.matches('(a*)*b')", { text: long }],
    ["context.text.matches('(.*)(.*)(.*)(.*)(.*)[^a]$')", { text: long }],
    [`context.text.matches('${'.{1000}'.repeat(4)}b')`, { text: long }],
    ['context.text.matches(context.pattern)', { text: long.slice(0, 30_000), pattern: '(?:.{1000}){1}b' }],
    ["context.list.exists(a, context.list.exists(b, a + b == 'x'))", { list }],
    ['context.list.all(a, context.list.all(b, context.list.all(c, a == b)))', { list }],
    ["context.text.split('').exists(a, context.text.split('').exists(b, a != b))", { text: long }],
    ['size(context.list.map(a, context.list.map(b, context.list))) == 0', { list: list.slice(0, 3000) }],
    ["[context.text].map(a, a + a).map(a, a + a).map(a, a + a).exists(a, a == 'x')", { text: long }],
    ['context.list.exists(a, a in context.list.filter(b, b != a))', { list }],
    [`context.list.exists(a, ${Array.from({ length: 10 }, () => "a.name == 'b'").join(' || ')})`, { list }],
    ["context.list.all(a, !('b' in context.list) && !('c' in context.list) && !('d' in context.list))", { list }],
  ])('%s', (source, context) => {
    const compiled = rule(source);
    const started = performance.now();
    try {
      compiled.evaluate(using({ context }));
    } catch (error) {
      expect(String(error)).toMatch(/takes too long|cannot be evaluated/);
    }
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it('nor large', () => {
    const doubled = `[context.text]${'.map(a, a + a)'.repeat(30)}`;
    expect(() => ask(`${doubled}.exists(a, a.matches('x'))`, { context: { text: long } })).toThrow(/too long|cannot be evaluated/);
  });

  it('a regex bomb on 100,000 characters', () => {
    const started = performance.now();
    // Longer than what is let in, so its own text grows in the rule.
    expect(ask("(context.text + context.text).matches('^(a+)+$')", { context: { text: `${long.slice(0, 50_000)}!` } })).toBe(false);
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('and the next rule works after one was stopped', () => {
    const slow = rule("context.list.exists(a, context.list.exists(b, a + b == 'x'))");
    expect(() => slow.evaluate(using({ context: { list } }))).toThrow('the rule takes too long');
    expect(slow.evaluate(using({ context: { list: ['', 'x'] } }))).toBe(true);
    expect(ask("groups.exists(g, g.matches('^team-'))")).toBe(true);
  });
});

function message(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
  return '';
}
