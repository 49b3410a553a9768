// `kz get` and `kz export`: the two commands that print values, exactly, and nothing when they cannot.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { Story, type Ended } from './kz.ts';
import { inShell } from './shell.ts';

let story: Story;
let token: string;

beforeEach(() => {
  story = new Story();
  token = story.canary();
  story.config(`[secrets]
TOKEN = { provider = "env", ref = "SOURCE" }
SPARE = { provider = "store", ref = "spare", required = false }
ELSEWHERE = { provider = "env", ref = "NOWHERE", required = false }
`);
});

afterEach(() => {
  story.end(['github-env', 'github-env.txt']);
});

const reveal = (args: readonly string[], env: Record<string, string> = {}): Promise<Ended> =>
  story.kz(args, { env: { SOURCE: token, ...env }, reveals: true });

describe('kz get', () => {
  it('prints the value and a newline, or without', async () => {
    expect(await reveal(['get', 'TOKEN'])).toMatchObject({ code: 0, stdout: `${token}\n`, stderr: '' });
    expect(await reveal(['get', 'TOKEN', '--no-newline'])).toMatchObject({ code: 0, stdout: token });
    expect(await reveal(['get', '-n', 'TOKEN'])).toMatchObject({ code: 0, stdout: token });
  });

  it('prints every byte as it is', async () => {
    const value = '  \t$HOME `id` \\n\r\n🔑 \u2028\n\n';
    expect(await reveal(['get', 'TOKEN', '-n'], { SOURCE: value })).toMatchObject({ stdout: value });
    expect(JSON.parse((await reveal(['get', 'TOKEN', '--json'], { SOURCE: value })).stdout)).toEqual({ name: 'TOKEN', value });
  });

  it('suggests a name', async () => {
    expect(await reveal(['get', 'TOKNE'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'kz: error: TOKNE is not declared in the configuration\nkz: hint: did you mean TOKEN?\n',
    });
    expect((await reveal(['get', 'OTHER'])).stderr).toContain('kz: hint: declared: TOKEN, SPARE, ELSEWHERE\n');
  });

  it('has nothing to print for an optional secret that is absent, and says where it could come from', async () => {
    expect(await reveal(['get', 'SPARE'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'kz: error: SPARE is optional and has no value\nkz: hint: run `kz put SPARE`\n',
    });
    expect((await reveal(['get', 'ELSEWHERE'])).stderr).toContain('kz: hint: change it at its source');
  });

  it('asks for this secret only', async () => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\nBAD = { provider = "exec", ref = "touch was-run" }\n');
    expect(await reveal(['get', 'TOKEN'])).toMatchObject({ code: 0, stderr: '' });
    expect((await inShell(story, 'ls')).stdout).toBe('');
  });
});

describe('kz export', () => {
  beforeEach(() => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\nOTHER = { provider = "env", ref = "SECOND" }\n');
  });

  it('is what a shell evaluates', async () => {
    const values = { SOURCE: `it's $HOME\n\`id\` "${token}"  `, SECOND: '\\' };
    const { stdout, stderr } = await inShell(
      story,
      'eval "$(kz export)"; printf "%s|%s|" "$TOKEN" "$OTHER"; sh -c \'printf %s "$OTHER"\'',
      values,
    );
    expect([stdout, stderr]).toEqual([`${values.SOURCE}|\\|\\`, '']);
  });

  it('is all or nothing', async () => {
    const { code, stdout, stderr } = await reveal(['export']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain('OTHER is missing');
    expect(stderr).not.toContain(token);
    expect(await reveal(['export', '--only', 'TOKEN'])).toMatchObject({ code: 0, stdout: `export TOKEN='${token}'\n`, stderr: '' });
    expect(await reveal(['export', '--only', 'TOKEN,OTHR'])).toMatchObject({ code: 1, stdout: '' });
  });

  it('refuses a value that the format cannot express, and prints none', async () => {
    const { code, stdout, stderr } = await reveal(['export', '--format', 'docker'], { SECOND: 'two\nlines' });
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toBe('kz: error: OTHER holds a line break, which the docker format cannot express\nkz: hint: use --format json\n');
  });

  it('has a form for each reader', async () => {
    const env = { SECOND: 'two words' };
    const values = { TOKEN: token, OTHER: 'two words' };
    expect(JSON.parse((await reveal(['export', '-f', 'json'], env)).stdout)).toEqual(values);
    expect(parseYaml((await reveal(['export', '-f', 'yaml'], env)).stdout)).toEqual(values);
    expect((await reveal(['export', '-f', 'docker'], env)).stdout).toBe(`TOKEN=${token}\nOTHER=two words\n`);
    expect((await reveal(['export', '-f', 'dotenv'], env)).stdout).toBe(`TOKEN=${token}\nOTHER='two words'\n`);
    expect((await reveal(['export', '-f', 'fish'], env)).stdout).toBe(`set -gx TOKEN '${token}'\nset -gx OTHER 'two words'\n`);
  });

  it('may lose its reader', async () => {
    const { stdout, stderr } = await inShell(story, 'kz export | head -1; kz export | true', { SOURCE: token, SECOND: 'x' });
    expect([stdout, stderr]).toEqual([`export TOKEN='${token}'\n`, '']);
  });

  it('masks in the log of GitHub Actions before it sets', async () => {
    const file = join(story.folder, 'github-env');
    writeFileSync(file, 'BEFORE=without a newline');
    const { stdout, stderr } = await reveal(['export', '--format', 'gha'], { GITHUB_ENV: file, SECOND: 'two\nlines 100%' });
    expect(stdout).toBe(`::add-mask::${token}\n::add-mask::two\n::add-mask::lines 100%25\n`);
    expect(stderr).toBe('kz: 2 secrets are masked in the log and set for the steps that follow\n');
    const lines = readFileSync(file, 'utf8').split('\n');
    const [first = '', second = ''] = [lines[1], lines[4]].map((line) => line?.split('<<')[1]);
    expect(lines).toEqual([
      'BEFORE=without a newline',
      `TOKEN<<${first}`,
      token,
      first,
      `OTHER<<${second}`,
      'two',
      'lines 100%',
      second,
      '',
    ]);
  });

  it('prints no mask outside of GitHub Actions, where it would show the value', async () => {
    const outside = await reveal(['export', '--format', 'gha'], { SECOND: 'x' });
    expect(outside).toMatchObject({ code: 2, stdout: '' });
    expect(outside.stderr).toContain('--format gha needs $GITHUB_ENV');
    expect(await reveal(['export', '--format', 'gha'], { SECOND: 'x', GITHUB_ENV: '/nowhere/github-env' })).toMatchObject({
      code: 1,
      stderr: 'kz: error: cannot append to $GITHUB_ENV (ENOENT)\n',
    });
  });
});
