// The vault provider on the in-process fake: what it does on every server, and what a real one cannot be made to do in a test.
import { writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { beforeEach, describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import type { Outcome, Provider } from '../../src/providers/provider.ts';
import { Authority } from '../../src/proxy/authority.ts';
import { FakeVault } from '../fixtures/vault-fake.ts';
import { NEVER } from './vault-bench.ts';
import { canary, expectError, rejection, revealed, vaultContract } from './vault-contract.ts';
import { matching, VaultLab } from './vault-lab.ts';

describe('as on every server', () => {
  vaultContract(() => FakeVault.start(), { database: true, jwt: true, kubernetes: true, aws: true, namespaces: true });
});

const lab = VaultLab.forThisFile();
const { open, get, one, ref, appRole } = lab;

describe('where it is', () => {
  it('asks nothing and cannot fail before the first ref', () => {
    open({ address: 'https://127.0.0.1:1' }, {});
    open({}, {});
    expect(lab.fake.asked).toEqual([]);
  });

  it('says the config, else VAULT_ADDR, else BAO_ADDR; nothing is not an address', async () => {
    const token = { VAULT_TOKEN: lab.fake.token };
    for (const env of [
      { VAULT_ADDR: lab.fake.address },
      { BAO_ADDR: `${lab.fake.address}/` },
      { VAULT_ADDR: '', BAO_ADDR: lab.fake.address },
    ]) {
      expect(await one(open({}, { ...token, ...env }))).toMatchObject({ ok: true });
    }
    expect(await one(open({ address: lab.fake.address }, { ...token, VAULT_ADDR: 'http://127.0.0.1:1' }))).toMatchObject({ ok: true });
    expect(await rejection(get(open({}, token), ['kv/app#x']))).toMatchObject({
      code: 'provider-unavailable',
      hint: matching(/VAULT_ADDR/),
    });
    const unusable = await rejection(get(open({}, { ...token, VAULT_ADDR: 'unix:///run/CANARY' }), ['kv/app#x']));
    expect(unusable).toMatchObject({ code: 'provider-unavailable', message: 'the address of vault is no http or https URL' });
  });

  it('is said in errors, without the password that an address may hold', async () => {
    const address = lab.fake.address.replace('http://', 'http://user:CANARY@');
    expectError(await one(open({ address }), 'kv/none#x'), 'secret-missing', new RegExp(`vault at ${lab.fake.address}$`));
  });

  it('is unavailable where nothing listens, and where there is no such host', async () => {
    const closed = await FakeVault.start();
    const { address } = closed;
    await closed.close();
    expect(await rejection(get(open({ address }), ['kv/app#x']))).toMatchObject({
      code: 'provider-unavailable',
      message: `cannot reach vault at ${address}: nothing listens there (ECONNREFUSED)`,
    });
    // Too long to be asked about, so nobody is.
    const unknownHost = `http://${'a'.repeat(64)}.invalid:8200`;
    const unknown = await rejection(get(open({ address: unknownHost }), ['kv/app#x']));
    expect(unknown).toMatchObject({
      code: 'provider-unavailable',
      message: matching(/^cannot reach vault at http:\/\/a+\.invalid:8200: no such host/),
    });
  });

  it('has a certificate of an authority that is named', async () => {
    const authority = Authority.create();
    const server = createServer(
      {
        SNICallback: (name, done) => {
          done(null, authority.contextFor(name));
        },
      },
      (_request, response) => {
        response.end(JSON.stringify({ data: { path: 'old/', type: 'kv', options: null, x: 'y' } }));
      },
    );
    const address = await listen(server, 'https://localhost');
    const ca = join(lab.folder, 'ca.pem');
    writeFileSync(ca, authority.certificate);
    const env = { VAULT_TOKEN: 'token' };
    expect(await one(open({ address, ca }, env), 'old/app#x')).toMatchObject({ ok: true });
    expect(await one(open({ address }, { ...env, BAO_CACERT: ca }), 'old/app#x')).toMatchObject({ ok: true });
    const untrusted = await rejection(get(open({ address }, { ...env, VAULT_SKIP_VERIFY: 'true' }), ['old/app#x']));
    expect(untrusted).toMatchObject({
      code: 'provider-unavailable',
      message: matching(/TLS certificate/),
      hint: matching(/^set `ca` in \[providers\.vault\]/),
    });
    writeFileSync(join(lab.folder, 'none.pem'), 'CANARY');
    for (const name of ['none.pem', 'absent.pem']) {
      const error = await rejection(get(open({ address, ca: join(lab.folder, name) }, env), ['old/app#x']));
      expect(error).toMatchObject({ code: 'provider-unavailable', hint: matching(/`ca`/) });
      expect(inspect(error)).not.toContain('CANARY');
    }
    server.close();
  });
});

describe('refs', () => {
  it.each([
    ['', /empty/],
    ['kv', /no path in it/],
    ['/', /empty/],
    ['kv/', /empty/],
    ['kv//app#x', /empty/],
    ['kv/../auth/token/lookup-self#id', /`\.\.`/],
    ['kv/./app#x', /`\.`/],
    ['kv/app#', /no field/],
    ['kv/app?v=1#x', /behind the \?/],
    ['kv/app?version=0#x', /behind the \?/],
    ['kv/a\npp#x', /control/],
    ['auth/token/lookup-self#id', /own paths/],
    ['/sys/raw/x#y', /own paths/],
  ])('%j is none', async (ref, problem) => {
    const [bad, good] = await get(open(), [ref, 'kv/app#x']);
    expectError(bad, 'ref-invalid', problem);
    expect(good).toMatchObject({ ok: true });
  });

  it('cannot leave their path by percent signs', async () => {
    await get(open(), ['kv/%2e%2e/%2e%2e/sys/x#y']);
    expect(lab.fake.paths).toContain('GET kv/data/%252e%252e/%252e%252e/sys/x');
  });
});

describe('round trips', () => {
  it('are one for the mount, one for each path, and one for the token, with its header', async () => {
    await lab.fake.request('POST', 'sys/mounts/kv-two', { type: 'kv' });
    await lab.fake.request('POST', 'kv-two/app', { a: '1', b: '2' });
    const refs = ['kv/app#x', 'kv/data/app#x', '/kv/app', 'kv/none#x', 'kv/none#y', 'kv-two/app#a', 'kv-two/app#b'];
    const vault = open();
    await get(vault, refs);
    const asked = ['auth/token/lookup-self', 'kv-two/app', 'kv/data/app', 'kv/data/none'];
    expect(lab.fake.paths.filter((path) => !path.includes('/ui/mounts/')).sort()).toEqual(asked.map((path) => `GET ${path}`));
    expect(lab.fake.paths.filter((path) => path.includes('/ui/mounts/'))).toHaveLength(2);
    for (const { headers } of lab.fake.asked) expect(headers).toMatchObject({ 'x-vault-token': lab.fake.token, 'x-vault-request': 'true' });
    lab.fake.asked.length = 0;
    await get(vault, refs);
    expect(lab.fake.paths.sort()).toEqual(asked.slice(1).map((path) => `GET ${path}`));
  });

  it('are at least eight at once for many paths', async () => {
    let [open_, most] = [0, 0];
    const waiting: (() => void)[] = [];
    const slow = createHttpServer((request, response) => {
      most = Math.max(most, ++open_);
      const isMount = request.url?.includes('/ui/mounts/') === true;
      const answer = (): void => {
        open_--;
        response.end(JSON.stringify({ data: isMount ? { path: 'old/', type: 'kv' } : { x: 'y' } }));
      };
      waiting.push(answer);
      // Nobody is answered before eight ask, once the mount is known.
      if (isMount || request.url?.includes('lookup-self') === true) waiting.pop()?.();
      else if (waiting.length >= 8) for (const each of waiting.splice(0)) each();
    });
    const address = await listen(slow, 'http://127.0.0.1');
    const outcomes = await get(
      open({ address }),
      Array.from({ length: 64 }, (_, index) => `old/${String(index)}#x`),
    );
    expect(outcomes.every(({ ok }) => ok)).toBe(true);
    expect(most).toBeGreaterThanOrEqual(8);
    slow.close();
  });

  it('are few when a policy denies many paths', async () => {
    await lab.fake.request('PUT', 'sys/policies/acl/little', { policy: 'path "kv/data/one" { capabilities = ["read"] }' });
    const token = await lab.userToken({ policies: ['little'] });
    const refs = Array.from({ length: 100 }, (_, index) => `kv/${String(index)}#x`);
    const outcomes = await get(open({ address: lab.fake.address }, { VAULT_TOKEN: token }), refs);
    for (const outcome of outcomes) expectError(outcome, 'provider-denied');
    expect(lab.fake.paths.filter((path) => path === 'GET auth/token/lookup-self').length).toBeLessThanOrEqual(2);
  });
});

describe('a server that does not say what is mounted', () => {
  beforeEach(async () => {
    lab.fake.intercept = ({ path }) =>
      path.startsWith('sys/internal/') ? { status: 403, body: { errors: ['preflight capability check returned 403'] } } : undefined;
    await lab.fake.request('POST', 'old/app', { x: '1' });
  });

  it('is read as either version', async () => {
    const outcomes = await get(open(), ['kv/data/app#x', 'old/app#x', 'kv/app#x', 'kv/data/app?version=1#x']);
    expect(outcomes.map(revealed)).toEqual(['y', '1', 'y', 'y']);
    expect(outcomes.map((outcome) => outcome.ok && outcome.version)).toEqual(['1', undefined, '1', '1']);
    expectError(await one(open(), 'old/app?version=1#x'), 'ref-invalid', /no versions/);
  });

  it('is not written to', async () => {
    const put = open().put?.(ref('kv/app#x'), new Secret(canary()), NEVER);
    expect(await rejection(put)).toMatchObject({ code: 'provider-denied' });
  });
});

describe('a server in trouble', () => {
  it('is locked when it is sealed, or not initialized', async () => {
    lab.fake.sealed = true;
    const who = `vault at ${lab.fake.address}`;
    const sealed = { code: 'provider-locked', message: `${who} is sealed`, hint: 'run `vault operator unseal`' };
    expect(await rejection(get(open(), ['kv/app#x']))).toMatchObject(sealed);
    expect(await rejection(open().check?.(NEVER))).toMatchObject(sealed);
    expect(await rejection(get(anyAppRole(), ['kv/app#x']))).toMatchObject(sealed);
    lab.fake.initialized = false;
    expect(await rejection(open().check?.(NEVER))).toMatchObject({ code: 'provider-locked', message: `${who} is not initialized` });
  });

  function anyAppRole(): Provider {
    return open({ address: lab.fake.address, auth: 'approle', role_id: 'role' }, {});
  }

  it('is healthy on standby, and asked once', async () => {
    for (const status of [429, 472, 473]) {
      lab.fake.asked.length = 0;
      lab.fake.intercept = ({ path }) => (path.startsWith('sys/health') ? { status, headers: { 'retry-after': '60' } } : undefined);
      expect(await open().check?.(NEVER)).toEqual({ detail: 'token of root, which has no end' });
      expect(lab.fake.paths).toHaveLength(2);
    }
  });

  it('is asked again when it is busy, until the time is over', async () => {
    let left = 3;
    lab.fake.intercept = () => (left-- > 0 ? { status: 429, headers: { 'retry-after': '0' } } : undefined);
    expect(await one(open())).toMatchObject({ ok: true });
    lab.fake.intercept = () => ({ status: 429, headers: { 'retry-after': '60' } });
    const error = await rejection(get(open(), ['kv/app#x'], AbortSignal.timeout(300)));
    expect(error).toMatchObject({ code: 'provider-timeout', message: matching(/keeps answering 429/) });
  });

  it('does not hold kz up for ever', async () => {
    lab.fake.intercept = () => 'hang';
    await expect(get(open(), ['kv/app#x'], AbortSignal.timeout(50))).rejects.toThrow();
    await expect(get(await appRole(), ['kv/app#x'], AbortSignal.timeout(50))).rejects.toThrow();
  });

  it('fails for one path without telling what it says', async () => {
    lab.fake.intercept = ({ path }) =>
      path === 'kv/data/bad' ? { status: 500, body: { errors: [`internal error ${canary()}`] } } : undefined;
    const [bad, good] = await get(open(), ['kv/bad#x', 'kv/app#x']);
    expectError(bad, 'provider-failed', /answered 500 for "kv\/bad"/, /vault read kv\/data\/bad/);
    expect(good).toMatchObject({ ok: true });
    lab.fake.intercept = () => ({ status: 503, body: { errors: [] } });
    expect(await rejection(get(open(), ['kv/app#x']))).toMatchObject({ code: 'provider-unavailable' });
  });

  it('is followed to the active one, once, and not to where a token would travel in the clear', async () => {
    const standby = await FakeVault.start();
    const redirect = (to: string): void => {
      standby.intercept = ({ path }) => ({ status: 307, headers: { location: `${to}/v1/${path}` } });
    };
    const ask = (): Promise<readonly Outcome[]> => get(open({ address: standby.address }), ['kv/app#x']);
    redirect(lab.fake.address);
    expect((await ask()).map(revealed)).toEqual(['y']);
    redirect(standby.address);
    expectError((await ask())[0], 'provider-failed', /in a circle/);
    const before = lab.fake.asked.length;
    redirect(lab.fake.address.replace('127.0.0.1', 'localhost'));
    expectError((await ask())[0], 'provider-failed', /redirects to http:\/\/localhost/, /active server/);
    expect(lab.fake.asked).toHaveLength(before);
    await standby.close();
  });
});

describe('namespaces', () => {
  it('come from the options or the environment, and are in every question', async () => {
    const options = { address: lab.fake.address };
    await one(open({ ...options, namespace: '/team/a/' }, { VAULT_TOKEN: lab.fake.token, VAULT_NAMESPACE: 'other' }));
    await one(open(options, { VAULT_TOKEN: lab.fake.token, BAO_NAMESPACE: 'team/b' }));
    expect([...new Set(lab.fake.asked.map(({ headers }) => headers['x-vault-namespace']))]).toEqual(['team/a', 'team/b']);
    const broken = open(options, { VAULT_TOKEN: lab.fake.token, VAULT_NAMESPACE: 'a\r\nx-evil: 1' });
    expect(await rejection(get(broken, ['kv/app#x']))).toMatchObject({ code: 'config-invalid' });
  });

  it('that are not the token’s are mentioned', async () => {
    await lab.fake.request('POST', 'sys/namespaces/team', {});
    const vault = open({ address: lab.fake.address, namespace: 'team' }, { VAULT_TOKEN: 'hvs.other' });
    expect(await rejection(get(vault, ['kv/app#x']))).toMatchObject({ code: 'provider-locked', hint: matching(/namespace "team"/) });
  });
});

describe('answers that are no good', () => {
  it('are told: numbers that would lose digits, too many levels, no JSON', async () => {
    await lab.fake.request('POST', 'old/big', { id: 2 ** 60, deep: 'x' });
    await lab.fake.request('POST', 'old/deep', { x: JSON.parse(`${'['.repeat(200)}1${']'.repeat(200)}`) as unknown });
    const [id, other, whole, deep] = await get(open(), ['old/big#id', 'old/big#deep', 'old/big', 'old/deep#x']);
    expectError(id, 'secret-invalid', /more digits/);
    expect(other).toMatchObject({ ok: true });
    expectError(whole, 'secret-invalid', /more digits/);
    expectError(deep, 'secret-invalid', /too deeply/);
    const put = open().put?.(ref('old/big#new'), new Secret('x'), NEVER);
    expect(await rejection(put)).toMatchObject({ code: 'secret-invalid' });
    lab.fake.intercept = ({ path }) => (path === 'old/text' ? { status: 200 } : undefined);
    expectError(await one(open(), 'old/text#x'), 'secret-missing');
  });

  it('are not believed for names that every object has', async () => {
    expectError(await one(open(), 'kv/app#constructor'), 'secret-missing');
    const vault = open();
    await vault.put?.(ref('kv/app#__proto__'), new Secret('p'), NEVER);
    expect((await get(vault, ['kv/app#__proto__', 'kv/app#x'])).map(revealed)).toEqual(['p', 'y']);
  });
});

async function listen(server: Server | ReturnType<typeof createHttpServer>, origin: string): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, resolve));
  return `${origin}:${String((server.address() as AddressInfo).port)}`;
}
