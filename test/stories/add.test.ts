// `kz add`: one more entry in the config, and nothing else in it changes.
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story, type Ended } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

const CONFIG = `# why this file is here
[secrets]
# the bot's
TOKEN = { provider = "env", ref = 'SOURCE' }  # rotate in May

[providers.vault]
address = "https://vault.internal:8200" # only in the office
`;

function config(file = '.keyzero.toml'): string {
  return readFileSync(join(story.project, file), 'utf8');
}

const add = (...args: string[]): Promise<Ended> => story.kz(['add', ...args]);

describe('kz add', () => {
  beforeEach(() => {
    story.config(CONFIG);
  });

  it('writes one line below the others', async () => {
    expect(await add('NEW', '--provider', 'store', '--ref', 'app/new')).toMatchObject({
      code: 0,
      stdout: '',
      stderr: `kz: declared NEW in ${story.project}/.keyzero.toml\nkz: to store its value: kz put NEW\n`,
    });
    const line = '# rotate in May\n';
    expect(config()).toBe(CONFIG.replace(line, `${line}NEW = { provider = "store", ref = "app/new" }\n`));
  });

  it('takes every flag, and quotes what needs it', async () => {
    const flags = [
      '-p',
      'exec',
      '-r',
      'pass show "my app" \\ C:\\x',
      '--hosts',
      'api.github.com,*.example.com',
      '--hosts',
      'b.org',
      '--description',
      'the "bot’s"\ntoken',
      '--optional',
    ];
    expect(await add('NEW', ...flags)).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('to see whether it is there: kz status') as string,
    });
    expect(config()).toContain(
      String.raw`NEW = { provider = "exec", ref = "pass show \"my app\" \\ C:\\x", hosts = ["api.github.com", "*.example.com", "b.org"], required = false, description = "the \"bot’s\"\ntoken" }`,
    );
    const list = JSON.parse((await story.kz(['list', '--json'])).stdout) as unknown[];
    expect(list[1]).toMatchObject({ name: 'NEW', ref: flags[3], required: false, description: 'the "bot’s"\ntoken' });
  });

  it('writes into an environment', async () => {
    expect((await add('TOKEN', '-p', 'store', '-r', 'prod', '--env', 'production')).stderr).toBe(
      `kz: declared TOKEN in [production.secrets] of ${story.project}/.keyzero.toml\nkz: to store its value: kz put TOKEN --env production\n`,
    );
    expect(config()).toBe(`${CONFIG}\n[production.secrets]\nTOKEN = { provider = "store", ref = "prod" }\n`);
    expect((await add('TOKEN', '-p', 'store', '-r', 'x', '--env', 'providers')).code).toBe(2);
  });

  it('writes into the local file, which it starts', async () => {
    expect(await add('TOKEN', '-p', 'store', '-r', 'mine', '--local', '-q')).toMatchObject({ code: 0, stderr: '' });
    expect(config()).toBe(CONFIG);
    expect(config('.keyzero.local.toml')).toBe('[secrets]\nTOKEN = { provider = "store", ref = "mine" }\n');
    expect((await story.kz(['list'])).stdout).toContain('mine');
  });

  it('starts no local file where there is no project, or where none would be read', async () => {
    expect(await story.kz(['add', 'NEW', '-p', 'store', '-r', 'x', '--local'], { cwd: story.home })).toMatchObject({
      code: 1,
      stderr: 'kz: error: no .keyzero.toml here or above\nkz: hint: run `kz init` first\n',
    });
    story.write('other.toml', '[secrets]\n');
    expect((await add('NEW', '-p', 'store', '-r', 'x', '--local', '--config', 'other.toml')).code).toBe(2);
    expect([existsSync(join(story.home, '.keyzero.local.toml')), existsSync(join(story.project, '.keyzero.local.toml'))]).toEqual([
      false,
      false,
    ]);
  });

  it('replaces an entry only with --force', async () => {
    expect(await add('TOKEN', '-p', 'store', '-r', 'new')).toMatchObject({
      code: 2,
      stderr: `kz: error: TOKEN is already declared in ${story.project}/.keyzero.toml\nkz: hint: add --force to replace the entry\n`,
    });
    expect(config()).toBe(CONFIG);
    expect((await add('TOKEN', '-p', 'store', '-r', 'new', '--force')).code).toBe(0);
    expect(config()).toBe(CONFIG.replace('"env"', '"store"').replace("'SOURCE'", '"new"'));
  });
});

