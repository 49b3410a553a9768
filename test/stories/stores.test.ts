// The places where secrets live, from end to end: what happens when they are locked, damaged, shared, absent or slow.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { armor, Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collect, Story, type Ended } from './kz.ts';
import { waitFor, waitUntilGone } from './processes.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end(['values.json', 'mounted']);
});

const reveal = (args: readonly string[], env: Record<string, string> = {}): Promise<Ended> => story.kz(args, { env, reveals: true });

async function put(name: string, value: string, env: Record<string, string> = {}): Promise<void> {
  expect(await story.kz(['put', name, '-q'], { input: value, env })).toMatchObject({ code: 0, stderr: '' });
}

/** Every file of a folder with its bytes. */
function snapshot(folder: string): [string, string][] {
  return readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'hex')]);
}

describe('the store', () => {
  const folder = (): string => join(story.home, '.config/keyzero');
  const store = (): string => join(folder(), 'store.age');
  const key = (): string => join(folder(), 'store.key');

  beforeEach(() => {
    story.config('[secrets]\nA = { provider = "store", ref = "a" }\n');
  });

  /** Reading, writing and removing all fail with this, and leave every file as it is. */
  async function refuses(problem: string, env: Record<string, string> = {}): Promise<void> {
    const before = snapshot(folder());
    for (const args of [
      ['get', 'A'],
      ['put', 'A'],
      ['rm', 'A', '-y'],
    ]) {
      const { code, stdout, stderr } = await story.kz(args, { input: 'new', env });
      expect([code, stdout]).toEqual([1, '']);
      expect(stderr).toContain(problem);
    }
    expect(snapshot(folder())).toEqual(before);
  }

  it('is made at the first put, for its owner alone', async () => {
    await put('A', story.canary());
    expect(readdirSync(folder()).sort()).toEqual(['store.age', 'store.key']);
    expect([store(), key()].map((file) => statSync(file).mode & 0o777)).toEqual([0o600, 0o600]);
    expect(statSync(folder()).mode & 0o777).toBe(0o700);
  });

  it('opens with its passphrase only', async () => {
    const passphrase = story.canary();
    const value = story.canary();
    await put('A', value, { KEYZERO_PASSPHRASE: passphrase });
    expect(readdirSync(folder()).sort()).toEqual(['store.age', 'store.key.age']);
    expect((await reveal(['get', 'A'], { KEYZERO_PASSPHRASE: passphrase })).stdout).toBe(`${value}\n`);
    await refuses('the passphrase does not open ~/.config/keyzero/store.key.age\nkz: hint: correct KEYZERO_PASSPHRASE\n', {
      KEYZERO_PASSPHRASE: story.canary(),
    });
    await refuses('~/.config/keyzero/store.key.age is locked with a passphrase\nkz: hint: set KEYZERO_PASSPHRASE\n');
  }, 60_000);

  it('that is truncated is not replaced', async () => {
    await put('A', story.canary());
    truncateSync(store(), statSync(store()).size - 1);
    await refuses('cannot decrypt ~/.config/keyzero/store.age: it is damaged, or not an age file');
    truncateSync(store(), 0);
    await refuses('cannot decrypt ~/.config/keyzero/store.age: it is damaged, or not an age file');
  });

  it('that is encrypted with another key, or whose key is gone, is not replaced', async () => {
    await put('A', story.canary());
    writeFileSync(key(), `${await generateX25519Identity()}\n`);
    await refuses('it was encrypted with another key than ~/.config/keyzero/store.key');
    rmSync(key());
    await refuses('cannot decrypt ~/.config/keyzero/store.age: its key is missing (~/.config/keyzero/store.key)');
  });

  it('that others can read is not used, nor is such a key', async () => {
    await put('A', story.canary());
    chmodSync(store(), 0o644);
    await refuses(`${store()} is open to other users (mode 644)\nkz: hint: run \`chmod 600 ${store()}\`\n`);
    chmodSync(store(), 0o600);
    chmodSync(key(), 0o640);
    await refuses(`${key()} is open to other users (mode 640)\nkz: hint: run \`chmod 600 ${key()}\`\n`);
    chmodSync(key(), 0o600);
    expect(await story.kz(['status'])).toMatchObject({ code: 0 });
  });

  it('loses nothing when ten put at the same time', async () => {
    const names = Array.from({ length: 10 }, (_, index) => `N${String(index)}`);
    story.config(`[secrets]\n${names.map((name) => `${name} = { provider = "store", ref = "${name}" }\n`).join('')}`);
    const values = Object.fromEntries(names.map((name) => [name, story.canary()]));
    await Promise.all(names.map((name) => put(name, values[name] ?? '')));
    expect(JSON.parse((await reveal(['export', '--format', 'json'])).stdout)).toEqual(values);
    expect(readdirSync(folder()).sort()).toEqual(['store.age', 'store.key']);
  });
});

