import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { credentialParts } from '../../src/mask/credential-parts.ts';

const PASSWORD = 'CANARY-4b1d77aa';

describe('the password of a connection string', () => {
  it.each([
    ['a URL', `postgres://app:${PASSWORD}@db.example.com/app`, PASSWORD],
    ['a URL with raw slashes and an at in it', `postgres://app:p@ss/${PASSWORD}@db:5432/app?sslmode=require`, `p@ss/${PASSWORD}`],
    ['a URL with several hosts', `mongodb://app:${PASSWORD}@a.example:27017,b.example:27017/app`, PASSWORD],
    ['libpq', `host=db user=app password=${PASSWORD} dbname=app`, PASSWORD],
    ['libpq, quoted', `host=db password='with space ${PASSWORD}' dbname=app`, `with space ${PASSWORD}`],
    ['ADO.NET', `Server=db;User Id=app;Password=${PASSWORD};Encrypt=true`, PASSWORD],
    ['ODBC', `Driver={SQL Server};Uid=app;Pwd={${PASSWORD};x};`, `${PASSWORD};x`],
    ['JDBC', `jdbc:postgresql://db/app?user=app&password=${PASSWORD}`, PASSWORD],
    ['Go’s MySQL driver', `app:${PASSWORD}@tcp(db:3306)/app`, PASSWORD],
  ])('of %s', (_what, value, password) => {
    expect(credentialParts(value)).toContain(password);
  });

  it.each([
    ['https://api.example.com/v1/users@me'],
    ['http://localhost:4873/@types/node'],
    ['just a text with password in it'],
    ['CANARY-plain'],
  ])('is none in %s', (value) => {
    expect(credentialParts(value)).toEqual([]);
  });
});

describe('a value of several lines', () => {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });

  it('is each line of a private key, but not its frame', () => {
    const lines = privateKey.trim().split('\n').slice(1, -1);
    expect(credentialParts(privateKey)).toEqual(lines.filter(({ length }) => length >= 16));
    expect(credentialParts(privateKey.replaceAll('\n', '\r\n'))).toEqual(lines.filter(({ length }) => length >= 16));
  });

  it('is each line of the key in a service account', () => {
    const document = JSON.stringify({ type: 'service_account', private_key: privateKey, client_email: 'a@b.example' }, undefined, 2);
    const parts = credentialParts(document);
    for (const line of privateKey.trim().split('\n').slice(1, -1)) if (line.length >= 16) expect(parts).toContain(line);
    expect(parts).not.toContain('a@b.example');
  });

  it('is each line of a key whose newlines are written as \\n', () => {
    const lines = privateKey.trim().split('\n').slice(1, -1);
    expect(credentialParts(privateKey.replaceAll('\n', String.raw`\n`))).toEqual(lines.filter(({ length }) => length >= 16));
  });

  it('is no line of a certificate, also beside a key', () => {
    const certificate = `-----BEGIN CERTIFICATE-----\n${'MIIBCANARY7f3k'.repeat(4)}\n-----END CERTIFICATE-----\n`;
    const lines = privateKey.trim().split('\n').slice(1, -1);
    expect(credentialParts(certificate.repeat(2))).toEqual([]);
    expect(credentialParts(certificate + privateKey + certificate)).toEqual(lines.filter(({ length }) => length >= 16));
  });

  it('is not every line of a text', () => {
    expect(credentialParts('first line of some words\nsecond line of some words')).toEqual([]);
  });
});
