import { describe, expect, it } from 'vitest';
import { decide, decideConnection, type Facts } from '../../src/policy/decide.ts';
import { compileRules, type RuleEntry } from '../../src/policy/rule.ts';

/** `allow GET,POST api.x.com /v1/**` */
function rules(...lines: string[]) {
  return compileRules(lines.map(entry));
}

function entry(line: string): RuleEntry {
  const words = line.split(' ');
  const methods = words.find((word) => /^[A-Z,]+$/.test(word));
  const path = words.find((word) => word.startsWith('/'));
  const host = words.slice(1).find((word) => word !== methods && word !== path) ?? '*';
  return { allow: words[0] === 'allow', host, methods: methods?.split(','), path };
}

const request = (method: string, path: string, host = 'api.x.com'): Facts => ({ host, port: 443, method, path });
const raw: Facts = { host: 'api.x.com', port: 443 };

/** `allow 1`, `deny no-match` */
function told(facts: Facts, lines: string[], ask: typeof decide = decide): string {
  const { allow, rule, why } = ask(facts, rules(...lines));
  return `${allow ? 'allow' : 'deny'} ${rule === undefined ? why : String(rule.index)}`;
}

describe('the order', () => {
  it.each([
    ['allow no-rules', []],
    ['allow 0', ['allow api.x.com', 'deny *']],
    ['deny 0', ['deny *', 'allow api.x.com']],
    ['allow 1', ['deny evil.com', 'allow *.x.com', 'deny *']],
    ['deny no-match', ['allow evil.com']],
    ['deny no-match', ['deny evil.com']],
    ['allow 1', ['deny api.x.com:80', 'allow api.x.com:443']],
    ['allow 1', ['allow POST api.x.com', 'allow GET api.x.com']],
    ['deny 1', ['allow GET,HEAD api.x.com /v2/**', 'deny *']],
    ['allow 0', ['allow GET api.x.com /v1/*', 'deny *']],
  ])('%s: %j', (expected, lines) => {
    expect(told(request('GET', '/v1/a'), lines)).toBe(expected);
  });

  it('names the rule that decided, and gives the same decision each time', () => {
    const compiled = rules('deny evil.com', 'allow *');
    const decision = decide(request('GET', '/'), compiled);
    expect(decision).toBe(decide(request('POST', '/x'), compiled));
    expect(decision).toMatchObject({ allow: true, why: 'rule' });
    expect(decision.rule).toBe(compiled[1]);
  });
});

describe('methods', () => {
  it.each([
    ['allow GET *', 'GET', 'allow 0'],
    ['allow GET *', 'HEAD', 'deny no-match'],
    ['allow GET *', 'get', 'deny no-match'],
    ['allow GET *', 'GETX', 'deny no-match'],
    ['allow GET *', '', 'deny no-match'],
  ])('%s: %s', (line, method, expected) => {
    expect(told(request(method, '/'), [line])).toBe(expected);
  });

  it('are denied in any case', () => {
    expect(told(request('delete', '/'), ['deny DELETE *', 'allow *'])).toBe('deny 0');
    expect(told(request('GET', '/'), ['deny DELETE *', 'allow *'])).toBe('allow 1');
  });
});

describe('a path that servers read differently', () => {
  it.each([
    '/public/%2e%2e/admin',
    '/public/%2fadmin',
    '/public\\..\\admin',
    '/public/%252e%252e/admin',
    '/public/\0',
    '/public/%c0%ae',
    '*',
    '',
    '/public/a?b',
  ])('%j satisfies no rule that allows, and every rule that denies', (path) => {
    expect(told(request('GET', path), ['allow * /public/**'])).toBe('deny no-match');
    expect(told(request('GET', path), ['allow * /**', 'deny *'])).toBe('deny 1');
    expect(told(request('GET', path), ['deny * /nothing/like/it', 'allow *'])).toBe('deny 0');
    expect(told(request('GET', path), ['deny other.com /nothing/like/it', 'allow *'])).toBe('allow 1');
    expect(told(request('GET', path), ['deny POST * /nothing/like/it', 'allow *'])).toBe('allow 1');
    expect(told(request('GET', path), ['allow *'])).toBe('allow 0');
  });

  it.each(['/public/..;/admin/x', '/public//../../admin/x', '/public/a//../../../admin/x', '/public/..%3b/admin/x'])(
    '%s is held to each reading',
    (path) => {
      expect(told(request('GET', path), ['allow * /public/**', 'deny *'])).toBe('deny 1');
      expect(told(request('GET', path), ['deny * /admin/**', 'allow *'])).toBe('deny 0');
    },
  );

  it.each(['/admin/x', '/public/../admin/x', '/./admin/x', '/%61dmin/x', '/admin/y/../x', '//admin/x', '/admin;a=b/x', '/admin//x'])(
    '%s is under /admin',
    (path) => {
      expect(told(request('GET', path), ['deny * /admin/**', 'allow *'])).toBe('deny 0');
    },
  );

  it.each(['/v1/https://a.b/c', '/v1/a;b=c/d', '/v1/a/./b', '/v1/%7Eme'])('%s is still under /v1', (path) => {
    expect(told(request('GET', path), ['allow * /v1/**'])).toBe('allow 0');
  });
});

