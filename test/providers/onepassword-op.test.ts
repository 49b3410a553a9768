// How kz runs `op`, and what it writes with it; what it reads is in onepassword.test.ts.
import { readFileSync } from 'node:fs';
import { chmod, symlink } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import type { Provider } from '../../src/providers/provider.ts';
import {
  calls,
  CANARY,
  errorOf,
  get,
  home,
  many,
  manyRefs,
  NEVER,
  open,
  show,
  state,
  thrown,
  useOp,
  type State,
} from '../fixtures/op-home.ts';

useOp();

describe('op', () => {
  it.each([
    [
      'You are not currently signed in. Please run `op signin --help` for instructions',
      'provider-locked',
      'op is not signed in to 1Password',
    ],
    ['account is not signed in', 'provider-locked', 'op is not signed in to 1Password'],
    ['session expired, sign in to create a new session', 'provider-locked', 'op is not signed in to 1Password'],
    [
      'error initializing client: authorization prompt dismissed, please try again',
      'provider-locked',
      '1Password was not unlocked: its prompt was dismissed',
    ],
    [
      'error initializing client: connecting to desktop app: read: connection reset, make sure 1Password is running',
      'provider-locked',
      'op cannot reach the 1Password app',
    ],
    ['multiple accounts found. Use the `--account` flag', 'provider-failed', 'op does not know which 1Password account is meant'],
    ['(429) Too Many Requests: rate limit exceeded', 'provider-failed', '1Password takes no more requests for now (429)'],
    [
      'Get "https://x.1password.com/": dial tcp: lookup x: no such host',
      'provider-unavailable',
      'op cannot reach 1Password over the network',
    ],
    ['zarquon', 'provider-failed', 'op cannot list the vaults of 1Password'],
  ])('says %j', async (fails, code, message) => {
    const error = await thrown(get(open(state({ fails, leaks: CANARY })), manyRefs(20)));
    expect([error.code, error.message]).toEqual([code, message]);
    expect(error.hint).toBeDefined();
    expect(calls().length).toBeLessThanOrEqual(2);
  });

  it('names the way in for MCP clients', async () => {
    const error = await thrown(get(open(state({ fails: 'account is not signed in' })), manyRefs(1)));
    expect(error.hint).toBe('run `op signin`, or set OP_SERVICE_ACCOUNT_TOKEN (under an MCP client: in the `env` of its configuration)');
  });

  it('is not fooled by the names of things', async () => {
    const [outcome] = await get(open(many(0)), ['op://Dev Team/account is not signed in/password']);
    expect(errorOf(outcome).code).toBe('secret-missing');
  });

  it('is not installed', async () => {
    const error = await thrown(get(open(state(), { env: { PATH: '/usr/bin:/bin' } }), manyRefs(1)));
    expect([error.code, error.message]).toEqual(['provider-unavailable', 'the 1Password program "op" was not found in PATH']);
    expect(error.hint).toBe('install 1password-cli, or start kz with a PATH that has op');
  });

  it('gets what it needs of the environment and of the options, and no value in its arguments', async () => {
    const env = { HOME: home(), AWS_SECRET_ACCESS_KEY: CANARY, KEYZERO_PASSPHRASE: CANARY, XDG_RUNTIME_DIR: home(), NODE_OPTIONS: '' };
    await get(open(state({ account: 'work' }), { account: 'work', env }), ['op://Dev Team/Git Hub/password']);
    expect(calls()[0]?.args).toEqual(['inject', '--account=work', '--no-color']);
    // The shell that starts the stand-in adds the last ones.
    const given = calls()[0]?.env.filter((name) => !['PWD', 'SHLVL', '_', 'OLDPWD'].includes(name));
    expect(given).toEqual(['HOME', 'OP_FAKE_STATE', 'PATH', 'XDG_RUNTIME_DIR']);
  });

  it('is asked again without an old session, and then stays without', async () => {
    const provider = open(state({ staleSession: true }), { env: { OP_SESSION_my: CANARY } });
    expect(show(await get(provider, ['op://Dev Team/Git Hub/password']))).toEqual([`${CANARY}-1`]);
    expect(calls().map(({ env }) => env.includes('OP_SESSION_my'))).toEqual([true, false]);
    await get(provider, ['op://Dev Team/Git Hub/password']);
    expect(calls()).toHaveLength(3);
  });

  it('keeps a session that works', async () => {
    await get(open(state(), { env: { OP_SESSION_my: CANARY } }), ['op://Dev Team/Git Hub/password']);
    expect(calls().map(({ env }) => env.includes('OP_SESSION_my'))).toEqual([true]);
  });

  it('runs once at a time, for several providers as well', async () => {
    const providers = [open(state()), open(state()), open(state())];
    const outcomes = await Promise.all(
      providers.flatMap((provider) => [0, 1].map(() => get(provider, ['op://Dev Team/Git Hub/password']))),
    );
    expect(outcomes.flatMap(show)).toEqual(Array.from({ length: 6 }, () => `${CANARY}-1`));
    expect(calls().map(({ overlaps }) => overlaps)).toEqual(Array.from({ length: 6 }, () => false));
  });

  it('needs no folder for the lock', async () => {
    const provider = open(state());
    await symlink('/dev/null/nowhere', home('user'));
    expect(show(await get(provider, ['op://Dev Team/Git Hub/password']))).toEqual([`${CANARY}-1`]);
  });

  it('that hangs is ended', async () => {
    const controller = new AbortController();
    const work = thrown(get(open(state({ hangs: true })), ['op://Dev Team/Git Hub/password'], controller.signal));
    await vi.waitFor(() => {
      expect(calls()).toHaveLength(1);
    });
    controller.abort(new Error('too late'));
    const error = await work;
    expect([error.code, error.message]).toEqual(['provider-timeout', 'op did not answer in time']);
    expect(() => readFileSync(home('state.json.running'))).toThrow('ENOENT');
  });

  it('that is killed gives an error', async () => {
    expect((await thrown(get(open(state({ killed: true })), manyRefs(3)))).code).toBe('provider-failed');
  });

  it('may not be executable', async () => {
    const provider = open(state());
    await chmod(home('bin/op'), 0o600);
    expect((await thrown(get(provider, manyRefs(1)))).code).toBe('provider-unavailable');
  });
});

