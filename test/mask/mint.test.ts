import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { isHeaderSafe, mint, publicFacts } from '../../src/mask/mint.ts';

const GENERATED = /kz_masked_[0-9a-f]{32}/g;

/** The text with each token as `#0`, `#1`, …, and what they stand for. */
function minted(value: string, shape?: 'exact' | 'plain'): { shown: string; values: string[]; inPath: boolean } {
  const { text, parts, inPath } = mint(new Secret(value), shape);
  const shown = parts.reduce((rest, { token }, index) => rest.replace(token, `#${String(index)}`), text);
  return { shown, values: parts.map(({ secret }) => secret.reveal()), inPath };
}

describe('a token', () => {
  it('is random, and new each time', () => {
    const tokens = Array.from({ length: 100 }, () => mint(new Secret('CANARY')).text);
    expect(new Set(tokens).size).toBe(100);
    for (const token of tokens) expect(token).toMatch(/^kz_masked_[0-9a-f]{32}$/);
  });

  it('comes from the given random bytes', () => {
    expect(mint(new Secret('CANARY'), undefined, (bytes) => Buffer.alloc(bytes, 0xab)).text).toBe(`kz_masked_${'ab'.repeat(16)}`);
  });

  it.each([
    ['ghp_CANARY0123456789', 'ghp_'],
    ['github_pat_CANARY0123456789', 'github_pat_'],
    ['sk-ant-api03-CANARY', 'sk-ant-'],
    ['sk-proj-CANARY', 'sk-proj-'],
    ['sk-CANARY', 'sk-'],
    ['sk_live_CANARY', 'sk_live_'],
    ['rk_test_CANARY', 'rk_test_'],
    ['xoxb-1-CANARY', 'xoxb-'],
    ['ntn_CANARY78901234567890123456789012345678901234', 'ntn_'],
    ['secret_CANARY7890123456789012345678901234567890', 'secret_'],
    ['123456789:CANARY7890123456789012345678901234567', ''],
    ['123456789:CANARY78901234567890123456789012345', '123456789:'],
    ['secret_CANARY', ''],
    ['ghp_', ''],
    ['xghp_CANARY', ''],
    ['', ''],
  ])('for %s starts with %j', (value, prefix) => {
    expect(mint(new Secret(value)).text.replace(GENERATED, '')).toBe(prefix);
    expect(mint(new Secret(value), 'plain').text).toMatch(/^kz_masked_[0-9a-f]{32}$/);
  });

  it('stands for the whole value', () => {
    expect(minted('ghp_CANARY')).toEqual({ shown: '#0', values: ['ghp_CANARY'], inPath: false });
    expect(minted('123456789:CANARY78901234567890123456789012345').inPath).toBe(true);
  });
});

