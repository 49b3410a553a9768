import { expect, it } from 'vitest';
import type { CredentialLocation } from '../../../src/config/bundle.ts';
import { checkHeaders, readHeaders } from '../../../src/server/fetch/fetch-headers.ts';
import { BEARER, failureOf } from './fetching.ts';

it('keeps order and case, and takes the space around values away', () => {
  expect(readHeaders({ 'X-B': ' \tb ', accept: 'text/html', 'X-Empty': '' })).toEqual([
    ['X-B', 'b'],
    ['accept', 'text/html'],
    ['X-Empty', ''],
  ]);
});

it('leaves out what kz answers for itself', () => {
  expect(readHeaders({ 'Accept-Encoding': 'br', 'accept-charset': 'utf-16', 'A-IM': 'gzip' })).toEqual([]);
});

it.each([
  'Host',
  'hOsT',
  'Content-Length',
  'Transfer-Encoding',
  'transfer_encoding',
  'Connection',
  'Keep-Alive',
  'TE',
  'Trailer',
  'Upgrade',
  'Expect',
  'Proxy-Authorization',
  'Proxy-Connection',
  'Proxy-Anything',
  'HTTP2-Settings',
  'X-HTTP-Method',
  'X-HTTP-Method-Override',
  'X_HTTP_Method_Override',
  'X-Method-Override',
  'Forwarded',
  'X-Forwarded-Host',
  'X-Forwarded-For',
  'X-Forwarded-User',
  'X-Original-URL',
  'X-Rewrite-URL',
  'X-Real-IP',
  'Cookie',
  'Impersonate-User',
  'Impersonate-Extra-scopes',
  'Sudo',
  'X-Remote-User',
  'Range',
  'If-Range',
  'Sec-WebSocket-Key',
])('refuses the header %s and names it', async (name) => {
  const failure = await failureOf(() => readHeaders({ [name]: 'x' }));
  expect(failure.code).toBe('header-forbidden');
  expect(failure.message).toContain(name);
});

it.each(['', 'a b', 'a:b', ':authority', 'a\r\nb', 'ä', 'a\0', 'x'.repeat(300)])('refuses the name %j', async (name) => {
  expect((await failureOf(() => readHeaders({ [name]: 'x' }))).code).toBe('header-forbidden');
});

it.each(['a\r\nX-Injected: b', 'a\nb', 'a\rb', 'a\0b', 'a\x07b', 'a\x7fb', '☃'])(
  'refuses the value %j without repeating it',
  async (value) => {
    const failure = await failureOf(() => readHeaders({ 'X-A': value }));
    expect(failure.code).toBe('header-forbidden');
    expect(failure.message).toContain('X-A');
    expect(failure.message).not.toContain(value);
  },
);

it('refuses a header that is there twice, in any case and spelling', async () => {
  for (const other of ['x-a', 'X_A'])
    expect((await failureOf(() => readHeaders({ 'X-A': '1', [other]: '2' }))).code).toBe('header-forbidden');
});

it('limits their number and their size', async () => {
  const many = Object.fromEntries(Array.from({ length: 65 }, (_none, index) => [`x-${String(index)}`, '']));
  expect((await failureOf(() => readHeaders(many))).code).toBe('request-invalid');
  expect((await failureOf(() => readHeaders({ 'x-a': 'a'.repeat(16 * 1024) }))).code).toBe('request-invalid');
});

it.each<[string, CredentialLocation]>([
  ['authorization', BEARER],
  ['AUTHORIZATION', BEARER],
  ['Authorization', { kind: 'basic', user: 'me' }],
  ['x-api-key', { kind: 'header', name: 'X-Api-Key', prefix: '' }],
  ['X_Api_Key', { kind: 'header', name: 'X-Api-Key', prefix: '' }],
  ['x.api.key', { kind: 'header', name: 'X-Api-Key', prefix: '' }],
])('refuses %s where the credential goes', async (name, location) => {
  const failure = await failureOf(() => {
    checkHeaders(readHeaders({ [name]: 'mine' }), location);
  });
  expect(failure).toMatchObject({ code: 'header-forbidden', message: `header ${name} may not be set: kz puts the credential there` });
});

it('allows an authorization of the caller’s own where the credential goes elsewhere', () => {
  checkHeaders(readHeaders({ Authorization: 'mine' }), { kind: 'header', name: 'X-Api-Key', prefix: '' });
  checkHeaders(readHeaders({ Authorization: 'mine' }), { kind: 'query', name: 'key' });
});
