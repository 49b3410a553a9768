// The keychain provider against a real gnome-keyring.
import { build } from 'esbuild';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect, promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { Secret } from '../../src/core/secret.ts';
import { openKeychain } from '../../src/providers/keychain.ts';
import type { Outcome, Provider, ProviderContext, Ref } from '../../src/providers/provider.ts';
import { secretServiceProblem, startSecretService, type SecretService, type SecretServiceOptions } from './secret-service.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
const NEVER = new AbortController().signal;
const LIBRARY_FROM = fileURLToPath(import.meta.url);
const SECRET_SERVICE = JSON.stringify({ linux: { store: 'secret-service' } });

/** A program of its own that writes a value to the keychain and reads it back. */
let program: string;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kz-keychain-'));
  program = join(folder, 'program.mjs');
  await build({
    stdin: { contents: PROGRAM, resolveDir: fileURLToPath(new URL('../../', import.meta.url)), loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: program,
    logLevel: 'error',
  });
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

const problem = secretServiceProblem();
const suite = problem === undefined ? '' : ` (skipped: ${problem})`;

async function start(options: SecretServiceOptions = {}): Promise<SecretService> {
  const service = await startSecretService(options);
  if (service === undefined) throw new Error('no Secret Service');
  return service;
}

function contextOf({ env }: SecretService): ProviderContext {
  return { env, userDirectory: join(env.XDG_CONFIG_HOME ?? '', 'keyzero') };
}

function open(service: SecretService, options: { service?: string } = {}): Provider {
  return openKeychain(options, contextOf(service), LIBRARY_FROM);
}

function ref(text: string): Ref {
  return { text, directory: '/' };
}

async function get(provider: Provider, ...texts: string[]): Promise<string[]> {
  return (await provider.get(texts.map(ref), NEVER)).map(summary);
}

/** The value, or the code of the error. */
function summary(outcome: Outcome): string {
  return outcome.ok ? outcome.secret.reveal() : outcome.error.code;
}

async function put(provider: Provider, text: string, value: string): Promise<void> {
  await provider.put?.(ref(text), new Secret(value), NEVER);
}

async function failure(work: Promise<unknown> | undefined): Promise<KzError> {
  const error: unknown = await work?.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KzError)) throw new Error('did not fail');
  return error;
}

async function dialogShown({ env }: SecretService): Promise<void> {
  const sign = join(env.HOME ?? '', 'dialog-shown');
  await vi.waitFor(
    () => {
      expect(existsSync(sign)).toBe(true);
    },
    { timeout: 10_000 },
  );
}

async function childrenOf(pid: number | undefined): Promise<string[]> {
  const text = await readFile(`/proc/${String(pid)}/task/${String(pid)}/children`, 'utf8');
  return text.split(' ').filter((child) => child !== '');
}

/** A zombie that nobody has collected is not alive. */
function isAlive(pid: string): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Calls the library itself, for what kz would not do. */
async function withLibrary(service: SecretService, code: string): Promise<void> {
  const script = `const { AsyncEntry } = require('@napi-rs/keyring'); (async () => { ${code} })()`;
  await promisify(execFile)(process.execPath, ['-e', script], { env: service.env });
}