describe('a URL keeps its shape', () => {
  const KEY = '1f3a9c0d5b7e2846a1c3e5f7092b4d6f';
  it.each<[string, string, string[]]>([
    ['postgres://admin:CANARY@prod-db:5432/app', 'postgres://admin:#0@prod-db:5432/app', ['CANARY']],
    ['postgres://admin:p%40ss%2Fw%C3%BC@db/app?sslmode=require', 'postgres://admin:#0@db/app?sslmode=require', ['p@ss/wü']],
    ['mongodb://u:CANARY@h1:27017,h2:27017/?replicaSet=rs', 'mongodb://u:#0@h1:27017,h2:27017/?replicaSet=rs', ['CANARY']],
    ['mongodb+srv://u:CAN:A@RY@h/db', 'mongodb+srv://u:#0@h/db', ['CAN:A@RY']],
    ['redis://:CANARY@[::1]:6379/0', 'redis://:#0@[::1]:6379/0', ['CANARY']],
    ['amqp://u:100%@h/%2F', 'amqp://u:#0@h/%2F', ['100%']],
    ['HTTPS://User:CANARY@Host.Example/%7e/?q=%20#f', 'HTTPS://User:#0@Host.Example/%7e/?q=%20#f', ['CANARY']],
    ['postgres://v-token-readonly-8xK2p9Qz1mN4:CANARY@h/db', 'postgres://v-token-readonly-8xK2p9Qz1mN4:#0@h/db', ['CANARY']],
    [`https://${KEY}@o1.ingest.sentry.io/123`, 'https://#0@o1.ingest.sentry.io/123', [KEY]],
    ['https://sk_test_CANARY0123456789:@api.stripe.com/v1', 'https://#0:@api.stripe.com/v1', ['sk_test_CANARY0123456789']],
    [
      'https://ghp_CANARY0123456789ab:x-oauth-basic@github.com/a/b.git',
      'https://#0:#1@github.com/a/b.git',
      ['ghp_CANARY0123456789ab', 'x-oauth-basic'],
    ],
    ['https://key:@api.example.com/', 'https://#0:@api.example.com/', ['key']],
    ['mysql://root:@localhost/db', '#0', ['mysql://root:@localhost/db']],
    ['https://x-access-token:ghp_CANARY0123456789@github.com/a', 'https://x-access-token:#0@github.com/a', ['ghp_CANARY0123456789']],
    ['https://host/hook?id=1&api_key=CAN%20ARY&x=y', 'https://host/hook?id=1&api_key=#0&x=y', ['CAN ARY']],
    ['https://a.logic.azure.com/x?sp=%2Frun&sv=1.0&sig=CANARY-1', 'https://a.logic.azure.com/x?sp=%2Frun&sv=1.0&sig=#0', ['CANARY-1']],
    ['jdbc:postgresql://h/db', '#0', ['jdbc:postgresql://h/db']],
    ['postgres://localhost/app', '#0', ['postgres://localhost/app']],
    ['https://user@host/', '#0', ['https://user@host/']],
    ['https://api.example.com/', '#0', ['https://api.example.com/']],
    ['postgres://u:pa/ss@h/db', '#0', ['postgres://u:pa/ss@h/db']],
    ['postgres://u:CANARY@h/db\n', '#0', ['postgres://u:CANARY@h/db\n']],
    ['Server=h;User Id=u;Password=CANARY', '#0', ['Server=h;User Id=u;Password=CANARY']],
    ['not a://b:c@d', '#0', ['not a://b:c@d']],
  ])('%s', (value, shown, values) => {
    expect(minted(value)).toEqual({ shown, values, inPath: false });
  });

  it.each<[string, string, string]>([
    ['https://hooks.slack.com/services/T000/B000/CANARYxyz', 'https://hooks.slack.com/services/T000/B000/#0', 'CANARYxyz'],
    ['https://hooks.zapier.com/hooks/catch/123/canary/', 'https://hooks.zapier.com/hooks/catch/123/#0/', 'canary'],
    ['https://discord.com/api/webhooks/123/CANARY-x?wait=true', 'https://discord.com/api/webhooks/123/#0?wait=true', 'CANARY-x'],
    ['https://api.telegram.org/bot123456789:AA-1b2C3d4/x', 'https://api.telegram.org/#0/x', 'bot123456789:AA-1b2C3d4'],
    [
      'https://x.webhook.office.com/in/1f3a9c0d5b7e2846a1c3e5f7092b4d6f/y',
      'https://x.webhook.office.com/in/#0/y',
      '1f3a9c0d5b7e2846a1c3e5f7092b4d6f',
    ],
  ])('%s, whose path is the credential', (value, shown, part) => {
    expect(minted(value)).toEqual({ shown, values: [part], inPath: true });
  });

  it('with a token that a URL can hold, and the vendor of the part', () => {
    expect(mint(new Secret('https://x:ghp_CANARY@github.com')).text).toMatch(/^https:\/\/x:ghp_kz_masked_[0-9a-f]{32}@github\.com$/);
    const { text, parts } = mint(new Secret('db://u:abcdEFGH12345678%40%2F%25@h'), 'exact');
    expect(text).toMatch(/^db:\/\/u:[a-z]{4}[A-Z]{4}\d{8}%40%2F%25@h$/);
    expect(parts[0]?.token).toBe(decodeURIComponent(text.slice('db://u:'.length, -2)));
  });
});