describe('check', () => {
  it('counts the vaults', async () => {
    expect(await open(state()).check?.(NEVER)).toEqual({ detail: '1 vault' });
    const env = { OP_SERVICE_ACCOUNT_TOKEN: CANARY };
    expect(await open(state(), { account: 'ignored', env }).check?.(NEVER)).toEqual({ detail: '1 vault, service account' });
    expect(calls().map(({ args }) => args.slice(0, 2))).toEqual(Array.from({ length: 2 }, () => ['vault', 'list']));
  });

  it('throws what get would', async () => {
    const provider = open(state({ fails: 'account is not signed in' }));
    expect((await thrown(Promise.resolve(provider.check?.(NEVER)))).code).toBe('provider-locked');
  });
});

describe('put', () => {
  function put(provider: Provider, text: string, value = `${CANARY}-new`): Promise<void> {
    if (provider.put === undefined) throw new Error('no put');
    return provider.put({ text, directory: '/nowhere' }, new Secret(value), NEVER);
  }

  function stored(): State {
    return JSON.parse(readFileSync(home('state.json'), 'utf8')) as State;
  }

  it('changes one field and leaves the rest of the item alone', async () => {
    const provider = open(state());
    await put(provider, 'op://Dev Team/git hub/Admin/API key');
    const expected = state();
    const field = expected.vaults[0]?.items[0]?.fields[1];
    if (field !== undefined) field.value = `${CANARY}-new`;
    expect(stored()).toEqual(expected);
    expect(show(await get(provider, ['op://Dev Team/Git Hub/Admin/api key']))).toEqual([`${CANARY}-new`]);
    expect(calls()[1]?.args).toEqual(['item', 'edit', 'item1id', '--vault=Dev Team', '--format=json', '--no-color']);
    expect(
      calls()
        .flatMap(({ args }) => args)
        .join(' '),
    ).not.toContain(CANARY);
  });

  it('adds a field, a section, an item', async () => {
    const provider = open(state());
    for (const ref of ['op://Dev Team/Git Hub/token', 'op://Dev Team/Git Hub/New One/token', 'op://Dev Team/New/token']) {
      await put(provider, ref, `${CANARY} ${ref}\n"`);
      expect(show(await get(provider, [ref]))).toEqual([`${CANARY} ${ref}\n"`]);
    }
    const [first, second] = stored().vaults[0]?.items ?? [];
    expect(first).toMatchObject({ tags: ['kept'], sections: [{ id: 'new_one', label: 'New One' }] });
    expect(first?.fields).toHaveLength(8);
    expect(second).toMatchObject({ title: 'New', category: 'API_CREDENTIAL', fields: [{ type: 'CONCEALED', label: 'token' }] });
    expect(
      calls()
        .flatMap(({ args }) => args)
        .join(' '),
    ).not.toContain(CANARY);
  });

  it.each([
    ['op://Dev Team/Git Hub', 'names no field'],
    ['op://Dev Team/Git Hub/x?attribute=otp', '?attribute=otp is for reading'],
    ['op://Dev Team/Git Hub/one-time password', 'the field is of a kind that kz does not write'],
  ])('refuses %j', async (text, problem) => {
    const error = await thrown((async () => put(open(state()), text))());
    expect([error.code, error.message.endsWith(problem)]).toEqual(['ref-invalid', true]);
    expect(stored()).toEqual(state());
  });

  it.each([
    [{ readOnly: true }, 'op://Dev Team/Git Hub/password', 'provider-denied'],
    [{ readOnly: true }, 'op://Dev Team/New/password', 'provider-denied'],
    [{}, 'op://Nope/New/password', 'ref-invalid'],
    [{ fails: 'account is not signed in' }, 'op://Dev Team/New/password', 'provider-locked'],
  ])('fails with %j for %s', async (more, text, code) => {
    expect((await thrown(put(open(state(more)), text))).code).toBe(code);
  });

  it('says where the value will go', () => {
    const provider = open(state());
    const text = (ref: string): string | undefined => provider.destination?.({ text: ref, directory: '/' });
    expect(text('op://Dev/Git Hub/token')).toBe('1Password (field "token" in item "Git Hub", vault "Dev")');
    expect(text('op://Dev/Git Hub/Admin/token')).toBe('1Password (field "token" in section "Admin" of item "Git Hub", vault "Dev")');
  });
});
