import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { ProviderName } from '../../src/config/provider-names.ts';
import { KzError } from '../../src/core/errors.ts';
import { Secret } from '../../src/core/secret.ts';
import type { Lease, Outcome, Provider, Ref } from '../../src/providers/provider.ts';
import { Access } from '../../src/providers/resolve.ts';
import { diagnose, isHealthy, lacksSandbox, lookAround, type Diagnosis, type Surroundings } from '../../src/run/doctor.ts';
import { sandboxTools } from '../../src/sandbox/availability.ts';

let folder = '';
let canary = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-doctor-'));
  canary = `CANARY-${randomBytes(12).toString('hex')}`;
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const MINUTES_MS = 60_000;

function lease(id: string, minutes: number, renewable = true): Lease {
  return { id, expiresAt: Date.now() + minutes * MINUTES_MS, durationMs: 60 * MINUTES_MS, renewable };
}

function provider(answer: (ref: Ref) => Outcome | KzError, more: Partial<Provider> = {}): Provider {
  return {
    get: (refs) =>
      Promise.resolve(
        refs.map((ref) => {
          const outcome = answer(ref);
          return outcome instanceof KzError ? { ok: false, error: outcome } : outcome;
        }),
      ),
    ...more,
  };
}

function given(text = canary, of?: Lease): Outcome {
  return { ok: true, secret: new Secret(text), lease: of };
}

/** The providers of a test in the place of the real ones. */
class Stand extends Access {
  readonly #providers: Partial<Record<ProviderName, Provider>>;
  closed = 0;

  constructor(providers: Partial<Record<ProviderName, Provider>>) {
    super({}, { env: {}, userDirectory: folder });
    this.#providers = providers;
  }

  override open(name: ProviderName): Promise<Provider> {
    const found = this.#providers[name];
    return found === undefined ? super.open(name) : Promise.resolve(found);
  }

  override close(): Promise<void> {
    this.closed++;
    return Promise.resolve();
  }
}

async function examined(
  text: string,
  providers: Partial<Record<ProviderName, Provider>>,
  signal = new AbortController().signal,
): Promise<Diagnosis & Pick<Surroundings, 'sandbox'>> {
  const path = join(folder, '.keyzero.toml');
  writeFileSync(path, text);
  const config = await loadConfig({ explicit: path, env: {}, cwd: folder });
  const access = new Stand(providers);
  const subject = { found: config, opened: { config, access }, problems: [] };
  const diagnosis = await diagnose(subject, { env: {}, program: '/opt/kz', live: false }, signal);
  expect(access.closed).toBe(1);
  expect(JSON.stringify(diagnosis) + inspect(diagnosis, { depth: 8 })).not.toContain(canary);
  return { ...diagnosis, sandbox: { level: 'none', isCertain: true, backend: undefined } };
}

const ONE = '[secrets]\nA = { provider = "vault", ref = "kv/a#b" }\n';