describe('kz add refuses', () => {
  beforeEach(() => {
    story.config(CONFIG);
  });

  afterEach(() => {
    expect(config()).toBe(CONFIG);
  });

  it.each([
    ['LD_PRELOAD', 'cannot be a secret: it changes which code a program loads'],
    ['PATH', 'cannot be a secret: it changes which code a program loads'],
    ['NODE_OPTIONS', 'cannot be a secret: it changes which code a program loads'],
    ['KEYZERO_ENV', 'cannot be a secret: KEYZERO_ variables configure kz itself'],
    ['my-token', 'is not a variable name (letters, digits and _, not starting with a digit)'],
    ['1A', 'is not a variable name (letters, digits and _, not starting with a digit)'],
    ['', 'is not a variable name (letters, digits and _, not starting with a digit)'],
  ])('the name %j', async (name, problem) => {
    expect(await add(name, '-p', 'store', '-r', 'x')).toMatchObject({
      code: 2,
      stderr: `kz: error: ${/^[A-Z_]+$/.test(name) ? name : 'that'} ${problem}\n`,
    });
  });

  it('a provider that it does not know, with the one that was meant', async () => {
    expect((await add('NEW', '-p', 'keychian', '-r', 'x')).stderr).toBe(
      'kz: error: --provider cannot be "keychian"\nkz: hint: did you mean keychain?\n',
    );
  });

  it('a ref that no server has', async () => {
    expect(await add('NEW', '-p', 'keyzero', '-r', 'github/../pat')).toMatchObject({
      code: 1,
      stderr:
        'kz: error: keyzero ref "github/../pat" has a `.` or `..` segment\nkz: hint: write it as the server’s bundle does: `github/pat`\n',
    });
  });

  it('what would not load, without a line that nobody can look at', async () => {
    const { code, stderr } = await add('NEW', '-p', 'store', '-r', 'x', '--hosts', 'https://api.github.com');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^kz: error: hosts "https:\/\/api\.github\.com" is not a bare host/);
  });

  it('to guess what was not said', async () => {
    const missing = (what: string, hint: string) => ({ code: 2, stderr: `kz: error: ${what} is missing\nkz: hint: kz add ${hint}\n` });
    expect(await add()).toMatchObject(missing('the variable’s name', 'GITHUB_TOKEN --provider store --ref github-pat'));
    expect(await add('NEW')).toMatchObject(missing('--provider', 'NEW --provider store --ref github-pat'));
    expect(await add('NEW', '-r', 'x')).toMatchObject(missing('--provider', 'NEW --provider store --ref x'));
    expect(await add('NEW', '-r', 'my x')).toMatchObject(missing('--provider', "NEW --provider store --ref 'my x'"));
    expect(await add('NEW', '-p', 'env')).toMatchObject(missing('--ref', 'NEW --provider env --ref GITHUB_TOKEN'));
    const value = `ghp_${randomBytes(18).toString('hex')}`;
    expect(await add('NEW', '-r', value)).toMatchObject(missing('--provider', 'NEW --provider store --ref github-pat'));
  });
});

describe('the file', () => {
  it('keeps CRLF and its byte order mark', async () => {
    story.config('\uFEFF# from Windows\r\n[secrets]\r\nA = { provider = "env", ref = "A" }\r\n');
    await add('B', '-p', 'env', '-r', 'B');
    expect(config()).toBe(
      '\uFEFF# from Windows\r\n[secrets]\r\nA = { provider = "env", ref = "A" }\r\nB = { provider = "env", ref = "B" }\r\n',
    );
  });

  it('keeps its mode, and stays the target of its link', async () => {
    const target = story.write('shared/secrets.toml', CONFIG);
    chmodSync(target, 0o640);
    symlinkSync('shared/secrets.toml', join(story.project, '.keyzero.toml'));
    expect(await add('NEW', '-p', 'env', '-r', 'NEW')).toMatchObject({ code: 0 });
    expect(statSync(target).mode & 0o777).toBe(0o640);
    expect(readFileSync(target, 'utf8')).toContain('NEW = ');
  });

  it('is at no moment open to more people than before', async () => {
    chmodSync(story.config(CONFIG), 0o600);
    const probe = story.write(
      'probe.cjs',
      `const fs = require('node:fs');
       const write = fs.writeFileSync;
       fs.writeFileSync = (path, ...rest) => {
         write(path, ...rest);
         write(2, 'written with mode ' + (fs.statSync(path).mode & 0o777).toString(8) + '\\n');
       };`,
    );
    const { stderr } = await story.kz(['add', 'NEW', '-p', 'env', '-r', 'NEW'], { env: { NODE_OPTIONS: `--require ${probe}` } });
    expect(stderr).toContain('written with mode 600\n');
    expect(stderr.match(/written with mode/g)).toHaveLength(1);
  });

  it('is not touched when it has mistakes, which are shown where they are', async () => {
    const broken = '[secrets]\nA = { provider = "env" }\n';
    story.config(broken);
    const { code, stderr } = await add('B', '-p', 'env', '-r', 'B');
    expect(code).toBe(1);
    expect(stderr).toContain(`${story.project}/.keyzero.toml:2:1: secrets.A has no ref`);
    expect(config()).toBe(broken);
  });

  it('is not touched when it is not TOML, or not text', async () => {
    for (const broken of ['= broken', Buffer.from('[secrets]\n# caf\xe9\n', 'latin1')]) {
      const path = story.write('.keyzero.toml', broken);
      const { code, stdout } = await add('B', '-p', 'env', '-r', 'B');
      expect([code, stdout]).toEqual([1, '']);
      expect(readFileSync(path)).toEqual(Buffer.from(broken));
    }
  });
});
