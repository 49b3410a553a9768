import { expect, it } from 'vitest';
import type { CredentialLocation } from '../../../src/config/bundle.ts';
import { Secret } from '../../../src/core/secret.ts';
import { Replacer } from '../../../src/mask/replace.ts';
import { inject, withSearch } from '../../../src/server/fetch/inject.ts';
import { BEARER, canary, failureOf, REF } from './fetching.ts';

const BARE: CredentialLocation = { kind: 'header', name: 'X-Api-Key', prefix: '' };
const QUERY: CredentialLocation = { kind: 'query', name: 'api key' };
const BASIC: CredentialLocation = { kind: 'basic' };

function injected(location: CredentialLocation, value: string) {
  return inject({ ref: REF, location, secret: new Secret(value) });
}

function searched(location: CredentialLocation, value: string, text: string | Buffer) {
  return withSearch({ ref: REF, location, secret: new Secret(value) }, ({ set, isSure }) => {
    const replacer = new Replacer(set);
    const bytes = Buffer.concat([replacer.push(Buffer.from(text)), replacer.end()]);
    return Promise.resolve({ text: bytes.toString(), bytes, isSure });
  });
}

it('puts the value where the location says', () => {
  expect(injected(BEARER, 'abc')).toEqual({ kind: 'header', name: 'Authorization', value: 'Bearer abc' });
  expect(injected(BARE, 'abc')).toEqual({ kind: 'header', name: 'X-Api-Key', value: 'abc' });
  expect(injected(QUERY, "a&b=c d+é'")).toEqual({ kind: 'query', parameter: 'api%20key=a%26b%3Dc%20d%2B%C3%A9%27' });
  expect(injected({ kind: 'basic', user: 'me' }, 'pä')).toMatchObject({ value: `Basic ${Buffer.from('me:pä').toString('base64')}` });
  expect(injected(BASIC, 'me:p')).toEqual({ kind: 'header', name: 'Authorization', value: 'Basic bWU6cA==' });
});

it.each<[string, CredentialLocation, string]>([
  ['a line end', BEARER, 'S3CRET-value\n'],
  ['CR and LF', BARE, 'S3CRET\r\nX-Injected: yes'],
  ['NUL', BEARER, 'S3CRET\0value'],
  ['DEL', BEARER, 'S3CRET\x7fvalue'],
  ['a line end in a query', QUERY, 'S3CRET\nvalue'],
  ['a line end in a password', { kind: 'basic', user: 'me' }, 'S3CRET\nvalue'],
  ['a character beyond latin1', BEARER, 'S3CRET-☃'],
  ['no password', BASIC, 'S3CRET-value'],
  ['nothing', BEARER, ''],
])('refuses a value with %s, without repeating it', async (_what, location, value) => {
  const failure = await failureOf(() => injected(location, value));
  expect(failure.code).toBe('secret-unavailable');
  expect(failure.text).not.toContain('S3CRET');
});

it('finds the value in the spellings that answers use', async () => {
  const value = `${canary()}/+"é`;
  const bytes = Buffer.from(value);
  const spellings = [
    value,
    bytes.toString('base64'),
    Buffer.from(`x${value}y`).toString('base64'),
    Buffer.from(`xy${value}z`).toString('base64url'),
    bytes.toString('hex'),
    encodeURIComponent(value),
    JSON.stringify(value),
    value.replace('"', '&quot;'),
    bytes.reduce((text, byte) => `${text}%${byte.toString(16)}`, ''),
  ];
  for (const spelling of spellings) {
    const { text } = await searched(BEARER, value, `<${spelling}>`);
    expect(text, spelling).not.toContain(spelling.slice(6, -6));
  }
  for (const raw of [Buffer.from(value, 'latin1'), Buffer.from(value, 'utf16le'), Buffer.from(value, 'utf16le').swap16()]) {
    expect((await searched(BEARER, value, raw)).bytes.includes(raw)).toBe(false);
  }
  expect((await searched(BEARER, value, `Bearer ${value}.`)).text).toBe(`Bearer [redacted:${REF}].`);
});

it('finds user and password in base64 without leaving a character of either', async () => {
  const password = canary();
  for (const user of ['', 'u', 'us', 'use', 'user']) {
    const sent = Buffer.from(`${user}:${password}`).toString('base64');
    expect((await searched({ kind: 'basic', user }, password, `{"authorization":"Basic ${sent}"}`)).text).toBe(
      `{"authorization":"Basic [redacted:${REF}]"}`,
    );
    const inside = Buffer.from(`Authorization=${user}:${password}&x`).toString('base64');
    const { text } = await searched({ kind: 'basic', user }, password, inside);
    expect(Buffer.from(text, 'base64').toString('latin1')).not.toContain(password.slice(1, -1));
  }
});

it('finds the password of a value that is user:password by itself', async () => {
  const password = canary();
  expect((await searched(BASIC, `me:${password}`, `password ${password}.`)).text).toBe(`password [redacted:${REF}].`);
});

it('finds what gives a value away by itself', async () => {
  const password = canary();
  const { text } = await searched(BARE, `postgres://me:${password}@db.test/x`, `login with ${password}`);
  expect(text).not.toContain(password);
});

it('finds a short value only as it was sent, and says so', async () => {
  expect(await searched(BEARER, 'k3y', 'k3y and Bearer k3y')).toMatchObject({ text: `k3y and Bearer [redacted:${REF}]`, isSure: false });
  expect(await searched({ kind: 'query', name: 'key' }, 'k3y', 'GET /?key=k3y&a')).toMatchObject({
    text: `GET /?key=[redacted:${REF}]&a`,
    isSure: false,
  });
  expect(await searched({ kind: 'basic', user: 'me' }, 'k3y', 'Basic bWU6azN5')).toMatchObject({
    text: `Basic [redacted:${REF}]`,
    isSure: false,
  });
  expect(await searched(BASIC, 'long-user-name:k3y', '')).toMatchObject({ isSure: false });
  expect(await searched(BEARER, canary(), '')).toMatchObject({ isSure: true });
});

it('shares one compiled search among those who use it at the same time, and keeps none', async () => {
  const credential = { ref: REF, location: BEARER, secret: new Secret(canary()) };
  const same = { ...credential, secret: new Secret(credential.secret.reveal()) };
  const first = await withSearch(credential, (one) => withSearch(same, (two) => Promise.resolve({ one, two })));
  expect(first.one).toBe(first.two);
  expect(await withSearch(credential, (again) => Promise.resolve(again === first.one))).toBe(false);
});
