import { expect, it } from 'vitest';
import { checkFetch, readFetch, type FetchInput } from '../../../src/server/fetch/fetch.ts';
import { failureOf, resource, type ResourceOptions } from './fetching.ts';

function read(url: string) {
  const { target, path, query } = readFetch({ url });
  return { ...target, path, query };
}

it('says which ref was asked for', async () => {
  for (const url of ['https://other.test/', 'http://api.test/']) {
    const message = await failureOf(() => {
      checkFetch(readFetch({ url }), resource(), 'asked/for');
    });
    expect(message).toMatchObject({ code: 'url-forbidden', message: expect.stringMatching(/^asked\/for may /) as string });
  }
});

function check(input: FetchInput | string, options?: ResourceOptions): void {
  checkFetch(readFetch(typeof input === 'string' ? { url: input } : input), resource(options));
}

it.each([
  ['https://api.test', { host: 'api.test', port: 443, tls: true, path: '/', query: '' }],
  ['HTTPS://API.Test.:443/a?b=c#d', { host: 'api.test', port: 443, tls: true, path: '/a', query: 'b=c' }],
  ['https://api.test:8443/a/../b', { host: 'api.test', port: 8443, tls: true, path: '/b', query: '' }],
  ['https://api.test/a/%2e%2e/b', { host: 'api.test', port: 443, tls: true, path: '/b', query: '' }],
  ['https://bücher.test/ä?ö', { host: 'xn--bcher-kva.test', port: 443, tls: true, path: '/%C3%A4', query: '%C3%B6' }],
  ['https://[2606:4700:0::1111]/', { host: '[2606:4700::1111]', port: 443, tls: true, path: '/', query: '' }],
  ['https://[::ffff:10.0.0.1]/', { host: '10.0.0.1', port: 443, tls: true, path: '/', query: '' }],
  ['https://0x7f.1/', { host: '127.0.0.1', port: 443, tls: true, path: '/', query: '' }],
  ['http://api.test/', { host: 'api.test', port: 80, tls: false, path: '/', query: '' }],
])('reads %s in one way', (url, expected) => {
  expect(read(url)).toEqual(expected);
});

it.each([
  ['https://api.test/%61dmin/./x', '/admin/x'],
  ['https://api.test/a%2Fb', ''],
  ['https://api.test//a', ''],
  ['https://api.test/a;b', ''],
])('says what path %s is to every server', (url, reading) => {
  expect(readFetch({ url }).reading).toBe(reading);
});

it.each([
  'ftp://api.test/',
  'file:///etc/passwd',
  'javascript:alert(1)',
  'data:text/plain,x',
  'ws://api.test/',
  '//api.test/',
  '/repos',
  '',
  'https:api.test',
  'https:/api.test/',
  'https:///api.test/',
  'https://',
  'https:///',
  'https:\\\\api.test\\',
  'https://api.test\\@evil.test/',
  'https://api.test\t.evil.test/',
  'https://api.test/\n',
  ' https://api.test/',
  'https://api.test/a b',
  'https://api.test/\0',
  'https://api.test/\u2028',
  'https://user@api.test/',
  'https://user:password@api.test/',
  'https://api.test:443@evil.test/',
  'https://@api.test/',
  'https://api.test%40evil.test/',
  'https://api%2etest/',
  'https://api.test:0/',
  'https://api.test:65536/',
  'https://api.test:/',
  'https://api.test:0443/',
  'https://[::1%25eth0]/',
  'https://[::1/',
  'https://a..b/',
  'https://api.test/\ud800',
  'https://1.2.3.4.5/',
  'https://faß。test /',
  `https://api.test/${'a'.repeat(8192)}`,
  `https://api.test/${'ä'.repeat(2000)}`,
])('refuses the url %j', async (url) => {
  expect((await failureOf(() => readFetch({ url }))).code).toBe('url-forbidden');
});

it.each(['CONNECT', 'TRACE', 'trace', 'TRACK'])('never sends %s, whatever a resource says', async (method) => {
  expect((await failureOf(() => readFetch({ url: 'https://api.test/', method }))).code).toBe('url-forbidden');
});

it.each(['', 'GET ', 'G ET', 'GET\r\nX: y', 'É', 'A'.repeat(40)])('refuses the method %j', async (method) => {
  expect((await failureOf(() => readFetch({ url: 'https://api.test/', method }))).code).toBe('request-invalid');
});

it('reads bodies as text and as base64, and refuses what is neither', async () => {
  const url = 'https://api.test/';
  expect(readFetch({ url, body: 'ä' }).body).toEqual(Buffer.from('ä'));
  expect(readFetch({ url, body: 'AP8=', bodyEncoding: 'base64' }).body).toEqual(Buffer.of(0, 255));
  expect(readFetch({ url, body: 'AP8', bodyEncoding: 'base64' }).body).toEqual(Buffer.of(0, 255));
  for (const body of ['A', 'AP8=\n', '!!!!', 'AP8==='])
    expect((await failureOf(() => readFetch({ url, body, bodyEncoding: 'base64' }))).code).toBe('request-invalid');
  expect((await failureOf(() => readFetch({ url, body: '\ud800' }))).code).toBe('request-invalid');
  expect((await failureOf(() => readFetch({ url, body: 'a'.repeat(1024 * 1024 + 1) }))).code).toBe('too-large');
});