describe('a provider', () => {
  it('that can be asked says how it is', async () => {
    const vault = provider(() => given(), { check: () => Promise.resolve({ detail: 'token of approle ci, 59 minutes left' }) });
    const { providers } = await examined(ONE, { vault });
    expect(providers).toMatchObject([{ name: 'vault', state: 'ok', detail: 'token of approle ci, 59 minutes left' }]);
    expect(providers[0]?.tookMs).toBeGreaterThanOrEqual(0);
  });

  it('that does not let kz in says why, and its secrets need not say it again', async () => {
    const sealed = new KzError('provider-locked', 'vault at https://vault.test is sealed', { hint: 'run `vault operator unseal`' });
    const vault = provider(() => sealed, { check: () => Promise.reject(sealed) });
    const diagnosis = await examined(`${ONE}B = { provider = "vault", ref = "kv/b#c" }\n`, { vault });
    expect(diagnosis.providers).toMatchObject([
      { state: 'failed', error: { code: 'provider-locked', hint: 'run `vault operator unseal`' } },
    ]);
    expect(diagnosis.secrets.map(({ isExplained }) => isExplained)).toEqual([true, true]);
    expect(isHealthy(diagnosis)).toBe(false);
  });

  it('that cannot be asked is known by its secrets', async () => {
    const missing = new KzError('secret-missing', 'there is none');
    const denied = new KzError('provider-denied', 'vault refused kv/a (403)');
    const state = async (answer: (ref: Ref) => Outcome | KzError) => {
      const { providers, secrets } = await examined(`${ONE}B = { provider = "vault", ref = "kv/b#c" }\n`, { vault: provider(answer) });
      const [first] = providers;
      const error = first?.state === 'failed' ? first.error?.message : undefined;
      return [first?.state, error, ...secrets.map(({ isExplained }) => isExplained)];
    };
    expect(await state(() => given())).toEqual(['ok', undefined, false, false]);
    expect(await state(() => missing)).toEqual(['ok', undefined, false, false]);
    expect(await state(({ text }) => (text === 'kv/a#b' ? denied : given()))).toEqual(['ok', undefined, false, false]);
    expect(await state(() => denied)).toEqual(['failed', 'vault refused kv/a (403)', true, true]);
    expect(await state(({ text }) => new KzError('provider-failed', `${text} failed`))).toEqual(['failed', undefined, false, false]);
    expect(await state(() => new KzError('ref-invalid', 'that is no ref'))).toEqual(['not-asked', undefined, false, false]);
  });

  it('that hangs is named when time is over', async () => {
    const hanging = provider(() => given(), { get: () => new Promise(() => undefined), check: () => new Promise(() => undefined) });
    const { providers, secrets } = await examined(
      `${ONE}B = { provider = "file", ref = "b" }\n`,
      { vault: hanging, file: provider(() => given()) },
      AbortSignal.timeout(50),
    );
    expect(providers).toMatchObject([
      { name: 'vault', state: 'failed', error: { code: 'provider-timeout', message: 'provider vault did not answer in time' } },
      { name: 'file', state: 'ok' },
    ]);
    expect(secrets.map(({ secret, isExplained }) => [secret.state, isExplained])).toEqual([
      ['failed', true],
      ['set', false],
    ]);
  });

  it('that fails in a way of its own shows nothing of it', async () => {
    const vault = provider(() => given(), { check: () => Promise.reject(new Error(canary)) });
    const path = join(folder, '.keyzero.toml');
    writeFileSync(path, ONE);
    const config = await loadConfig({ explicit: path, env: {}, cwd: folder });
    const opened = { config, access: new Stand({ vault }) };
    const { providers } = await diagnose(
      { found: config, opened, problems: [] },
      { env: {}, program: '', live: false },
      new AbortController().signal,
    );
    expect(providers).toMatchObject([{ state: 'failed', error: { message: 'provider vault failed' } }]);
  });

  it('that has no address is told like one that fails', async () => {
    const { providers } = await examined('[secrets]\nA = { provider = "keyzero", ref = "a" }\n', {
      keyzero: provider(() => given(), { check: () => Promise.reject(new KzError('provider-unavailable', 'it has no address')) }),
    });
    expect(providers).toMatchObject([{ state: 'failed', error: { code: 'provider-unavailable' } }]);
  });
});

describe('leases', () => {
  it('are told once for all values that live as long, and for the login', async () => {
    const shared = lease('database/creds/app/xyz', 59);
    const vault = provider(({ text }) => (text === 'kv/d' ? given() : given(canary, text === 'kv/c' ? lease('c', 5, false) : shared)), {
      login: () => lease('accessor', 30),
    });
    const text = ['a', 'b', 'c', 'd'].map((name) => `${name.toUpperCase()} = { provider = "vault", ref = "kv/${name}" }`);
    const diagnosis = await examined(`[secrets]\n${text.join('\n')}\n`, { vault });
    expect(diagnosis.leases).toMatchObject([
      { provider: 'vault', names: [], renewable: true },
      { provider: 'vault', names: ['A', 'B'], renewable: true },
      { provider: 'vault', names: ['C'], renewable: false },
    ]);
    const minutes = diagnosis.leases.map(({ remainingMs }) => Math.round(remainingMs / MINUTES_MS));
    expect(minutes).toEqual([30, 59, 5]);
    expect(isHealthy(diagnosis)).toBe(true);
  });
});

describe('what may be what somebody is looking for', () => {
  const concerns = async (entry: string, text: string, rest = '') => {
    const config = `[secrets]\nA = { provider = "vault", ref = "a"${entry} }\n${rest}`;
    const diagnosis = await examined(config, { vault: provider(() => given(text)) });
    expect(isHealthy(diagnosis)).toBe(true);
    return diagnosis.secrets.flatMap((each) => each.concerns.map(({ kind }) => kind));
  };

  it('is a value that is too short to be redacted', async () => {
    expect(await concerns(', hosts = ["a.test"]', '1234567')).toEqual(['short']);
    expect(await concerns(', hosts = ["a.test"]', '12345678')).toEqual([]);
  });

  it('is a value that may go anywhere', async () => {
    expect(await concerns('', canary)).toEqual(['any-host']);
    expect(await concerns('', canary, '[[blind.connections]]\nallow = true\nhost = "a.test"\n')).toEqual([]);
    expect(await concerns('', `ghp_${canary}`)).toEqual([]);
    expect(await concerns(', expose = true', canary)).toEqual([]);
  });

  it('is a value that cannot be blind', async () => {
    const pem = `-----BEGIN PRIVATE KEY-----\n${canary}\n-----END PRIVATE KEY-----`;
    expect(await concerns('', pem)).toEqual(['not-blind']);
    expect(await concerns('', canary, '[blind]\nscope = "strict"\n')).toEqual(['not-blind']);
  });
});