describe.skipIf(problem !== undefined)(`an unlocked keychain${suite}`, () => {
  let service: SecretService;
  beforeAll(async () => {
    service = await start();
  });
  afterAll(async () => {
    await service.stop();
  });

  it.each([
    ['a token', CANARY],
    ['unicode', 'pässwörd 日本 🔑 \u0000 e\u0301'],
    ['several lines', `-----BEGIN\n${CANARY}\r\n-----END\n`],
    ['64 KiB', randomBytes(32_768).toString('hex')],
    ['space', '  a\t '],
    ['nothing', ''],
  ])('keeps %s', async (name, value) => {
    const provider = open(service);
    await put(provider, name, value);
    expect(await get(provider, name)).toEqual([value]);
    expect(await get(open(service), name)).toEqual([value]);
  });

  it('replaces and removes', async () => {
    const provider = open(service);
    await put(provider, 'changing', 'one');
    await put(provider, 'changing', 'two');
    expect(await get(provider, 'changing')).toEqual(['two']);
    expect(await provider.remove?.(ref('changing'), NEVER)).toBe(true);
    expect(await provider.remove?.(ref('changing'), NEVER)).toBe(false);
    expect(await get(provider, 'changing')).toEqual(['secret-missing']);
  });

  it('gives one outcome per ref, in order', async () => {
    const provider = open(service);
    await put(provider, 'a', 'value of a');
    await put(provider, 'b', 'value of b');
    expect(await get(provider, 'b', 'nope', 'a', '', 'b')).toEqual([
      'value of b',
      'secret-missing',
      'value of a',
      'ref-invalid',
      'value of b',
    ]);
  });

  it('tells services and accounts apart', async () => {
    const provider = open(service, { service: 'mine' });
    await put(provider, 'account', 'of mine');
    await put(provider, 'other/account', 'of other');
    await put(provider, 'other/a/b', 'with a slash');
    expect(await get(provider, 'account', 'mine/account', 'other/account', 'other/a/b')).toEqual([
      'of mine',
      'of mine',
      'of other',
      'with a slash',
    ]);
    expect(await get(open(service), 'account', 'keyzero/account')).toEqual(['secret-missing', 'secret-missing']);
  });

  it('says which entry is not text, and which is there twice', async () => {
    await withLibrary(
      service,
      `await new AsyncEntry('keyzero', 'bytes', ${SECRET_SERVICE}).setSecret(Buffer.from([0x43, 0xff]));
       await new AsyncEntry('keyzero', 'twice', ${SECRET_SERVICE}).setPassword('${CANARY}');
       await AsyncEntry.withTarget('default', 'keyzero', 'twice', ${SECRET_SERVICE}).setPassword('${CANARY}');`,
    );
    await put(open(service), 'good', 'good');
    const outcomes = await open(service).get(['bytes', 'twice', 'good'].map(ref), NEVER);
    expect(outcomes.map((outcome) => (outcome.ok ? 'ok' : `${outcome.error.code}: ${outcome.error.message}`))).toEqual([
      'secret-invalid: entry "bytes" of service "keyzero" of the system keychain is not UTF-8 text',
      'provider-failed: the system keychain has more than one entry "twice" of service "keyzero"',
      'ok',
    ]);
    expect(inspect(outcomes, { depth: 9 })).not.toContain(CANARY);
  });

  it('works without a folder for the lock', async () => {
    const file = join(service.env.HOME ?? '', 'a-file');
    await writeFile(file, '');
    const provider = openKeychain({}, { env: service.env, userDirectory: join(file, 'keyzero') }, LIBRARY_FROM);
    await put(provider, 'unlocked', CANARY);
    expect(await get(provider, 'unlocked')).toEqual([CANARY]);
  });

  it('serves several processes at once', async () => {
    const context = contextOf(service);
    const names = ['first', 'second', 'third'];
    const outputs = await Promise.all(
      names.map((name) =>
        promisify(execFile)(process.execPath, [program, LIBRARY_FROM, context.userDirectory, name], { env: service.env }),
      ),
    );
    expect(outputs.map(({ stdout }) => stdout)).toEqual(names.map((name) => `value of ${name}`));
    expect(existsSync(join(context.userDirectory, 'keychain.lock'))).toBe(false);
  });
});

const PROGRAM = `
  import { Secret } from './src/core/secret.ts';
  import { openKeychain } from './src/providers/keychain.ts';
  const [libraryFrom = '', userDirectory = '', name = ''] = process.argv.slice(2);
  const provider = openKeychain({}, { env: process.env, userDirectory }, libraryFrom);
  const signal = AbortSignal.timeout(30_000);
  const ref = { text: name, directory: '/' };
  await provider.put(ref, new Secret('value of ' + name), signal);
  const [outcome] = await provider.get([ref], signal);
  process.stdout.write(outcome.ok ? outcome.secret.reveal() : outcome.error.message);
`;