it('refuses everything for a resource that names no hosts', async () => {
  const failure = await failureOf(() => {
    check('https://api.test/', { hosts: [] });
  });
  expect(failure).toMatchObject({ code: 'url-forbidden' });
});

it.each([
  ['another host', 'https://evil.test/', 'may not go to evil.test'],
  ['a subdomain', 'https://a.api.test/', 'may not go to a.api.test'],
  ['a longer name', 'https://api.test.evil.test/', 'may not go to api.test.evil.test'],
  ['another path', 'https://api.test/admin', 'may not be used for this path'],
  ['a path above', 'https://api.test/repos/../admin', 'may not be used for this path'],
  ['an escaped slash', 'https://api.test/repos/..%2fadmin', 'servers read this one in different ways'],
  ['an escaped backslash', 'https://api.test/repos/..%5cadmin', 'servers read this one in different ways'],
  ['an escape in an escape', 'https://api.test/repos/%252e%252e/admin', 'servers read this one in different ways'],
  ['an empty segment', 'https://api.test//repos/a', 'may not be used for this path'],
  ['a parameter', 'https://api.test/repos/..;/admin', 'may not be used for this path'],
])('refuses %s and says what is allowed', async (_what, url, message) => {
  const failure = await failureOf(() => {
    check(url, { paths: ['/repos/**'] });
  });
  expect(failure.code).toBe('url-forbidden');
  expect(failure.message).toContain(message);
  expect(failure.text).toContain('allowed are hosts api.test; methods GET, POST, HEAD; paths /repos/**');
});

it('refuses a method that the resource does not name', async () => {
  const failure = await failureOf(() => {
    check({ url: 'https://api.test/', method: 'DELETE' });
  });
  expect(failure).toMatchObject({ code: 'url-forbidden', message: 'github/pat may not be used with DELETE' });
});

it('allows what hosts, methods and paths allow together', () => {
  check({ url: 'https://api.test/repos/a%2Fb?x=..' });
  check({ url: 'https://api.test/repos/a', method: 'post' }, { paths: ['/repos/**'] });
  check({ url: 'https://a.api.test:8443/' }, { hosts: ['*.api.test'] });
});

it.each([
  ['to a name', 'http://api.test/', ['api.test'], false],
  ['to a name with its port', 'http://api.test:8080/', ['api.test:8080'], true],
  ['to a name below a wildcard with its port', 'http://a.api.test:8080/', ['*.api.test:8080'], false],
  ['to any host', 'http://api.test/', ['*'], false],
  ['to this machine', 'http://127.0.0.1:3000/', ['127.0.0.1'], true],
  ['to localhost', 'http://localhost:3000/', ['localhost'], true],
  ['to this machine, through a wildcard', 'http://localhost:3000/', ['*'], false],
])('http %s', async (_what, url, hosts, isAllowed) => {
  const run = (): void => {
    check(url, { hosts });
  };
  if (isAllowed) run();
  else expect((await failureOf(run)).message).toContain('through https only');
});

it.each([
  'api_key=x',
  'a=b&api_key',
  'API_KEY=x',
  'api%5Fkey=x',
  'api%255Fkey=x',
  'api_key[]=x',
  'api_key%5B0%5D=x',
  'api.key=x',
  'api+key=x',
  '+api_key=x',
  'a;api_key=x',
  'api_key%00y=x',
])('refuses the query %s where the credential is api_key', async (query) => {
  const location = { kind: 'query', name: 'api_key' } as const;
  const failure = await failureOf(() => {
    check(`https://api.test/?${query}`, { location });
  });
  expect(failure).toMatchObject({
    code: 'url-forbidden',
    message: 'the url has a parameter "api_key", which is where kz puts the credential',
  });
});

it('allows parameters that only look like the credential’s', () => {
  check('https://api.test/?api_keys=x&my_api_key=y&x=api_key', { location: { kind: 'query', name: 'api_key' } });
});

const POST = { url: 'https://api.test/', method: 'POST' };
const JSON_TYPE = { 'content-type': 'application/json' };
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const PARTS = { 'Content-Type': 'multipart/form-data; boundary=x' };

function part(name: string): string {
  return `--x\r\nContent-Disposition: form-data; ${name}\r\n\r\nDELETE\r\n--x--\r\n`;
}

function after(value: string, next: string): string {
  return `--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n${value}\r\n${next}`.replace(/--x--/, `--x\r\n\r\n'"\r\n--x--`);
}