describe('shape exact', () => {
  it.each([
    ['ghp_CANARYabcdef0123456789xyz', /^ghp_[A-Z]{6}[a-z]{6}\d{10}[a-z]{3}$/],
    ['0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9', /^\d[a-f]\d[a-f]\d[a-f]\d[a-f]-\d[a-f]\d[a-f]-\d{4}-\d{4}-([a-f]\d){6}$/],
    ['CANARY+/=" 0123456789', /^[A-Z]{6}\+\/=" \d{10}$/],
  ])('%s', (value, pattern) => {
    const { text, parts } = mint(new Secret(value), 'exact');
    expect(text).toMatch(pattern);
    expect(text).not.toBe(value);
    expect(parts).toEqual([{ token: text, secret: new Secret(value) }]);
  });

  it('differs each time, in every character that may', () => {
    const tokens = Array.from({ length: 200 }, () => mint(new Secret('CANARY-0123456789-abcdef-xyz'), 'exact').text);
    expect(new Set(tokens).size).toBe(200);
    for (const at of [0, 5, 7, 16, 18, 27]) expect(new Set(tokens.map((token) => token[at])).size).toBeGreaterThan(5);
  });

  it.each([
    'CANARY',
    'CANARY-12345678',
    `ghp_${'x'.repeat(15)}`,
    '----------------',
    '',
    'postgres://u:CANARY@h/db',
    'CANARYCANARYCANARYé',
    'CANARYCANARYCANARY\n',
  ])('refuses %j without showing it', (value) => {
    const caught = (() => {
      try {
        return mint(new Secret(value), 'exact');
      } catch (error) {
        return error;
      }
    })();
    expect(caught).toMatchObject({ code: 'secret-invalid' });
    expect(JSON.stringify(caught) + String(caught)).not.toContain('CANARY');
  });
});

it('puts back what it took, whatever the value', () => {
  const pieces = [
    'https://',
    'x',
    ':',
    '@',
    '/',
    '?token=',
    '&',
    '%41',
    '%z',
    'ghp_',
    '1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d',
    '#',
    ' ',
    'é',
    '\\',
    'hooks.',
  ];
  let seed = 11;
  const random = (below: number) => (seed = (seed * 48_271) % 0x7fff_ffff) % below;
  for (let round = 0; round < 3000; round++) {
    const value = Array.from({ length: 1 + random(9) }, () => pieces[random(pieces.length)] ?? '').join('');
    const { text, parts } = mint(new Secret(value));
    expect(parts.length).toBeGreaterThan(0);
    // Decoded once on both sides: a part is decoded where the URL was encoded.
    const decode = (whole: string) => whole.replaceAll('%41', 'A');
    const back = parts.reduce((rest, { token, secret }) => rest.replace(token, () => secret.reveal()), text);
    expect(decode(back)).toBe(decode(value));
  }
});

it('takes time that grows with the value only', () => {
  const started = performance.now();
  for (const value of [
    'https://x?'.padEnd(1 << 20, '?a&'),
    'a://'.padEnd(1 << 20, '@:'),
    `https://h${'/a1b2'.repeat(1 << 17)}`,
    'a'.repeat(1 << 20),
  ])
    mint(new Secret(value));
  expect(performance.now() - started).toBeLessThan(5000);
});

it('tells what of a value is public', () => {
  expect(publicFacts(new Secret('ghp_CANARY')).vendor?.prefix).toBe('ghp_');
  expect(publicFacts(new Secret('mongodb://u:CANARY@h1:1,h2:2/db')).hosts).toEqual(['h1:1', 'h2:2']);
  expect(publicFacts(new Secret('CANARY'))).toEqual({ vendor: undefined, hosts: [], isClear: false });
  expect(publicFacts(new Secret('http://u:CANARY@h/')).isClear).toBe(true);
  expect(publicFacts(new Secret('sqlite:///file'))).toEqual({ vendor: undefined, hosts: [], isClear: false });
});

it('knows what a header cannot hold', () => {
  expect(['a', 'é', 'a\tb'].every((value) => isHeaderSafe(new Secret(value)))).toBe(true);
  expect(['a\r', '\nb', 'a\0'].some((value) => isHeaderSafe(new Secret(value)))).toBe(false);
});