describe.skipIf(problem !== undefined)(`a keychain that does not open${suite}`, () => {
  let service: SecretService | undefined;
  afterEach(async () => {
    await service?.stop();
    service = undefined;
  });

  it('is locked for get, put and remove, and asks once', async () => {
    service = await start();
    const provider = open(service);
    await put(provider, 'there', CANARY);
    await service.lock();
    const [first, second, absent] = await provider.get(['there', 'there', 'absent'].map(ref), NEVER);
    if (first?.ok !== false || second?.ok !== false || absent?.ok !== false) throw new Error('was read');
    expect([first.error.code, first.error.message]).toEqual(['provider-locked', 'the system keychain is locked, and nobody unlocked it']);
    expect(first.error.hint).toContain('`provider = "store"`');
    expect(second.error).toBe(first.error);
    expect(absent.error).toBe(first.error);
    expect((await failure(provider.put?.(ref('there'), new Secret('x'), NEVER))).code).toBe('provider-locked');
    expect((await failure(provider.put?.(ref('new'), new Secret('x'), NEVER))).code).toBe('provider-locked');
    expect((await failure(provider.remove?.(ref('there'), NEVER))).code).toBe('provider-locked');
  });

  it('knows what is not in a locked keychain', async () => {
    service = await start({ unlocked: false });
    expect(await get(open(service), 'absent')).toEqual(['secret-missing']);
    expect((await failure(open(service).put?.(ref('new'), new Secret('x'), NEVER))).code).toBe('provider-locked');
  });

  it('has no collection before the first login', async () => {
    service = await start({ collection: false });
    expect(await get(open(service), 'absent')).toEqual(['secret-missing']);
    const error = await failure(open(service).put?.(ref('new'), new Secret(CANARY), NEVER));
    expect(error.code).toBe('provider-unavailable');
    expect(error.message).toMatch(/^the Secret Service on the D-Bus session bus at \S+ has no default collection$/);
    expect(error.hint).toContain('`provider = "store"`');
  });

  it('waits for the unlock dialog no longer than the signal allows', async () => {
    service = await start({ dialog: 'ignored' });
    const provider = open(service);
    await put(provider, 'there', CANARY);
    await service.lock();
    await expect(provider.get([ref('there')], AbortSignal.timeout(1500))).rejects.toThrow(/timeout/);
    expect(existsSync(join(contextOf(service).userDirectory, 'keychain.lock'))).toBe(false);
  });

  it('lets a second process wait for the dialog of the first', async () => {
    service = await start({ dialog: 'ignored' });
    await put(open(service), 'there', CANARY);
    await service.lock();
    const first = new AbortController();
    const asking = open(service).get([ref('there')], first.signal);
    await dialogShown(service);
    const error = await failure(open(service).get([ref('there')], AbortSignal.timeout(1000)));
    expect(error.code).toBe('provider-timeout');
    expect(error.message).toBe(
      `gave up waiting for the system keychain, which another kz (process ${String(process.pid)}) is being asked to unlock`,
    );
    expect(error.hint).toContain('keychain.lock');
    first.abort(new Error('enough'));
    await expect(asking).rejects.toThrow('enough');
  });

  it('takes the dialog away when kz is killed', async () => {
    service = await start({ unlocked: false, dialog: 'ignored' });
    const kz = spawn(process.execPath, [program, LIBRARY_FROM, contextOf(service).userDirectory, 'new'], {
      env: service.env,
      stdio: 'ignore',
    });
    await dialogShown(service);
    const helpers = await childrenOf(kz.pid);
    expect(helpers.map(isAlive)).toEqual([true]);
    kz.kill('SIGKILL');
    await vi.waitFor(() => {
      expect(helpers.map(isAlive)).toEqual([false]);
    });
  });

  it('says when the service does not answer', async () => {
    service = await start();
    service.freeze();
    const [outcome] = await open(service).get([ref('a')], NEVER);
    expect(outcome?.ok === false && outcome.error.code).toBe('provider-unavailable');
    expect(outcome?.ok === false && outcome.error.message).toMatch(/^the Secret Service on the D-Bus session bus at \S+ does not answer$/);
  });
});