describe('the keychain', () => {
  it.skipIf(process.platform !== 'linux' || existsSync(`/run/user/${String(process.getuid?.())}/bus`))(
    'that is not there is an error that names the store',
    async () => {
      story.config('[secrets]\nA = { provider = "keychain", ref = "a" }\n');
      for (const args of [
        ['get', 'A'],
        ['put', 'A'],
      ]) {
        const { code, stdout, stderr } = await story.kz(args, { input: 'x' });
        expect([code, stdout]).toEqual([1, '']);
        expect(stderr).toContain('there is no system keychain: DBUS_SESSION_BUS_ADDRESS is not set');
        expect(stderr).toContain('kz: hint: use `provider = "store"`, which needs nothing installed\n');
      }
    },
  );
});

describe('an age file in the repository', () => {
  let identity: string;

  beforeEach(async () => {
    identity = await generateX25519Identity();
    mkdirSync(join(story.home, '.config/keyzero'), { recursive: true });
    writeFileSync(join(story.home, '.config/keyzero/age.txt'), `${identity}\n`, { mode: 0o600 });
  });

  it('is written, read, and given to a program', async () => {
    const other = await generateX25519Identity();
    const recipient = await identityToRecipient(other);
    story.config(`[providers.age]
recipients = ["${recipient}"]
[secrets]
TOKEN = { provider = "age", ref = "secrets.env.age#TOKEN" }
OTHER = { provider = "age", ref = "secrets.env.age#OTHER" }
`);
    const values = { TOKEN: story.canary(), OTHER: story.canary('it’s "quoted" ') };
    expect((await story.kz(['put', 'TOKEN'], { input: values.TOKEN })).stderr).toContain(
      `kz: TOKEN goes to ${story.project}/secrets.env.age, key TOKEN, encrypted to your own age identity and 1 configured recipient\n`,
    );
    await put('OTHER', values.OTHER);
    expect((await reveal(['get', 'TOKEN'])).stdout).toBe(`${values.TOKEN}\n`);
    const shown = await reveal([
      'run',
      '--no-redact',
      '--',
      process.execPath,
      '-p',
      'JSON.stringify([process.env.TOKEN, process.env.OTHER])',
    ]);
    expect(JSON.parse(shown.stdout)).toEqual([values.TOKEN, values.OTHER]);
    const decrypter = new Decrypter();
    decrypter.addIdentity(other);
    const text = await decrypter.decrypt(armor.decode(readFileSync(join(story.project, 'secrets.env.age'), 'utf8')), 'text');
    expect(text).toContain(values.TOKEN);
  });

  it('of others is not replaced, and says what is missing', async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(await generateX25519Identity()));
    const path = story.write('secrets.env.age', armor.encode(await encrypter.encrypt('TOKEN=x\n')));
    const before = readFileSync(path);
    story.config('[secrets]\nTOKEN = { provider = "age", ref = "secrets.env.age#TOKEN" }\n');
    for (const args of [
      ['get', 'TOKEN'],
      ['put', 'TOKEN'],
      ['rm', 'TOKEN', '-y'],
    ]) {
      expect(await story.kz(args, { input: 'new' })).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('it is not encrypted to the identity in ~/.config/keyzero/age.txt') as string,
      });
    }
    rmSync(join(story.home, '.config/keyzero/age.txt'));
    expect((await story.kz(['get', 'TOKEN'])).stderr).toContain(
      'kz: hint: run `mkdir -p ~/.config/keyzero && age-keygen -o ~/.config/keyzero/age.txt`',
    );
    expect(readFileSync(path)).toEqual(before);
  });
});

