// The client of a kz server, against a small one that answers as the reference says.
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { PROVIDERS } from '../../src/providers/table.ts';
import { Authority } from '../../src/proxy/authority.ts';
import { CANARY, inSeconds, JWT, jwt, KeyzeroLab, show } from './keyzero-lab.ts';
import { NEVER } from './vault-bench.ts';

const lab = KeyzeroLab.forThisFile();
const { open, get, listen, failureOf } = lab;

describe('values', () => {
  it('come in one request, in the order of the refs, each ref once', async () => {
    lab.values.set('github/pat', CANARY).set('db/prod#password', '').set('db/prod#user', 'ü\n"');
    const outcomes = await get(open(), ['db/prod#user', 'github/pat', 'none', 'github/pat', 'db/prod#password']);
    expect(show(outcomes)).toEqual(['ü\n"', CANARY, 'provider-denied', CANARY, '']);
    expect(lab.asked).toEqual([
      { path: 'POST /v1/resolve', authorization: `Bearer ${JWT}`, refs: ['db/prod#user', 'github/pat', 'none', 'db/prod#password'] },
    ]);
  });

  it('are lab.asked for a hundred at a time', async () => {
    const refs = Array.from({ length: 250 }, (_, index) => `s/${String(index)}`);
    for (const ref of refs) lab.values.set(ref, `${CANARY}-${ref}`);
    expect(show(await get(open(), refs))).toEqual(refs.map((ref) => `${CANARY}-${ref}`));
    expect(lab.asked.map((each) => each.refs.length).sort()).toEqual([100, 100, 50]);
  });

  it('are those of refs that have the names of what every object has', async () => {
    lab.values.set('__proto__', 'one').set('constructor', 'two');
    expect(show(await get(open(), ['__proto__', 'constructor', 'toString']))).toEqual(['one', 'two', 'provider-denied']);
    lab.answer = () => ({ body: { results: {} } });
    expect(show(await get(open(), ['__proto__', 'constructor', 'hasOwnProperty']))).toEqual(Array(3).fill('provider-failed'));
  });

  it('may hold NUL, which an environment refuses later, and no half of a character', async () => {
    lab.values.set('nul', 'a\0b').set('half', 'a\ud800b');
    expect(show(await get(open(), ['nul', 'half']))).toEqual(['a\0b', 'secret-invalid']);
  });
});

describe('a ref', () => {
  it.each(['', '/a', 'a/', 'a//b', 'a/../b', '.', 'a%2e', 'a\\b', 'a\0b', 'a b', 'é', 'a#', 'x'.repeat(513)])(
    '%j is none, and is not sent',
    async (text) => {
      lab.values.set('good', CANARY);
      expect(show(await get(open(), [text, 'good']))).toEqual(['ref-invalid', CANARY]);
      expect(lab.asked.map(({ refs }) => refs)).toEqual([['good']]);
      await expect(PROVIDERS.keyzero.checkRef?.(text)).rejects.toMatchObject({ code: 'ref-invalid' });
    },
  );

  it('that is none says why, and asks nobody', async () => {
    const error = await failureOf(open(), 'a/../b');
    expect([error.message, error.hint]).toEqual([
      'keyzero ref "a/../b" has a `.` or `..` segment',
      'write it as the server’s bundle does: `github/pat`',
    ]);
    expect(lab.asked).toEqual([]);
    await PROVIDERS.keyzero.checkRef?.(PROVIDERS.keyzero.example);
  });
});

