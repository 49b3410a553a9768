// Configurations that kz does not accept: each problem with its place, all at once, and nothing falls back to something else.
import { chmodSync, chownSync, readdirSync, writeFileSync } from 'node:fs';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collect, KZ, NODE, Story, type Ended } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

/** The lines of standard error, without the path of the config. */
async function problems(config: string | Buffer, args: readonly string[] = ['list']): Promise<string[]> {
  story.write('.keyzero.toml', config);
  const { code, stdout, stderr } = await story.kz(args);
  expect([code, stdout]).toEqual([1, '']);
  return stderr.trimEnd().replaceAll(`${story.project}/`, '').split('\n');
}

describe('a config', () => {
  it.each([
    ['kz.internal:8443', 'url "kz.internal:8443" is no http or https URL', 'write it as `https://kz.internal`'],
    ['ftp://kz.internal', 'url "ftp://kz.internal" is no http or https URL', 'write it as `https://kz.internal`'],
    ['http://kz.internal', 'url "http://kz.internal" would be sent a JWT in the clear', 'write `https://`; http is for this machine only'],
    ['http://a:CANARY-pw@kz.internal', 'url would be sent a JWT in the clear', 'write `https://`; http is for this machine only'],
    ['kz.internal', 'url "kz.internal" does not have the right form', 'an address with its scheme: "https://kz.internal"'],
  ])('with a kz server at %s', async (url, message, hint) => {
    const config = `[providers.keyzero]\nurl = "${url}"\n[secrets]\n`;
    expect(await problems(config, ['validate'])).toEqual([`kz: error: .keyzero.toml:2:1: ${message}`, `kz: hint: ${hint}`]);
  });

  it('with an unknown key, at any level', async () => {
    expect(await problems('[secrets]\nA = { provider = "env", ref = "A", requird = false }\n')).toEqual([
      'kz: error: .keyzero.toml:2:36: unknown key "requird" in secrets.A',
      'kz: hint: did you mean "required"?',
    ]);
    expect(await problems('[secret]\n')).toEqual([
      'kz: error: .keyzero.toml:1:2: unknown key "secret"',
      'kz: hint: did you mean "secrets"?',
    ]);
    expect((await problems('[production.secrets]\nA = { provider = "env", ref = "A", x = 1 }\n'))[0]).toBe(
      'kz: error: .keyzero.toml:2:36: unknown key "x" in production.secrets.A',
    );
  });

  it('with an unknown provider, a wrong type, a missing key or a bad name', async () => {
    expect(await problems('[secrets]\nA = { provider = "keychian", ref = "a" }\n')).toEqual([
      'kz: error: .keyzero.toml:2:7: unknown provider "keychian"',
      'kz: hint: did you mean "keychain"?',
    ]);
    expect((await problems('[secrets]\n\n\nA = { provider = "env", ref = 7 }\n'))[0]).toBe(
      'kz: error: .keyzero.toml:4:25: ref is a number, not a string',
    );
    expect(await problems('[secrets]\nA = { provider = "env" }\n')).toEqual([
      'kz: error: .keyzero.toml:2:1: secrets.A has no ref',
      'kz: hint: add `ref = …`',
    ]);
    expect((await problems('[secrets]\nPATH = { provider = "env", ref = "a" }\n'))[0]).toContain(
      '.keyzero.toml:2:1: PATH cannot be a secret',
    );
    expect((await problems('[secrets]\nA = { provider = "env", ref = "a", pattern = "(" }\n'))[0]).toContain(
      'is not a valid regular expression',
    );
  });

  it('with a sandbox that is no word and no table of it', async () => {
    expect(await problems('[secrets]\n[blind]\nsandbox = "strickt"\n')).toEqual([
      'kz: error: .keyzero.toml:3:1: unknown sandbox "strickt"',
      'kz: hint: did you mean "strict"?',
    ]);
    expect(await problems('[blind.sandbox]\nmode = "of"\nread = "data"\nallow_loopback = ["5432"]\nwrites = []\n')).toEqual([
      'kz: error: .keyzero.toml:2:1: unknown mode "of"',
      'kz: hint: did you mean "off"?',
      'kz: error: .keyzero.toml:3:1: read is a string, not a list',
      'kz: hint: read = ["data"]',
      'kz: error: .keyzero.toml:4:19: allow_loopback is a string, not a number',
      'kz: hint: without quotes: 5432',
      'kz: error: .keyzero.toml:5:1: unknown key "writes" in blind.sandbox',
      'kz: hint: did you mean "write"?',
    ]);
  });

  it('with several problems, in several files, all at once', async () => {
    story.write('.keyzero.local.toml', '[secrets]\nC = { provider = "env", ref = "" }\n');
    const lines = await problems(
      '[secrets]\nA = { provider = "envv", ref = "A" }\nB = { provider = "env", ref = "B", min_length = -1 }\n\n[extra]\n',
    );
    const errors = lines.filter((line) => line.startsWith('kz: error:'));
    expect(errors.map((line) => line.split(' ')[2])).toEqual([
      '.keyzero.toml:5:2:',
      '.keyzero.toml:2:7:',
      '.keyzero.toml:3:36:',
      '.keyzero.local.toml:2:25:',
    ]);
  });

  it('that is not TOML, without a line of it in the message', async () => {
    const value = story.canary();
    story.write('.keyzero.toml', `[secrets]\nA = { provider = "env", ref = "A"\nTOKEN=${value}\n`);
    const { code, stderr } = await story.kz(['list']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^kz: error: .*\.keyzero\.toml:\d+:\d+: not valid TOML: .*\n$/);
    // The story's end looks for the value in the files that are left.
    story.config('');
  });

  it('that is not text', async () => {
    expect(await problems(Buffer.from('[secrets]\n# caf\xe9\n', 'latin1'))).toEqual([
      'kz: error: cannot read .keyzero.toml: it is not UTF-8 text',
    ]);
  });

  it('stops every command, and validate says so in JSON too', async () => {
    story.config('[secrets]\nA = { provider = "env" }\n');
    for (const args of [['status'], ['get', 'A'], ['export'], ['put', 'A'], ['rm', 'A', '-y'], ['validate'], ['trust']]) {
      expect(await story.kz(args, { input: 'x' })).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining(':2:1: secrets.A has no ref') as string,
      });
    }
    expect(await story.kz(['run', '--', 'true'])).toMatchObject({ code: 125, stdout: '' });
    const { code, stdout, stderr } = await story.kz(['validate', '--json']);
    expect([code, stderr]).toEqual([1, '']);
    expect(JSON.parse(stdout)).toEqual({
      schema_version: 1,
      valid: false,
      problems: [
        {
          code: 'config-invalid',
          message: 'secrets.A has no ref',
          hint: 'add `ref = …`',
          file: `${story.project}/.keyzero.toml`,
          line: 2,
          column: 1,
        },
      ],
      warnings: [],
    });
    expect(readdirSync(story.home)).toEqual([]);
  });
});

