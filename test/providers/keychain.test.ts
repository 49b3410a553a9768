// Without a keychain: what kz says, and that it always ends. With one: test/live/keychain.test.ts.
import { build } from 'esbuild';
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { withFileLock } from '../../src/core/file-lock.ts';
import { Secret } from '../../src/core/secret.ts';
import { busEnvironment, openKeychain } from '../../src/providers/keychain.ts';
import type { Provider, Ref } from '../../src/providers/provider.ts';
import { bundle } from '../fixtures/bundle.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
const NEVER = new AbortController().signal;
const LIBRARY_FROM = fileURLToPath(import.meta.url);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const linuxOnly = process.platform === 'linux' ? describe : describe.skip;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kz-nokeychain-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

function open(env: Record<string, string>, libraryFrom = LIBRARY_FROM): Provider {
  return openKeychain({}, { env, userDirectory: join(folder, 'user') }, libraryFrom);
}

function ref(text: string): Ref {
  return { text, directory: folder };
}

async function failure(provider: Provider, ...texts: string[]): Promise<KzError> {
  const outcomes = await provider.get(texts.map(ref), NEVER);
  const [first] = outcomes;
  if (first?.ok !== false) throw new Error('was read');
  expect(outcomes.map((outcome) => !outcome.ok && outcome.error === first.error)).toEqual(texts.map(() => true));
  return first.error;
}

describe('the ref', () => {
  const provider = openKeychain({ service: 'mine' }, { env: {}, userDirectory: '/nowhere' });

  it.each([
    ['github-pat', 'service mine, account github-pat'],
    ['other/github-pat', 'service other, account github-pat'],
    ['other/a/b', 'service other, account a/b'],
    ['a b#c', 'service mine, account a b#c'],
  ])('%j is %s', (text, expected) => {
    expect(provider.destination?.(ref(text))).toContain(`(${expected})`);
  });

  it('has the service keyzero by default', () => {
    expect(open({}).destination?.(ref('a'))).toContain('(service keyzero, account a)');
  });

  it.each(['', '/', 'a/', '/a', 'a\0b', 'a\nb'])('%j is refused', async (text) => {
    expect(() => provider.destination?.(ref(text))).toThrow(KzError);
    await expect(provider.put?.(ref(text), new Secret(CANARY), NEVER)).rejects.toMatchObject({ code: 'ref-invalid' });
    await expect(provider.remove?.(ref(text), NEVER)).rejects.toMatchObject({ code: 'ref-invalid' });
    const [outcome] = await open({}).get([ref(text)], NEVER);
    expect(outcome?.ok === false && outcome.error.code).toBe('ref-invalid');
  });
});

it('says that the helper cannot be started when no file descriptor is left', async () => {
  const starved = await bundle('starved', folder);
  const { stdout, stderr } = spawnSync(process.execPath, [starved, 'keychain', folder], { encoding: 'utf8' });
  expect([stdout, stderr]).toEqual(['provider-failed: cannot start the helper process for the system keychain: EMFILE\n', '']);
});

describe('the address of the bus', () => {
  it('is the one in the environment', () => {
    const env = { DBUS_SESSION_BUS_ADDRESS: 'unix:path=/x' };
    expect(busEnvironment(env, folder)).toBe(env);
  });

  it('is found where the login puts it', async () => {
    const runtime = join(folder, 'runtime');
    await mkdir(runtime);
    await writeFile(join(runtime, 'bus'), '');
    const found = { XDG_RUNTIME_DIR: runtime, DBUS_SESSION_BUS_ADDRESS: `unix:path=${runtime}/bus` };
    expect(busEnvironment({ A: 'a' }, runtime)).toEqual({ A: 'a', ...found });
    expect(busEnvironment({ XDG_RUNTIME_DIR: '/nowhere', DBUS_SESSION_BUS_ADDRESS: '' }, runtime)).toEqual(found);
    expect(busEnvironment({ XDG_RUNTIME_DIR: runtime }, '/nowhere')).toEqual(found);
  });

  it('stays unset when there is none', () => {
    expect(busEnvironment({ A: 'a' }, '/nowhere')).toEqual({ A: 'a' });
    expect(busEnvironment({ A: 'a' }, undefined)).toEqual({ A: 'a' });
  });
});

