// Which names the program in the sandbox can look up, and under which addresses.
import { describe, expect, it } from 'vitest';
import { compileRules, type RuleEntry } from '../../src/policy/rule.ts';
import { Names, type NamesOptions } from '../../src/proxy/names.ts';

const A = 1;
const AAAA = 28;

interface Setting extends Partial<Omit<NamesOptions, 'rules' | 'onDenied'>> {
  readonly rules?: readonly RuleEntry[];
}

function start({ rules = [], ...options }: Setting = {}): { names: Names; denied: (string | null)[] } {
  const denied: (string | null)[] = [];
  const names = new Names({
    ports: [443, 80],
    reach: 'any',
    ...options,
    rules: compileRules(rules),
    onDenied: (host) => denied.push(host),
  });
  return { names, denied };
}

const ONE_HOST: readonly RuleEntry[] = [{ allow: true, host: 'api.example.com' }];

describe('a name that is allowed', () => {
  it('has one address for the whole run, in any case, and the address has the name', () => {
    const { names, denied } = start({ rules: ONE_HOST });
    expect(names.answer({ name: 'API.example.COM', type: A })).toEqual({ address: '198.18.0.1' });
    expect(names.answer({ name: 'api.example.com', type: A })).toEqual({ address: '198.18.0.1' });
    expect(names.at('198.18.0.1')).toBe('api.example.com');
    expect(names.at('198.18.0.2')).toBeUndefined();
    expect(denied).toEqual([]);
  });

  it.each([
    ['AAAA', AAAA],
    ['HTTPS', 65],
    ['MX', 15],
    ['TXT', 16],
    ['ANY', 255],
  ])('has nothing of type %s, and is given no address by it', (_type, type) => {
    const { names } = start();
    expect(names.answer({ name: 'a.example.com', type })).toBe('no-data');
    expect(names.answer({ name: 'b.example.com', type: A })).toEqual({ address: '198.18.0.1' });
  });

  it('has another address than every other one', () => {
    const { names } = start();
    const answers = Array.from({ length: 2000 }, (_, index) => names.answer({ name: `n${String(index)}.example.com`, type: A }));
    const addresses = answers.map((answer) => (typeof answer === 'string' ? answer : answer.address));
    expect(new Set(addresses).size).toBe(2000);
    expect(addresses[1999]).toBe('198.18.7.208');
    expect(addresses.every((address) => names.isStandIn(address))).toBe(true);
    expect(names.at('198.18.7.208')).toBe('n1999.example.com');
  });

  it('may have an underscore', () => {
    expect(start().names.answer({ name: 'my_bucket.s3.example.com', type: A })).toEqual({ address: '198.18.0.1' });
  });

  it('has an address on loopback where no other address leads anywhere', () => {
    const { names } = start({ reach: 'lo' });
    expect(names.answer({ name: 'a.example.com', type: A })).toEqual({ address: '127.64.0.1' });
    expect(names.at('127.64.0.1')).toBe('a.example.com');
  });

  it('is one that could be reached by some door', () => {
    const rules: RuleEntry[] = [
      { allow: false, host: 'api.example.com', path: '/admin/**' },
      { allow: true, host: 'api.example.com', methods: ['GET'] },
      { allow: true, host: 'db.example.com', port: 5432 },
      { allow: true, host: 'other.example.com', port: 6379 },
    ];
    const { names, denied } = start({ rules, ports: [443, 80, 5432] });
    expect(names.answer({ name: 'api.example.com', type: A })).toMatchObject({ address: '198.18.0.1' });
    expect(names.answer({ name: 'db.example.com', type: A })).toMatchObject({ address: '198.18.0.2' });
    expect(names.answer({ name: 'other.example.com', type: A })).toBe('no-such-name');
    expect(denied).toEqual(['other.example.com']);
  });
});

describe('a name that is not', () => {
  it('does not exist, for no type, and is told once', () => {
    const { names, denied } = start({ rules: ONE_HOST });
    for (const type of [A, AAAA, 16, A]) expect(names.answer({ name: 'Evil.example.com', type })).toBe('no-such-name');
    expect(names.answer({ name: 'api.example.com.corp.example', type: A })).toBe('no-such-name');
    expect(denied).toEqual(['evil.example.com', 'api.example.com.corp.example']);
  });

  it('is told by name a thousand times at most, then once for all others', () => {
    const { names, denied } = start({ rules: ONE_HOST });
    for (let index = 0; index < 5000; index++) names.answer({ name: `d${String(index)}.evil.example`, type: A });
    expect(denied).toHaveLength(1001);
    expect(denied.slice(-2)).toEqual(['d999.evil.example', null]);
  });
});

describe('what is no host', () => {
  it.each([
    ['nothing that a label may hold', undefined],
    ['the root', ''],
    ['an address', '10.0.0.1'],
    ['another spelling of an address', '0x7f.1'],
    ['a number', '2130706433'],
    ['a service', '_ldap._tcp.example.com'],
    ['a record about a name', '_dmarc.example.com'],
    ['an address backwards', '1.0.18.198.in-addr.arpa'],
    ['an IPv6 address backwards', '1.0.0.0.ip6.arpa'],
    ['a label of hyphens', '-.example.com'],
    ['bad IDNA', 'xn--a.example.com'],
  ])('does not exist: %s', (_what, name) => {
    for (const rules of [[], ONE_HOST]) {
      const { names, denied } = start({ rules });
      expect(names.answer({ name, type: A })).toBe('no-such-name');
      expect(denied).toEqual([]);
    }
  });

  it.each(['localhost', 'LOCALHOST', 'db.localhost'])('%s is this machine, whatever the rules say', (name) => {
    const { names, denied } = start({ rules: ONE_HOST });
    expect(names.answer({ name, type: A })).toEqual({ address: '127.0.0.1' });
    expect(names.answer({ name, type: AAAA })).toBe('no-data');
    expect(names.at('127.0.0.1')).toBeUndefined();
    expect(denied).toEqual([]);
  });
});

describe('when all addresses are given out', () => {
  it('a new name fails, and no name loses its own', () => {
    const { names } = start({ most: 2 });
    const ask = (name: string): unknown => names.answer({ name, type: A });
    expect([ask('a.example'), ask('b.example'), ask('c.example'), ask('c.example')]).toEqual([
      { address: '198.18.0.1' },
      { address: '198.18.0.2' },
      'failed',
      'failed',
    ]);
    expect([ask('b.example'), ask('a.example')]).toEqual([{ address: '198.18.0.2' }, { address: '198.18.0.1' }]);
    expect(names.answer({ name: 'c.example', type: AAAA })).toBe('no-data');
  });

  it('happens before the range is', () => {
    const { names } = start();
    let last: unknown;
    for (let index = 0; index < 65_537; index++) {
      const answer = names.answer({ name: `n${String(index)}.example`, type: A });
      if (answer !== 'failed') last = answer;
      else expect(index).toBe(65_536);
    }
    expect(last).toEqual({ address: '198.19.0.0' });
  });
});

it.each([
  ['any', ['198.18.0.0', '198.19.255.255'], ['198.17.255.255', '198.20.0.0', '127.64.0.1', '8.8.8.8', '[2001:db8::1]']],
  ['lo', ['127.64.0.0', '127.127.255.255'], ['127.63.255.255', '127.128.0.0', '127.0.0.1', '198.18.0.1', '[::1]']],
] as const)('the range of %s is known from all other addresses', (reach, within, without) => {
  const { names } = start({ reach });
  expect(within.map((address) => names.isStandIn(address))).toEqual([true, true]);
  expect(without.filter((address) => names.isStandIn(address))).toEqual([]);
});