describe('kz validate', () => {
  it('names the files, counts what they declare, and asks no provider', async () => {
    story.config(
      '[secrets]\nA = { provider = "exec", ref = "touch was-run" }\n[production.secrets]\nB = { provider = "env", ref = "B" }\n',
    );
    expect(await story.kz(['validate'])).toMatchObject({
      code: 0,
      stdout: `${story.project}/.keyzero.toml: ok\ndeclares 1 secret; environments: production\n`,
      stderr: '',
    });
    expect((await story.kz(['validate', '--env', 'production'])).stdout).toContain(
      'declares 2 secrets; environments: production (active)\n',
    );
    expect(readdirSync(story.project)).toEqual(['.keyzero.toml']);
  });

  it('shows no control character of a name', async () => {
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\n["x\\u001B]0;title\\u0007\\nkz: hint: run".secrets]\n');
    const { stdout, stderr } = await story.kz(['validate']);
    // eslint-disable-next-line no-control-regex -- none of them may be there
    expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000B-\u001F]|^kz: hint: run/m);
    expect(stdout + stderr).toContain(String.raw`x\u001b]0;title\u0007\nkz: hint: run`);
  });
});

/** Runs kz as a user who is not root. */
const NOBODY = 65_534;
const SOMEBODY = 65_533;
const AS_NOBODY = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', NODE, KZ];
const isRoot = process.getuid?.() === 0;
const canBeNobody = isRoot && spawnSync('setpriv', [...AS_NOBODY, '--version'], { cwd: '/' }).status === 0;

describe('a config that somebody else could have planted', () => {
  const asNobody = (args: readonly string[]): Promise<Ended> =>
    collect(spawn('setpriv', [...AS_NOBODY, ...args], { cwd: story.project, env: story.environment(), stdio: ['ignore', 'pipe', 'pipe'] }));

  beforeEach(() => {
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\n');
    for (const path of ['', 'home', 'project', 'project/.keyzero.toml']) if (isRoot) chownSync(join(story.folder, path), NOBODY, NOBODY);
  });

  it.skipIf(!canBeNobody)('is refused when it belongs to another user, unless it is named', async () => {
    const path = join(story.project, '.keyzero.toml');
    expect(await asNobody(['list', '--names'])).toMatchObject({ code: 0, stdout: 'A\n' });
    chownSync(path, SOMEBODY, SOMEBODY);
    expect(await asNobody(['list', '--names'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: `kz: error: ${path} belongs to another user\nkz: hint: if you trust it, name it: --config ${path}\n`,
    });
    expect(await asNobody(['list', '--names', '--config', path])).toMatchObject({ code: 0, stdout: 'A\n' });
    chownSync(path, 0, 0);
    expect(await asNobody(['list', '--names'])).toMatchObject({ code: 0, stdout: 'A\n' });
  });

  it.skipIf(!canBeNobody && isRoot)('is refused when anybody can write it', async () => {
    const path = join(story.project, '.keyzero.toml');
    chmodSync(path, 0o666);
    const run = isRoot ? asNobody : (args: readonly string[]): Promise<Ended> => story.kz(args);
    expect(await run(['list'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: `kz: error: ${path} can be written by anybody\nkz: hint: run \`chmod o-w ${path}\`, or if you trust it, name it: --config ${path}\n`,
    });
  });

  it.skipIf(!canBeNobody && isRoot)('cannot be read: that is an error, not a reason to look elsewhere', async () => {
    writeFileSync(join(story.folder, '.keyzero.toml'), '[secrets]\nABOVE = { provider = "env", ref = "A" }\n');
    const path = join(story.project, '.keyzero.toml');
    chmodSync(path, 0o000);
    const run = isRoot ? asNobody : (args: readonly string[]): Promise<Ended> => story.kz(args);
    expect(await run(['list'])).toMatchObject({ code: 1, stdout: '', stderr: `kz: error: cannot read ${path}: EACCES\n` });
    chmodSync(path, 0o600);
  });
});