it.each<Partial<FetchInput>>([
  { url: 'https://api.test/?_method=DELETE' },
  { url: 'https://api.test/?X-HTTP-Method-Override=DELETE' },
  { headers: FORM, body: 'a=b&_method=delete' },
  { headers: FORM, body: 'a=b;%5Fmethod[]=delete' },
  // Rack takes a body of no type for a form.
  { body: '_method=DELETE' },
  { headers: { 'content-type': ' ' }, body: '_method=DELETE' },
  { body: part('name="_method"') },
  { body: '{"_method":"DELETE"}' },
  { headers: PARTS, body: '--x\r\nname="_method"' },
  { headers: PARTS, body: part('name=_method') },
  { headers: PARTS, body: part("name='_method'") },
  { headers: PARTS, body: part('name = "_meth\\od"') },
  { headers: PARTS, body: part('name=".METHOD[x]"') },
  { headers: PARTS, body: part("name*=utf-8'en'%5fmethod") },
  { headers: PARTS, body: part('name="a"; name="X-HTTP-Method-Override"') },
  // In a value, what looks like the beginning of a name hides none.
  ...['name="', "name='", 'name="a', 'name=', 'name*='].map((value) => ({ headers: PARTS, body: after(value, part('name="_method"')) })),
  { headers: PARTS, body: part('name="_method') },
  { headers: PARTS, body: part("name*=''_method") },
  { headers: PARTS, body: part('name*0="_met"; name*1="hod"') },
  { headers: PARTS, body: part(`name="${' '.repeat(999)}_method"`) },
  { headers: { 'content-type': 'multipart/form-data; boundary=x-www-form-urlencoded' }, body: part('name="_method"') },
  { headers: { 'content-type': 'application/json; a=x-www-form-urlencoded' }, body: '{"_method":"DELETE"}' },
  { headers: JSON_TYPE, body: '\uFEFF{"_method":"DELETE"}' },
  // Laravel looks into JSON.
  { headers: JSON_TYPE, body: '{"_method":"DELETE"}' },
  { headers: { 'content-type': 'application/vnd.api+json; charset=utf-8' }, body: '{"a":1,"\\u005fmethod":"DELETE"}' },
])('refuses a parameter that is another method: %j', async (input) => {
  expect((await failureOf(() => readFetch({ ...POST, ...input }))).code).toBe('url-forbidden');
});

it.each<Partial<FetchInput>>([
  { headers: { ...FORM, 'content-encoding': 'gzip' }, body: 'x' },
  { headers: { ...PARTS, 'content-encoding': 'br' }, body: 'x' },
  { headers: { ...JSON_TYPE, 'Content-Encoding': 'identity, deflate' }, body: 'x' },
  { headers: { 'content-encoding': 'gzip' }, body: 'x' },
  ...['utf-16', '"UTF-16LE"', 'utf-7', 'ibm500', 'utf-8x', 'us-ascii; charset=ibm037'].map((charset) => ({
    headers: { 'content-type': `${FORM['content-type']}; charset=${charset}` },
    body: 'x',
  })),
])('refuses parameters that only the server can read: %j', async (input) => {
  expect((await failureOf(() => readFetch({ ...POST, ...input }))).code).toBe('header-forbidden');
});

it.each<Partial<FetchInput>>([
  { url: 'https://api.test/?method=DELETE&my_method=x' },
  { headers: FORM, body: 'method=DELETE&x=_method' },
  { headers: { 'content-type': 'application/x-www-form-urlencoded; charset="utf-8"' }, body: 'a=b' },
  { headers: PARTS, body: part('name="method"; filename="_method"') },
  { headers: JSON_TYPE, body: '{"method":"x","params":{"_method":1}}' },
  { headers: JSON_TYPE, body: '["_method"]' },
  { headers: JSON_TYPE, body: '{"_method"' },
  { headers: { ...JSON_TYPE, 'content-encoding': 'identity' }, body: '{}' },
  { headers: { 'content-type': 'text/plain' }, body: '_method=DELETE' },
  { headers: { 'content-type': 'application/octet-stream', 'content-encoding': 'gzip' }, body: 'x' },
  { method: 'PUT', headers: { ...JSON_TYPE, 'content-encoding': 'gzip' }, body: 'x' },
  { method: 'PUT', body: '_method=DELETE' },
  { headers: { 'content-encoding': 'gzip' } },
])('takes %j for what it says', (input) => {
  expect(readFetch({ ...POST, ...input }).method).toBe(input.method ?? 'POST');
});

it.each<[what: string, headers: Record<string, string>, repeated: string]>([
  ['of nothing', FORM, '&'],
  ['of nothing, parted by semicolons', FORM, ';'],
  ['of one letter', FORM, 'a&'],
  ['escaped many times', FORM, '%2525252525&'],
  ['of parts', PARTS, "name='"],
  ['of parts without an end', PARTS, 'name="\\'],
])('a body with a million parameters %s is read as fast as another', (_what, headers, repeated) => {
  const body = repeated.repeat(Math.floor((1024 * 1024) / repeated.length));
  const started = performance.now();
  readFetch({ ...POST, headers, body });
  // It was more than a second.
  expect(performance.now() - started).toBeLessThan(500);
});