linuxOnly('no keychain', () => {
  it.skipIf(existsSync(`/run/user/${String(process.getuid?.())}/bus`))('when there is no session bus', async () => {
    const error = await failure(open({}), 'a', 'b');
    expect(error.code).toBe('provider-unavailable');
    expect(error.message).toBe(
      `there is no system keychain: DBUS_SESSION_BUS_ADDRESS is not set, and no /run/user/${String(process.getuid?.())}/bus`,
    );
    expect(error.hint).toBe('use `provider = "store"`, which needs nothing installed');
  });

  it.each([
    ['is not there', 'unix:path=/nowhere/bus'],
    ['makes no sense', 'nonsense'],
  ])('when the bus %s', async (_case, address) => {
    const error = await failure(open({ DBUS_SESSION_BUS_ADDRESS: address }), 'a', 'b');
    expect(error.code).toBe('provider-unavailable');
    expect(error.message).toBe(`cannot reach the Secret Service: no answer from the D-Bus session bus at ${address}`);
    expect(error.hint).toContain('`provider = "store"`');
  });

  it('means that nothing is written', async () => {
    const provider = open({ DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere/bus' });
    const error: unknown = await provider.put?.(ref('a'), new Secret(CANARY), NEVER).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'provider-unavailable' });
    expect(inspect(error, { depth: 9 })).not.toContain(CANARY);
    await expect(provider.remove?.(ref('a'), NEVER)).rejects.toMatchObject({ code: 'provider-unavailable' });
  });

  it('leaves no lock behind', async () => {
    await failure(open({ DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere/bus' }), 'a');
    expect(await readdir(join(folder, 'user'))).toEqual([]);
  });

  it('is not loaded by what NODE_OPTIONS says', async () => {
    const evil = join(folder, 'evil.cjs');
    await writeFile(evil, `require('node:fs').writeFileSync(${JSON.stringify(join(folder, 'loaded'))}, '')`);
    await failure(open({ DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere/bus', NODE_OPTIONS: `--require ${evil}` }), 'a');
    expect(existsSync(join(folder, 'loaded'))).toBe(false);
  });
});

it('says when the library is not installed', async () => {
  const error = await failure(open({}, join(folder, 'kz.cjs')), 'a', 'b');
  expect([error.code, error.message]).toEqual([
    'provider-unavailable',
    `the keychain library is not installed for ${process.platform}-${process.arch}`,
  ]);
});

it('names the kz that is being asked, while another one waits in vain', async () => {
  const waiting = withFileLock(
    join(folder, 'user/keychain'),
    async () =>
      open({})
        .get([ref('a')], AbortSignal.timeout(200))
        .catch((reason: unknown) => reason),
    NEVER,
  );
  const pid = String(process.pid);
  expect(await waiting).toMatchObject({
    code: 'provider-timeout',
    message: `gave up waiting for the system keychain, which another kz (process ${pid}) is being asked to unlock`,
    hint: `answer its dialog, and allow more with --timeout 60s; if that process is gone, run \`rm ${join(folder, 'user/keychain.lock')}\``,
  });
});

linuxOnly('a bus that never answers', () => {
  let server: Server;
  let env: Record<string, string>;
  beforeAll(async () => {
    const path = join(folder, 'silent');
    server = createServer().listen(path);
    await once(server, 'listening');
    env = { DBUS_SESSION_BUS_ADDRESS: `unix:path=${path}` };
  });
  afterAll(() => {
    server.close();
  });

  it('holds nobody up', async () => {
    const controller = new AbortController();
    const connected = once(server, 'connection');
    const work = open(env).get([ref('a'), ref('b')], controller.signal);
    await connected;
    controller.abort(new Error('too late'));
    await expect(work).rejects.toThrow('too late');
    expect(await readdir(join(folder, 'user'))).toEqual([]);
  });

  it('does not keep the process from ending', async () => {
    const program = join(folder, 'program.mjs');
    await build({
      stdin: { contents: PROGRAM, resolveDir: ROOT, loader: 'ts' },
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile: program,
      logLevel: 'error',
    });
    const child = spawn(process.execPath, [program, LIBRARY_FROM, join(folder, 'other-user')], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const output = child.stdout.setEncoding('utf8').toArray();
    const [code] = (await once(child, 'close')) as unknown[];
    expect([code, (await output).join('')]).toEqual([7, 'TimeoutError']);
  });
});

/** Asks a keychain under a deadline, and ends by itself. */
const PROGRAM = `
  import { openKeychain } from './src/providers/keychain.ts';
  const [libraryFrom = '', userDirectory = ''] = process.argv.slice(2);
  const provider = openKeychain({}, { env: process.env, userDirectory }, libraryFrom);
  try {
    await provider.get([{ text: 'a', directory: '/' }], AbortSignal.timeout(500));
  } catch (error) {
    process.stdout.write(error.name);
    process.exitCode = 7;
  }
`;
