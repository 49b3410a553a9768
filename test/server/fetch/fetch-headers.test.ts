import { expect, it } from 'vitest';
import type { CredentialLocation } from '../../../src/config/bundle.ts';
import { checkHeaders, checkOverrides, readHeaders } from '../../../src/server/fetch/fetch-headers.ts';
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
  'Proxy',
  'X-Real-IP',
  'Cookie',
  'Impersonate-User',
  'Impersonate-Extra-scopes',
  'Sudo',
  'X-Remote-User',
  'Remote-Groups',
  'X-Consumer-Username',
  'X-Goog-Authenticated-User-Email',
  'X-MS-Client-Principal-Name',
  'X-Amzn-Oidc-Identity',
  'SSL_CLIENT_S_DN',
  'X-SSL-Client-Cert',
  'X-Client-DN',
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
    checkHeaders(readHeaders({ [name]: 'mine' }), { location });
  });
  expect(failure).toMatchObject({ code: 'header-forbidden', message: `header ${name} may not be set: kz puts the credential there` });
});

it('allows an authorization of the caller’s own where the credential goes elsewhere', () => {
  checkHeaders(readHeaders({ Authorization: 'mine' }), { location: { kind: 'header', name: 'X-Api-Key', prefix: '' } });
  checkHeaders(readHeaders({ Authorization: 'mine' }), { location: { kind: 'query', name: 'key' } });
});

const NARROW = { location: BEARER, paths: ['/public/**'] };

it.each(['Destination', 'X-Copy-From', 'x-amz-copy-source', 'X_Goog_Copy_Source', 'x-ms-rename-source', 'X-Vault-Namespace'])(
  'refuses %s, which names another path, where paths are named',
  async (name) => {
    const fields = readHeaders({ [name]: '/private/x' });
    for (const check of [checkHeaders, checkOverrides])
      expect(
        (
          await failureOf(() => {
            check(fields, NARROW);
          })
        ).message,
      ).toContain(`header ${name} may not be set: the resource is for some paths only`);
    checkHeaders(fields, { location: BEARER });
    checkOverrides(fields, {});
  },
);

it('of a client’s own headers refuses those that make another request of it, and no others', async () => {
  for (const name of ['X-HTTP-Method-Override', 'x_http_method', 'X-Original-URL', 'X-Rewrite-URL', 'X-Host', 'Proxy'])
    expect(
      (
        await failureOf(() => {
          checkOverrides(
            [
              ['accept', '*/*'],
              [name, 'x'],
            ],
            {},
          );
        })
      ).code,
      name,
    ).toBe('header-forbidden');
  const usual = ['Host', 'Cookie', 'Range', 'X-Forwarded-For', 'Connection', 'X-Request-Method', 'X-Host-Name', 'Content-Encoding'];
  checkOverrides(
    usual.map((name) => [name, 'x']),
    {},
  );
});