describe('bytes that are relayed unread', () => {
  it.each([
    ['allow 0', ['allow api.x.com']],
    ['deny no-match', ['allow GET api.x.com']],
    ['deny no-match', ['allow api.x.com /v1/**']],
    ['deny 0', ['deny api.x.com /admin', 'allow *']],
    ['deny 0', ['deny DELETE api.x.com', 'allow *']],
    ['allow 1', ['deny other.com /admin', 'allow *']],
    ['allow no-rules', []],
  ])('%s: %j', (expected, lines) => {
    expect(told(raw, lines)).toBe(expected);
  });

  it('are what a request without path or without method is, too', () => {
    expect(told({ ...raw, method: 'GET' }, ['deny GET * /admin', 'allow *'])).toBe('deny 0');
    expect(told({ ...raw, method: 'GET' }, ['deny POST * /admin', 'allow *'])).toBe('allow 1');
    expect(told({ ...raw, path: '/admin' }, ['deny POST * /admin', 'allow *'])).toBe('deny 0');
    expect(told({ ...raw, path: '/x' }, ['deny POST * /admin', 'allow *'])).toBe('allow 1');
    expect(told({ ...raw, path: '/admin' }, ['allow POST * /admin'])).toBe('deny no-match');
  });
});

describe('a connection whose requests will be decided one by one', () => {
  it.each([
    ['allow no-rules', []],
    ['allow 0', ['allow GET api.x.com /v1/**', 'deny *']],
    ['allow 1', ['deny api.x.com /admin', 'allow *']],
    ['allow 1', ['deny DELETE api.x.com', 'allow GET *']],
    ['deny 1', ['deny api.x.com /admin', 'deny *']],
    ['deny 0', ['deny api.x.com', 'allow *']],
    ['deny no-match', ['deny api.x.com /admin']],
    ['deny no-match', ['allow GET other.com']],
  ])('%s: %j', (expected, lines) => {
    expect(told(raw, lines, decideConnection)).toBe(expected);
  });

  it('is never refused when a request on it could be allowed', () => {
    const all = [
      'allow *',
      'deny *',
      'allow GET *',
      'deny GET *',
      'allow * /a',
      'deny * /a',
      'allow POST * /a',
      'deny POST * /a',
      'allow other.com',
    ];
    for (const first of all)
      for (const second of all)
        for (const third of all) {
          const compiled = rules(first, second, third);
          const some = ['GET', 'POST', 'PUT'].some((method) => ['/a', '/b'].some((path) => decide(request(method, path), compiled).allow));
          expect(some && !decideConnection(raw, compiled).allow, [first, second, third].join(' | ')).toBe(false);
          // And bytes that nobody reads may not do what no request may.
          expect(!some && decide(raw, compiled).allow, [first, second, third].join(' | ')).toBe(false);
        }
  });
});

it('takes an expression that cannot be told for a match only when the rule denies', () => {
  const slow = 're:(?:(?:foo)+\\.?)+bar';
  const facts = request('GET', '/', 'foo'.repeat(60));
  expect(told(facts, [`allow ${slow}`])).toBe('deny no-match');
  expect(told(facts, [`deny ${slow}`, 'allow *'])).toBe('deny 0');
});

it('takes microseconds', () => {
  const compiled = rules(
    'deny evil.com',
    'allow *.y.com',
    'deny * /admin/**',
    're:api-\\d+\\.x\\.com',
    'allow GET api.x.com /v1/**',
    'deny *',
  );
  const facts = request('GET', '/v1/things/17');
  for (let i = 0; i < 20_000; i++) decide(facts, compiled);
  const start = performance.now();
  for (let i = 0; i < 20_000; i++) decide(facts, compiled);
  expect(performance.now() - start).toBeLessThan(1000);
});
