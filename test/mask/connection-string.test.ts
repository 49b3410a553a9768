import { describe, expect, it } from 'vitest';
import { ConnectionStrings } from '../../src/mask/connection-string.ts';

const PASSWORD = 'CANARY-7f3k';

/** The whole text, cut in two at every byte, and byte by byte. */
function outcomes(text: string): Set<string> {
  const bytes = Buffer.from(text);
  const cuts = Array.from(bytes, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)]);
  return new Set([[bytes], Array.from(bytes, (byte) => Buffer.of(byte)), ...cuts].map((chunks) => streamed(chunks)));
}

function streamed(chunks: readonly Buffer[]): string {
  const strings = new ConnectionStrings();
  return Buffer.concat([...chunks.map((chunk) => strings.push(chunk)), strings.end()]).toString();
}

function expectOnly(text: string, expected: string): void {
  expect(outcomes(text)).toEqual(new Set([expected]));
  expect(ConnectionStrings.hide(Buffer.from(text)).toString()).toBe(expected);
}

/** `{}` is where the password stands. */
const HIDDEN = [
  'postgres://user:{}@host/db',
  'postgresql+asyncpg://user:{}@host:5432/db?sslmode=require',
  'jdbc:mysql://root:{}@db',
  'redis://:{}@cache:6379/0',
  'mongodb+srv://u:{}@c0.example.net,c1.example.net/?retryWrites=true',
  'amqp://guest:{}@mq//',
  'https://user:{}@example.com/path@2?x=y@z#a@b',
  'HTTPS://USER:{}@EXAMPLE.COM',
  'ftp://u:{}@h and smtp://u:{}@h',
  'amqp://u:{}@h1,amqp://u:{}@h2',
  'could not connect to "postgres://u:{}@h:5432/db": timeout',
  "at 'postgres://u:{}@h','me@example.com'",
  'see <https://u:{}@h>, me@example.com',
  'env DATABASE_URL=postgres://u:{}@h\nuser@example.com\r\nredis://h:6379/a@b\n',
  'https://me@example.com:{}@h/x',
  '\u001b[32mpostgres://u:{}@h\u001b[0m x@y',
  'postgres:\\/\\/u:{}@h\\/db',
  '{"a":"{\\"dsn\\":\\"postgres://u:{}@h\\"}","m":"x@y"}',
  'http://a:redis://u:{}@h',
  `${'a'.repeat(50)}://u:{}@h`,
  'é://x postgres://usér:{}@hôst/ü',
] as const;

const UNTOUCHED = [
  'http://localhost:4873/@types/node',
  'http://host:80/a@b http://host:80?a@b http://host:80#a@b',
  'http://localhost:3000 me@example.com',
  '"http://localhost:3000","me@example.com"',
  "['http://localhost:3000','me@example.com']",
  "['postgres://host:PORT','me@example.com']",
  'http:\\/\\/localhost:4873\\/@types\\/node',
  'http://localhost:80\\nme@example.com',
  'https://user@example.com/ ssh://git@github.com/org/repo@v1',
  'git@github.com:org/repo.git npm:@scope/x@1.0.0',
  'postgres://h:5432/db?options=a@b',
  'mongodb://h1:27017,h2:27017/db?appName=@c0@',
  'nats://h1:4222,nats://h2:4222/x@y',
  'redis://[::1]:6379/0?a=b@c',
  'postgres://h:${PORT}/a@b postgres://h:$PORT/a@b postgres://h:port/a@b postgres://h:%d/a@b',
  'postgres://host:/db?x=a@b',
  'jdbc:sqlserver://srv.example.net:1433;database=db;user=admin@srv;encrypt=true',
  'sqlserver://host\\SQLEXPRESS:1433?x=a@b',
  'docker://alpine:3.20@sha256:9f2c',
  '://u:p@h 1://u:p@h file:///C:/x@y',
  'postgres://u:@h redis://:@h',
  'postgres://u:***@h postgres://u:xxxxx@h postgres://u:<password>@h postgres://u:${PASSWORD}@h postgres://u:%s@h',
  'postgres://u:[redacted]@h postgres://u:[redacted:DB_PASSWORD]@h postgres://u:%5Bredacted%3AX%5D@h',
  'postgres://u:kz_masked_0123456789abcdef0123456789abcdef@h https://u:ghp_kz_masked_0123456789abcdef0123456789abcdef@h',
  'http://localhost:3000,me@example.com https://a.example:8080,email=me@x ws://127.0.0.1:9229→me@x {http://localhost:80}@',
  '[here](http://localhost:8080)[me](mailto:me@example.com) |http://api.example:8080|me@example.com|',
  'no newline, no end: http://h:80',
] as const;