describe('a config', () => {
  it('with rules that cannot hold is not in order, and the rest is looked at', async () => {
    const diagnosis = await examined(`${ONE}[[blind.connections]]\nallow = true\nhost = "re:(a+)+b"\n`, { vault: provider(() => given()) });
    expect(diagnosis.config.problems).toMatchObject([{ code: 'config-invalid', at: { line: 3 } }]);
    expect(diagnosis.secrets).toMatchObject([{ secret: { state: 'set' } }]);
    expect(isHealthy(diagnosis)).toBe(false);
  });

  it('that could not be loaded leaves nothing to ask', async () => {
    const problem = new KzError('config-not-found', 'no .keyzero.toml found');
    const subject = { found: { files: [], searched: ['/x/.keyzero.toml'] }, opened: undefined, problems: [problem] };
    const diagnosis = await diagnose(subject, { env: {}, program: '', live: true }, new AbortController().signal);
    expect(diagnosis).toMatchObject({
      config: { problems: [problem], searched: ['/x/.keyzero.toml'] },
      providers: [],
      secrets: [],
      checks: [],
    });
    expect(isHealthy({ ...diagnosis, sandbox: { level: 'full', isCertain: true, backend: 'bubblewrap' } })).toBe(false);
  });
});

describe('a sandbox', () => {
  it.each([
    ['', false],
    ['[blind]\nsandbox = "auto"\n', false],
    ['[blind]\nsandbox = "off"\n', false],
    ['[blind]\nsandbox = "strict"\n', true],
    ['[blind.sandbox]\nmode = "strict"\n', true],
  ])('that is not there matters when the config insists on it: %j', async (table, isNeeded) => {
    const diagnosis = await examined(`${ONE}${table}`, { vault: provider(() => given()) });
    expect([lacksSandbox(diagnosis), isHealthy(diagnosis)]).toEqual([isNeeded, !isNeeded]);
    for (const level of ['basic', 'full'] as const) {
      const sandbox = { level, isCertain: true, backend: 'bubblewrap' } as const;
      expect(isHealthy({ ...diagnosis, sandbox })).toBe(true);
    }
  });

  it('is looked for with the tools of the system', async () => {
    const tools = { ...sandboxTools(), platform: 'sunos' } as const;
    const options = { env: {}, program: '', live: false, tools };
    expect((await lookAround(options, new AbortController().signal)).sandbox).toEqual({
      level: 'none',
      backend: undefined,
      why: 'kz cannot isolate programs on sunos',
      isCertain: true,
    });
  });
});

describe('the machine', () => {
  const around = (env: Record<string, string>, program = '/opt/kz/bin/kz.cjs') =>
    lookAround({ env, program, live: false }, new AbortController().signal);

  it('lacks what an MCP client did not pass on', async () => {
    const { machine, runtimes, sandbox } = await around({});
    expect(machine.warnings).toMatchObject([
      { text: expect.stringMatching(/^HOME is not set/) as string },
      { text: 'PATH is not set', hint: 'where kz is started, write its full path: /opt/kz/bin/kz.cjs' },
    ]);
    expect(runtimes.filter(({ path }) => path !== undefined)).toEqual([]);
    expect(['full', 'basic', 'none']).toContain(sandbox.level);
  });

  it('is in order where kz is found', async () => {
    writeFileSync(join(folder, 'kz'), '', { mode: 0o755 });
    const { machine } = await around({ HOME: folder, PATH: folder });
    expect(machine).toMatchObject({ home: folder, kzOnPath: join(folder, 'kz'), proxy: undefined, warnings: [] });
  });

  it('has a proxy, whose credentials are not told', async () => {
    const { machine } = await around({ HOME: folder, PATH: folder, HTTPS_PROXY: `http://me:${canary}@proxy.test:3128` });
    expect(machine.proxy).toBe('http://proxy.test:3128');
    const socks = await around({ HOME: folder, PATH: folder, ALL_PROXY: `socks5://me:${canary}@proxy.test:1080` });
    expect(socks.machine).toMatchObject({ proxy: undefined });
    expect(socks.machine.warnings.map(({ text }) => text)).toContainEqual(expect.stringMatching(/^ALL_PROXY does not name an http/));
    expect(JSON.stringify([machine, socks.machine])).not.toContain(canary);
  });

  it('says which authorities cannot be used', async () => {
    const { machine } = await around({ HOME: folder, PATH: folder, NODE_EXTRA_CA_CERTS: join(folder, 'gone.pem') });
    expect(machine.warnings.map(({ text }) => text)).toContainEqual(expect.stringMatching(/gone\.pem that NODE_EXTRA_CA_CERTS names/));
  });
});
