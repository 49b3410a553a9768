import { chmodSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ServerFailure } from '../../../src/server/failure.ts';
import { checkOwnJwt, serversOwnJwt } from '../../../src/server/identity/own-jwt.ts';
import { ServeLab } from '../serve-lab.ts';

let lab: ServeLab;
let refused: ServerFailure[];

beforeEach(() => {
  lab = new ServeLab();
  refused = [];
});

afterEach(() => lab.end());

const never = new AbortController().signal;

function options(env: Record<string, string> = {}, file?: string, audience?: string) {
  const { context, tell } = lab.options();
  return { context: { ...context, env: { ...context.env, ...env } }, tell, jwt: { file, audience } };
}

function own(...given: Parameters<typeof options>) {
  return serversOwnJwt({ ...options(...given), refused: (failure) => refused.push(failure) });
}

describe('the token of the server itself', () => {
  it('is in the file, which is read each time', async () => {
    const file = lab.path('agent.jwt');
    const find = own({ KEYZERO_JWT: 'x.y.z' }, file);
    for (const sub of ['one', 'two']) {
      const jwt = lab.jwt({ sub });
      writeFileSync(file, `${jwt}\n`);
      expect(await find(never)).toBe(jwt);
    }
  });

  it('is in KEYZERO_JWT, or nowhere', async () => {
    expect(await own({ KEYZERO_JWT: ' x.y.z ' })(never)).toBe('x.y.z');
    expect(await own()(never)).toBeUndefined();
    expect(await own({ KEYZERO_JWT: '' })(never)).toBeUndefined();
    expect([refused, lab.told]).toEqual([[], []]);
  });

  it('is what GitHub gives for the audience', async () => {
    const asked: string[] = [];
    const github = http.createServer((request, response) => {
      asked.push(`${request.url ?? ''} ${request.headers.authorization ?? ''}`);
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ value: 'x.y.z' }));
    });
    await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${String((github.address() as AddressInfo).port)}/t`;
    const find = own({ ACTIONS_ID_TOKEN_REQUEST_URL: address, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'tok' }, undefined, 'kz');
    expect(await find(never)).toBe('x.y.z');
    expect(asked).toEqual(['/t?audience=kz Bearer tok']);
    await new Promise((resolve) => github.close(resolve));
  });

  it.each([
    ['is not there', undefined],
    ['is empty', ''],
    ['holds no JWT', 'CANARY-not-a-jwt\n'],
    ['holds two lines', 'x.y.z\nX-Injected: 1'],
  ])('that %s is told to the operator with its place, and to the caller without', async (_, text) => {
    const file = lab.path('agent.jwt');
    if (text !== undefined) writeFileSync(file, text);
    await expect(own({}, file)(never)).rejects.toMatchObject({
      code: 'jwt-missing',
      message: 'the token that this server was started with is missing or is no JWT',
    });
    expect(refused.map(({ code }) => code)).toEqual(['jwt-missing']);
    expect(lab.texts()).toContain(file);
    expect(lab.texts()).toContain(`(\`kz server token --out ${file}\` makes one, if the issuer is yours)`);
    expect(lab.texts()).not.toContain('CANARY');
  });
});

describe('at the start', () => {
  it('nothing is said when there is one', async () => {
    await checkOwnJwt(options({ KEYZERO_JWT: 'x.y.z' }), never);
    expect(lab.texts()).toBe('');
  });

  it('it is said where it could be', async () => {
    await checkOwnJwt(options(), never);
    expect(lab.texts()).toBe(
      'warning: neither --jwt-file nor KEYZERO_JWT gives a token (JWT): only calls that bring one of their own are answered',
    );
  });

  it('it is said that the flag for GitHub is of no use here', async () => {
    await checkOwnJwt({ ...options(), jwt: { file: undefined, audience: 'kz' } }, never);
    expect(lab.texts()).toMatch(/^warning: --jwt-audience: this is no GitHub Actions job/);
  });

  it('it is said that it cannot be read', async () => {
    const file = lab.path('agent.jwt');
    writeFileSync(file, 'x.y.z');
    chmodSync(file, 0);
    await checkOwnJwt(options({}, process.getuid?.() === 0 ? lab.path('none') : file), never);
    expect(lab.texts()).toMatch(/^warning: no token for callers: /);
  });
});