describe('however it is cut', () => {
  it.each(HIDDEN)('hides the password of %s', (text) => {
    expectOnly(text.replaceAll('{}', PASSWORD), text.replaceAll('{}', '[redacted]'));
  });

  it.each([
    'p@ss',
    "it's",
    '%40%2F',
    'ü€😀',
    'a:b:c',
    'p\\ss',
    'a\\u0026b',
    '12345',
    'x}y)z',
    '12,34',
    '$ecret',
    '***a',
    'pass[redacted]word',
  ])('hides the password %s', (password) => {
    expectOnly(`x postgres://u:${password}@h/db y@z`, 'x postgres://u:[redacted]@h/db y@z');
    expectOnly(`x https://u:${password}@h/db y@z`, 'x https://u:[redacted]@h/db y@z');
  });

  it.each(['pa/ss', 'pa?ss', 'pa#ss', '/abc/d', '12a/45', 'a/b/c?d#e'])('hides the password %s of a database only', (password) => {
    expectOnly(`redis://:${password}@h/0?x=a@b`, 'redis://:[redacted]@h/0?x=a@b');
    if (!password.startsWith('/')) expectOnly(`mongodb+srv://u:${password}@h/d?x=a@b`, 'mongodb+srv://u:[redacted]@h/d?x=a@b');
    expectOnly(`http://u:${password}@h`, `http://u:${password}@h`);
  });

  it('hides a password that holds another connection string once', () => {
    expectOnly('redis://u:a/redis://x:CANARY@h y@z', 'redis://u:[redacted]@h y@z');
  });

  it.each(UNTOUCHED)('leaves %s', (text) => {
    expectOnly(text, text);
  });
});

describe('bounds', () => {
  it('takes 1024 bytes for user and password', () => {
    const fits = `x://u:${'p'.repeat(1022)}@h`;
    expect(streamed([Buffer.from(fits)])).toBe('x://u:[redacted]@h');
    const tooLong = `x://u:${'p'.repeat(1023)}@h`;
    for (const text of [tooLong, `${tooLong} x://u:p@h`.replace('h x', 'h/x')]) {
      const bytes = Buffer.from(text);
      const expected = text.replace('u:p@h', 'u:[redacted]@h');
      expect(streamed([bytes])).toBe(expected);
      expect(streamed(Array.from(bytes, (byte) => Buffer.of(byte)))).toBe(expected);
    }
  });

  it('holds back only what may be a password', () => {
    const strings = new ConnectionStrings();
    expect(strings.push(Buffer.from('Listening on http://localhost')).toString()).toBe('Listening on http://localhost');
    expect(strings.push(Buffer.from(':3000')).toString()).toBe(':');
    expect(strings.push(Buffer.from('\nPassword: ')).toString()).toBe('3000\nPassword: ');
    expect(strings.push(Buffer.from(`postgres://u:${'p'.repeat(5000)}`)).toString()).toBe(`postgres://u:${'p'.repeat(5000)}`);
  });

  it('gives the same object when there is nothing in it', () => {
    const strings = new ConnectionStrings();
    const chunks = ['plain text\n', 'ends in a word', 'and goes on\n', 'http://host/x\n', ''].map((text) => Buffer.from(text));
    for (const chunk of chunks) expect(strings.push(chunk)).toBe(chunk);
    for (const chunk of chunks) expect(ConnectionStrings.hide(chunk)).toBe(chunk);
  });

  it('keeps invalid UTF-8, NUL and no final newline', () => {
    const bytes = Buffer.from('\xff\xfe\0 x://u:p\xff@h\xe2\x82', 'latin1');
    const out = Buffer.from('\xff\xfe\0 x://u:[redacted]@h\xe2\x82', 'latin1');
    expect(ConnectionStrings.hide(bytes)).toEqual(out);
  });
});

/** The oracle: what the rules say of text without databases and backslashes. */
function naive(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]{0,31}:\/\/[^\s"/?#:]*:)([^\s"/?#]+)@/gi, '$1[redacted]@');
}

describe('random text', () => {
  it('has the same outcome in one piece, in random pieces and for the oracle', () => {
    const random = seeded(4711);
    const words = ['x', 'ab', '://', ':/', '/', ':', '@', ' ', '"', '\n', '?', 'https', 's3', '1', 'p:w@', '://u:p@'];
    for (let turn = 0; turn < 3000; turn += 1) {
      const text = Array.from({ length: 1 + random(14) }, () => words[random(words.length)]).join('');
      const bytes = Buffer.from(text);
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) chunks.push(bytes.subarray(at, (at += 1 + random(5))));
      expect([streamed([bytes]), streamed(chunks)], JSON.stringify(text)).toEqual([naive(text), naive(text)]);
    }
  });

  it('has the same outcome in random pieces, with everything the rules know', () => {
    const random = seeded(42);
    const words = [
      'x',
      '://',
      ':\\/\\/',
      '\\/',
      '/',
      ':',
      '@',
      ' ',
      "'",
      '\\',
      '\\u0026',
      '\\n',
      '#',
      'redis',
      'redis://',
      '://u:p',
      '80',
      ',',
      'é',
    ];
    for (let turn = 0; turn < 6000; turn += 1) {
      const bytes = Buffer.from(Array.from({ length: 1 + random(16) }, () => words[random(words.length)]).join(''));
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) chunks.push(bytes.subarray(at, (at += 1 + random(4))));
      expect(streamed(chunks), JSON.stringify(bytes.toString())).toBe(ConnectionStrings.hide(bytes).toString());
    }
  });
});

/** Park and Miller's generator: the same numbers in every run. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}