describe('files', () => {
  it('are read whole or by key', async () => {
    const [mounted, password] = [story.canary(), story.canary()];
    story.write('mounted', `${mounted}\n`);
    story.write('values.json', JSON.stringify({ db: { password } }));
    story.config(`[secrets]
WHOLE = { provider = "file", ref = "mounted" }
KEY = { provider = "file", ref = "values.json#db.password" }
GONE = { provider = "file", ref = "nowhere/x", required = false }
`);
    expect(JSON.parse((await reveal(['export', '-f', 'json'])).stdout)).toEqual({ WHOLE: mounted, KEY: password });
    expect((await story.kz(['put', 'WHOLE'], { input: 'x' })).stderr).toContain('WHOLE comes from file mounted, which kz cannot write');
  });
});

describe('programs', () => {
  it('give a value, and keep what they say on standard error to themselves', async () => {
    const value = story.canary();
    story.write('values.json', value);
    story.write('bin/ask', `#!/bin/sh\ncat values.json; echo "$1" >&2; cat values.json >&2\n`, 0o755);
    story.config('[providers.exec]\ncommand = ["bin/ask"]\n[secrets]\nA = { provider = "exec", ref = "\'two words\' $HOME" }\n');
    expect(await reveal(['get', 'A'])).toMatchObject({ code: 0, stdout: `${value}\n`, stderr: '' });
    story.write('bin/ask', '#!/bin/sh\ncat values.json\nexit 3\n', 0o755);
    const { code, stdout, stderr } = await story.kz(['run', '--', 'true']);
    expect([code, stdout]).toEqual([125, '']);
    expect(stderr).toContain(
      `A: program "bin/ask" failed with status 3\nkz: hint: to see why, run \`cd ${story.project} && bin/ask 'two words' '$HOME'\`\n`,
    );
  });

  it('that are not there say so', async () => {
    story.config('[secrets]\nA = { provider = "exec", ref = "no-such-program x" }\n');
    expect((await story.kz(['get', 'A'])).stderr).toContain('A: program "no-such-program" was not found in PATH');
  });

  it('that are slow are ended, with everything that they started', async () => {
    const pids = join(story.folder, 'pids');
    story.write('slow', `#!/bin/sh\nsleep 300 &\necho "$! $$" > ${pids}\nwait\n`, 0o755);
    story.config('[secrets]\nSLOW = { provider = "exec", ref = "./slow" }\nFAST = { provider = "env", ref = "SOURCE" }\n');
    for (const args of [['status'], ['get', 'SLOW'], ['export'], ['run', '--', 'true']]) {
      const [command = '', ...rest] = args;
      const { stdout, stderr } = await story.kz([command, '--timeout', '300ms', ...rest], { env: { SOURCE: 'x' } });
      expect(stderr).toBe('kz: error: SLOW: provider exec did not answer in time\nkz: hint: allow more with --timeout 60s\n');
      expect(stdout.includes('FAST')).toBe(command === 'status');
      await waitUntilGone(readFileSync(pids, 'utf8').trim().split(' ').map(Number));
    }
  });

  it('ends with kz when kz is told to stop, whatever the command', async () => {
    const pids = story.write('pids', '');
    story.write('slow', '#!/bin/sh\nsleep 86400 &\necho "$$ $!" > pids\nwait\n', 0o755);
    story.config('[secrets]\nSLOW = { provider = "exec", ref = "./slow" }\n');
    for (const args of [['status'], ['get', 'SLOW'], ['export'], ['run', '--', 'true']]) {
      writeFileSync(pids, '');
      const child = story.start(args);
      const ended = collect(child);
      await waitFor('the program of the provider', () => readFileSync(pids, 'utf8').includes('\n'));
      child.kill('SIGTERM');
      expect(await ended).toMatchObject({ signal: 'SIGTERM', stdout: '' });
      await waitUntilGone(readFileSync(pids, 'utf8').trim().split(' ').map(Number));
    }
  });
});
