import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findWorkloadJwt, missingJwtHint, readClaims, WorkloadJwt, type JwtSource } from '../../src/providers/workload-jwt.ts';
import { NEVER, rejection } from './vault-bench.ts';

const who = 'kz server at https://kz.internal';
let folder: string;
let github: Server;
let asked: string[];
/** What GitHub answers next. */
let answer: () => { status?: number; body: unknown };

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kz-jwt-'));
  asked = [];
  answer = () => ({ body: { value: jwt({ exp: inSeconds(600), jti: asked.length }) } });
  github = createServer((request, response) => {
    asked.push(`${request.headers.authorization ?? ''} ${request.url ?? ''}`);
    const { status = 200, body } = answer();
    response.writeHead(status).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
});

afterEach(() => {
  github.close();
  github.closeAllConnections();
  rmSync(folder, { recursive: true });
});

function jwt(claims: object): string {
  return [{ alg: 'RS256' }, claims, 'CANARY-signature'].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
}

function inSeconds(count: number): number {
  return Math.floor(Date.now() / 1000) + count;
}

function onGithub(): Record<string, string> {
  const url = `http://127.0.0.1:${String((github.address() as AddressInfo).port)}/token?api-version=2`;
  return { GITHUB_ACTIONS: 'true', ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'CANARY-request' };
}

const find = async (source: Partial<JwtSource>) => findWorkloadJwt({ env: {}, who, ...source }, NEVER);

describe('a JWT is', () => {
  it('that of the variable that is named, else of the file, else of the usual variable, else GitHub’s', async () => {
    const file = join(folder, 'jwt');
    writeFileSync(file, 'of-file\n');
    const all = { env: { NAMED: ' of-variable\n', KEYZERO_JWT: 'usual', ...onGithub() }, usualVariable: 'KEYZERO_JWT' };
    expect(await find({ ...all, variable: 'NAMED', file })).toEqual({ jwt: 'of-variable', from: 'NAMED' });
    expect(await find({ ...all, file })).toEqual({ jwt: 'of-file', from: `file ${JSON.stringify(file)}` });
    expect(await find(all)).toEqual({ jwt: 'usual', from: 'KEYZERO_JWT' });
    expect(asked).toEqual([]);
    const env = { ...onGithub(), KEYZERO_JWT: '' };
    expect(await find({ env, usualVariable: 'KEYZERO_JWT', audience: 'kz & co' })).toMatchObject({ from: 'GitHub’s token service' });
    expect(asked).toEqual(['Bearer CANARY-request /token?api-version=2&audience=kz+%26+co']);
  });

  it('nowhere, where nothing is named and nothing is there', async () => {
    expect(await find({ usualVariable: 'KEYZERO_JWT' })).toBeUndefined();
    expect(missingJwtHint({}, '`jwt_file`')).toBe('set `jwt_file`');
    expect(missingJwtHint({ GITHUB_ACTIONS: 'true' }, '`jwt_file`')).toBe('give the job `permissions: { id-token: write }`');
  });

  it.each([
    ['variable', { variable: 'NAMED' }, 'needs NAMED, which is not set'],
    ['file', { file: '/nonexistent/jwt' }, 'needs file "/nonexistent/jwt", which does not exist'],
  ])('locked when the %s that was named is not there, whatever else is', async (_what, source, message) => {
    const error = await rejection(find({ env: { NAMED: '', KEYZERO_JWT: 'x', ...onGithub() }, usualVariable: 'KEYZERO_JWT', ...source }));
    expect(error).toMatchObject({ code: 'provider-locked', message: `the login to ${who} ${message}` });
    expect(asked).toEqual([]);
  });

  it('refused by GitHub without a word of what it said, or of what kz showed', async () => {
    for (const given of [{ status: 403, body: { message: 'CANARY-body' } }, { body: { value: 7 } }, { body: 'CANARY-body' }]) {
      answer = () => given;
      const error = await rejection(find({ env: onGithub() }));
      expect(error).toMatchObject({ code: 'provider-locked', hint: 'give the job `permissions: { id-token: write }`' });
      expect(inspect(error)).not.toContain('CANARY');
    }
    const env = { ...onGithub(), ACTIONS_ID_TOKEN_REQUEST_URL: 'CANARY' };
    const error = await rejection(find({ env }));
    expect(error).toMatchObject({ code: 'provider-failed' });
    expect(inspect(error)).not.toContain('CANARY');
  });
});

describe('who asks again and again', () => {
  it('reads a file each time, since tokens are replaced', async () => {
    const file = join(folder, 'jwt');
    const source = new WorkloadJwt({ env: {}, who, file });
    writeFileSync(file, 'a.b.c\n');
    expect(await source.find(NEVER)).toMatchObject({ jwt: 'a.b.c' });
    writeFileSync(file, 'd.e.f\n');
    expect(await source.find(NEVER)).toMatchObject({ jwt: 'd.e.f' });
    expect(source.forget({ jwt: 'd.e.f', from: 'x' })).toBe(false);
  });

  it('asks GitHub once, until shortly before the token ends', async () => {
    const source = new WorkloadJwt({ env: onGithub(), who });
    const found = await Promise.all(Array.from({ length: 50 }, () => source.find(NEVER)));
    expect(new Set(found.map((each) => each?.jwt)).size).toBe(1);
    expect(asked).toHaveLength(1);
    const [first] = found;
    if (first === undefined) throw new Error('none');
    expect(source.forget(first)).toBe(true);
    expect((await source.find(NEVER))?.jwt).not.toBe(first.jwt);
    expect(source.forget(first)).toBe(false);
    expect(asked).toHaveLength(2);
  });

  it.each([
    ['ends soon', { exp: inSeconds(50) }],
    ['has no end', {}],
    ['has an end that is none', { exp: 'never' }],
  ])('asks GitHub anew when the token %s', async (_what, claims) => {
    answer = () => ({ body: { value: jwt(claims) } });
    const source = new WorkloadJwt({ env: onGithub(), who });
    await source.find(NEVER);
    await source.find(NEVER);
    expect(asked).toHaveLength(2);
  });

  it('is not stopped by another caller who gives up', async () => {
    const source = new WorkloadJwt({ env: onGithub(), who });
    const impatient = new AbortController();
    const [gone, stays] = [source.find(impatient.signal), source.find(NEVER)];
    impatient.abort();
    await expect(gone).rejects.toThrow();
    expect(await stays).toMatchObject({ from: 'GitHub’s token service' });
  });

  it.each(['CANARY', 'a.b', 'a.b.c\r\nx: CANARY', 'a.b.c.d', 'a b.c.d', '', 'é.b.c'])('takes %j for no JWT', async (text) => {
    const file = join(folder, 'jwt');
    writeFileSync(file, text);
    const error = await rejection(new WorkloadJwt({ env: {}, who, file }).find(NEVER));
    expect(error).toMatchObject({ code: 'provider-locked' });
    expect(inspect(error)).not.toContain('CANARY');
  });
});

describe('what a token says of itself', () => {
  it('is its issuer and its end', () => {
    expect(readClaims(jwt({ iss: 'https://ci.example', exp: 1000 }))).toEqual({ issuer: 'https://ci.example', expiresAt: 1_000_000 });
  });

  it.each(['', 'x', 'a.b.c', `a.${Buffer.from('7').toString('base64url')}.c`, jwt({ iss: 'a\u001b[31mb', exp: '1' }), jwt([])])(
    'is nothing for %j',
    (text) => {
      expect(readClaims(text)).toEqual({});
    },
  );
});