describe('the address', () => {
  it('is that of the config, else KEYZERO_URL, with a path in front where there is one', async () => {
    lab.values.set('a/b', 'x');
    expect(show(await get(open({ url: undefined }, { KEYZERO_URL: `${lab.url}/team/kz`, KEYZERO_JWT: JWT }), ['a/b']))).toEqual(['x']);
    expect(show(await get(open({}, { KEYZERO_URL: 'https://127.0.0.1:1', KEYZERO_JWT: JWT }), ['a/b']))).toEqual(['x']);
    expect(lab.asked.map(({ path }) => path)).toEqual(['POST /team/kz/v1/resolve', 'POST /v1/resolve']);
    const error = await failureOf(open({ url: undefined }, { KEYZERO_URL: '', KEYZERO_JWT: JWT }));
    expect(error).toMatchObject({ code: 'provider-unavailable', hint: 'set `url` in [providers.keyzero], or KEYZERO_URL' });
  });

  it.each(['http://kz.internal', 'http://10.0.0.1:8080', 'http://localhost.evil.example', 'http://127.0.0.1.nip.io', 'http://0.0.0.0:1'])(
    '%s would send the JWT in the clear',
    async (address) => {
      const error = await failureOf(open({ url: address }));
      expect(error).toMatchObject({ code: 'config-invalid', message: `kz server at ${address} would be sent a JWT in the clear` });
      await expect(open({ url: address }).check?.(NEVER)).rejects.toMatchObject({ code: 'config-invalid' });
    },
  );

  it.each(['http://localhost:1', 'http://kz.localhost:1', 'http://[::1]:1', 'http://127.8.9.1:1'])(
    '%s is this machine',
    async (address) => {
      expect(await failureOf(open({ url: address }))).toMatchObject({ code: 'provider-unavailable' });
    },
  );

  it('is no other URL, and its password is not repeated', async () => {
    expect(await failureOf(open({ url: undefined }, { KEYZERO_URL: `unix:///${CANARY}` }))).toMatchObject({ code: 'config-invalid' });
    const port = new URL(lab.url).port;
    lab.answer = () => ({ status: 500 });
    const error = await failureOf(open({ url: `http://user:${CANARY}@127.0.0.1:${port}/?x=${CANARY}` }));
    expect(error.message).toBe(`kz server at http://127.0.0.1:${port} answered 500`);
    expect(lab.asked[0]?.path).toBe('POST /v1/resolve');
  });

  it('has a certificate that is checked, by the authorities that are named', async () => {
    const authority = Authority.create();
    const server = createHttpsServer(
      {
        SNICallback: (name, done) => {
          done(null, authority.contextFor(name));
        },
      },
      lab.serve,
    );
    const address = await listen(server, 'https://localhost');
    const ca = join(lab.folder, 'ca.pem');
    writeFileSync(ca, authority.certificate);
    lab.values.set('a/b', CANARY);
    expect(show(await get(open({ url: address, ca }), ['a/b']))).toEqual([CANARY]);
    expect((await open({ url: address, ca }).check?.(NEVER))?.detail).toMatch(/^token of /);
    expect(await failureOf(open({ url: address }))).toMatchObject({
      code: 'provider-unavailable',
      hint: expect.stringMatching(/^set `ca` in \[providers\.keyzero\]/) as string,
    });
    writeFileSync(ca, CANARY);
    expect(await failureOf(open({ url: address, ca }))).toMatchObject({
      code: 'provider-unavailable',
      hint: 'correct `ca` in [providers.keyzero]',
    });
  });
});

describe('the JWT', () => {
  it('is read again from its file each time', async () => {
    lab.values.set('a/b', 'x');
    const file = join(lab.folder, 'jwt');
    writeFileSync(file, `${JWT}\n`);
    const provider = open({ jwt_file: file }, {});
    await get(provider, ['a/b']);
    writeFileSync(file, 'd.e.f');
    await get(provider, ['a/b']);
    expect(lab.asked.map(({ authorization }) => authorization)).toEqual([`Bearer ${JWT}`, 'Bearer d.e.f']);
  });

  it('that GitHub gave and the server refuses is replaced once', async () => {
    let made = 0;
    const github = await listen(
      createServer((request, response) => {
        made++;
        expect(request.url).toBe('/?audience=kz');
        response.end(JSON.stringify({ value: jwt({ exp: inSeconds(600), jti: made }) }));
      }),
    );
    const env = { ACTIONS_ID_TOKEN_REQUEST_URL: github, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'request' };
    const provider = open({ audience: 'kz' }, env);
    lab.values.set('a/b', 'x');
    lab.answer = () =>
      lab.asked.length === 1 ? { status: 401, body: { error: 'jwt-expired' } } : { body: { results: { 'a/b': lab.result('a/b')[1] } } };
    expect(show(await get(provider, ['a/b']))).toEqual(['x']);
    await get(provider, ['a/b']);
    expect([made, lab.asked.length]).toEqual([2, 3]);
  });

  it.each([
    ['lives', { exp: inSeconds(600) }, 2],
    ['ends at once', {}, 1],
  ])('that %s and that the server goes on refusing is lab.asked for no third time', async (_what, claims, times) => {
    let made = 0;
    const github = await listen(
      createServer((_request, response) => {
        made++;
        response.end(JSON.stringify({ value: jwt(claims) }));
      }),
    );
    lab.answer = () => ({ status: 401 });
    const env = { ACTIONS_ID_TOKEN_REQUEST_URL: github, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'request' };
    expect(await failureOf(open({}, env))).toMatchObject({ code: 'provider-locked' });
    expect([made, lab.asked.length]).toEqual([times, times]);
  });

  it('is needed', async () => {
    expect(await failureOf(open({}, {}))).toMatchObject({
      code: 'provider-locked',
      message: `kz has no JWT for kz server at ${lab.url}: KEYZERO_JWT is not set, and nothing else is named`,
      hint: 'set `jwt_file` or `jwt_env` in [providers.keyzero], or KEYZERO_JWT',
    });
    expect(await failureOf(open({ audience: 'kz' }, {}))).toMatchObject({
      message: `kz has no JWT for kz server at ${lab.url}: KEYZERO_JWT is not set, and \`audience\` is for jobs of GitHub Actions`,
    });
    expect(await failureOf(open({}, { GITHUB_ACTIONS: 'true' }))).toMatchObject({
      hint: 'give the job `permissions: { id-token: write }`',
    });
    expect(await failureOf(open({ jwt_env: 'MY_JWT' }))).toMatchObject({ code: 'provider-locked' });
    expect(await failureOf(open({ jwt_file: join(lab.folder, 'none') }))).toMatchObject({ code: 'provider-locked' });
    expect(await failureOf(open({}, { KEYZERO_JWT: `a.b.c\r\nx-evil: ${CANARY}` }))).toMatchObject({
      code: 'provider-locked',
      message: `what KEYZERO_JWT holds is no JWT for kz server at ${lab.url}`,
    });
    expect(lab.asked).toEqual([]);
  });

  it.each([
    [{ error: { code: 'jwt-expired', message: CANARY } }, 'jwt-expired', 'get a new one: it lives for minutes only'],
    [{ code: 'issuer-unknown' }, 'issuer-unknown', 'the server’s bundle needs an issuer with `issuer_url: https://ci.example`'],
    [{ error: 'jwt-invalid' }, 'jwt-invalid', 'its issuer and its audience have to be those of an issuer in the server’s bundle'],
    [{ error: CANARY }, '401', 'its issuer and its audience have to be those of an issuer in the server’s bundle'],
    [CANARY, '401', 'its issuer and its audience have to be those of an issuer in the server’s bundle'],
  ])('that is refused with %j says why', async (body, code, hint) => {
    lab.answer = () => ({ status: 401, body });
    const error = await failureOf(open());
    expect([error.code, error.message, error.hint]).toEqual([
      'provider-locked',
      `kz server at ${lab.url} does not accept the token from KEYZERO_JWT (${code})`,
      hint,
    ]);
  });
});

describe('its health', () => {
  const check = async (provider = open()): Promise<string | undefined> => (await provider.check?.(NEVER))?.detail;

  it('is that of the server, and of the token, which is not shown to it', async () => {
    lab.answer = () => ({ body: { status: 'ok' } });
    expect(await check()).toMatch(/^token of https:\/\/ci\.example, 9 minutes left$/);
    expect(await check(open({}, { KEYZERO_JWT: 'a.b.c' }))).toBe('token from KEYZERO_JWT, which has no end');
    expect(lab.asked.map(({ path, authorization }) => [path, authorization])).toEqual([
      ['GET /readyz', undefined],
      ['GET /readyz', undefined],
    ]);
  });

  it('is lab.asked of /healthz where there is no /readyz', async () => {
    lab.answer = ({ path }) => ({ status: path.includes('readyz') ? 404 : 200 });
    expect(await check()).toMatch(/^token of /);
    lab.answer = () => ({ status: 404 });
    await expect(check()).rejects.toMatchObject({ code: 'provider-failed' });
  });

  it('is bad when the server is not ready, or the token has ended or is not there', async () => {
    lab.answer = () => ({ status: 503, body: CANARY });
    await expect(check()).rejects.toMatchObject({ code: 'provider-unavailable', message: `kz server at ${lab.url} is not ready (503)` });
    lab.answer = undefined;
    const ended = open({}, { KEYZERO_JWT: jwt({ exp: inSeconds(-3700) }) });
    await expect(check(ended)).rejects.toMatchObject({
      code: 'provider-locked',
      message: `the token for kz server at ${lab.url} from KEYZERO_JWT ended 61 minutes ago`,
    });
    await expect(check(open({}, {}))).rejects.toMatchObject({ code: 'provider-locked' });
  });
});

it('reads paths of its options from the folder of the file that names them', async () => {
  writeFileSync(join(lab.folder, '.keyzero.toml'), '[secrets]\n[providers.keyzero]\nca = "ca.pem"\njwt_file = "run/jwt"\n');
  const { providers } = await loadConfig({ env: { HOME: lab.folder }, cwd: lab.folder });
  expect(providers.keyzero).toEqual({ ca: join(lab.folder, 'ca.pem'), jwt_file: join(lab.folder, 'run/jwt') });
});
