// Which configuration kz uses: where it looks, what wins, and what it says when it finds none or a bad one.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story, type Ended, type StartOptions } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end(['values.json']);
});

/** A config that declares one variable of this name. */
function declaring(name: string): string {
  return `[secrets]\n${name} = { provider = "env", ref = "SOURCE" }\n`;
}

function userConfig(text: string): string {
  const path = join(story.home, '.config/keyzero/config.toml');
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

async function names(args: readonly string[] = [], options: StartOptions = {}): Promise<string[]> {
  const { code, stdout, stderr } = await story.kz(['list', '--names', ...args], options);
  expect([code, stderr]).toEqual([0, '']);
  return stdout.split('\n').filter((name) => name !== '');
}

describe('the file', () => {
  it('is the one that is named, else the one of the project, else one above', async () => {
    story.write('by-flag.toml', declaring('BY_FLAG'));
    story.write('by-variable.toml', declaring('BY_VARIABLE'));
    story.write('session/.keyzero.toml', declaring('BY_SESSION'));
    story.write('session/deep/down/.keep', '');
    story.config(declaring('BY_FOLDER'));
    story.write('a/b/c/.keep', '');
    const cwd = join(story.project, 'a/b/c');
    const session = { CLAUDE_PROJECT_DIR: join(story.project, 'session/deep/down') };
    const variable = { KEYZERO_CONFIG: join(story.project, 'by-variable.toml') };
    expect(await names([], { cwd })).toEqual(['BY_FOLDER']);
    expect(await names([], { cwd, env: session })).toEqual(['BY_SESSION']);
    expect(await names([], { cwd, env: { ...session, ...variable } })).toEqual(['BY_VARIABLE']);
    expect(await names(['--config', '../../../by-flag.toml'], { cwd, env: { ...session, ...variable } })).toEqual(['BY_FLAG']);
    // A folder stands for the file in it; what is empty or relative is not there.
    expect(await names(['-c', '../../../session'], { cwd })).toEqual(['BY_SESSION']);
    expect(await names([], { cwd, env: { KEYZERO_CONFIG: '', CLAUDE_PROJECT_DIR: 'session' } })).toEqual(['BY_FOLDER']);
    expect(await names([], { cwd, env: { CLAUDE_PROJECT_DIR: story.home } })).toEqual(['BY_FOLDER']);
  });

  it('is not replaced by another one when the one that is named is not there', async () => {
    story.config(declaring('HERE'));
    expect(await story.kz(['list', '--config', 'gone.toml'])).toMatchObject({
      code: 1,
      stderr: `kz: error: --config names ${story.project}/gone.toml, which is not there\nkz: hint: check the path, or run \`kz init\` to write one\n`,
    });
    expect((await story.kz(['list'], { env: { KEYZERO_CONFIG: '/gone' } })).stderr).toContain(
      'KEYZERO_CONFIG names /gone, which is not there',
    );
  });

  it('is looked for in places that are told when there is none, as for an MCP client that starts kz in /', async () => {
    const { code, stdout, stderr } = await story.kz(['run', '--', 'true'], {
      cwd: '/',
      env: { CLAUDE_PROJECT_DIR: join(story.folder, 'elsewhere') },
    });
    expect([code, stdout]).toEqual([125, '']);
    const lines = stderr.split('\n');
    expect(lines[0]).toBe('kz: error: no .keyzero.toml found; looked for');
    expect(lines).toContain(`  ${story.folder}/elsewhere/.keyzero.toml`);
    expect(lines).toContain(`  ${story.folder}/.keyzero.toml`);
    expect(lines.filter((line) => line === '  /.keyzero.toml')).toHaveLength(1);
    expect(lines.slice(-3)).toEqual([
      `  ${story.home}/.config/keyzero/config.toml`,
      'kz: hint: run `kz init` in the project, or name a file: --config PATH or KEYZERO_CONFIG',
      '',
    ]);
  });

  it('may be a link', async () => {
    story.write('shared/secrets.toml', declaring('SHARED'));
    symlinkSync('shared/secrets.toml', join(story.project, '.keyzero.toml'));
    expect(await names()).toEqual(['SHARED']);
  });
});

describe('layers', () => {
  const refs = async (args: readonly string[] = []): Promise<Record<string, string>> => {
    const list = JSON.parse((await story.kz(['list', '--json', ...args])).stdout) as { name: string; ref: string }[];
    return Object.fromEntries(list.map(({ name, ref }) => [name, ref]));
  };
  const entries = (values: Record<string, string>): string =>
    Object.entries(values)
      .map(([name, ref]) => `${name} = { provider = "env", ref = "${ref}" }\n`)
      .join('');

  it('are the user’s, the project’s and the local file, and in each the environment wins', async () => {
    userConfig(
      `[secrets]\n${entries({ A: 'user', B: 'user', C: 'user', D: 'user' })}[production.secrets]\n${entries({ D: 'user-production' })}`,
    );
    story.config(
      `[secrets]\n${entries({ B: 'project', C: 'project', E: 'project' })}[production.secrets]\n${entries({ E: 'project-production' })}`,
    );
    story.write('.keyzero.local.toml', `[secrets]\n${entries({ C: 'local' })}`);
    expect(await refs()).toEqual({ A: 'user', B: 'project', C: 'local', D: 'user', E: 'project' });
    expect(await refs(['--env', 'production'])).toEqual({
      A: 'user',
      B: 'project',
      C: 'local',
      D: 'user-production',
      E: 'project-production',
    });
    // Beside a file that is named otherwise there is no local one.
    story.write('named.toml', `[secrets]\n${entries({ C: 'named' })}`);
    expect(await refs(['-c', 'named.toml'])).toMatchObject({ C: 'named' });
  });

  it('replace an entry whole', async () => {
    story.config('[secrets]\nA = { provider = "env", ref = "SOURCE", required = false, default = "x" }\n');
    story.write('.keyzero.local.toml', '[secrets]\nA = { provider = "env", ref = "MINE" }\n');
    expect((await story.kz(['status'], { env: { SOURCE: 'y' } })).stderr).toContain('A is missing (provider: env, ref: MINE)');
  });

  it('can be the user’s alone, when it declares something', async () => {
    userConfig(declaring('EVERYWHERE'));
    expect(await names()).toEqual(['EVERYWHERE']);
    userConfig('[providers.aws]\nregion = "eu-west-1"\n');
    expect((await story.kz(['list'])).stderr).toContain('no .keyzero.toml found');
  });

  it('resolve paths from the folder of the file that names them', async () => {
    const value = story.canary();
    story.write('config/values.json', JSON.stringify({ A: value }));
    story.write('config/.keyzero.toml', '[secrets]\nA = { provider = "file", ref = "values.json#A" }\n');
    story.write('config/deep/.keep', '');
    const get = (options: StartOptions): Promise<Ended> =>
      story.kz(['get', 'A', '--config', join(story.project, 'config')], { ...options, reveals: true });
    expect((await get({ cwd: '/' })).stdout).toBe(`${value}\n`);
    expect((await story.kz(['get', 'A'], { cwd: join(story.project, 'config/deep'), reveals: true })).stdout).toBe(`${value}\n`);
  });
});

describe('the environment', () => {
  beforeEach(() => {
    story.config(`${declaring('BASE')}[production.secrets]\nPRODUCTION = { provider = "env", ref = "P" }\n[staging.secrets]\n`);
  });

  it('is asked for with --env or KEYZERO_ENV', async () => {
    expect(await names()).toEqual(['BASE']);
    expect(await names([], { env: { KEYZERO_ENV: 'production' } })).toEqual(['BASE', 'PRODUCTION']);
    expect(await names(['--env', 'staging'], { env: { KEYZERO_ENV: 'production' } })).toEqual(['BASE']);
    expect(await names([], { env: { KEYZERO_ENV: '' } })).toEqual(['BASE']);
  });

  it('is guessed from what other tools use, if there is one of that name', async () => {
    for (const variable of ['NODE_ENV', 'RAILS_ENV', 'APP_ENV']) {
      expect(await names([], { env: { [variable]: 'production' } })).toEqual(['BASE', 'PRODUCTION']);
      expect(await names([], { env: { [variable]: 'test' } })).toEqual(['BASE']);
    }
    expect(await names([], { env: { KEYZERO_ENV: 'staging', NODE_ENV: 'production' } })).toEqual(['BASE']);
  });

  it('has to be one that is declared', async () => {
    const unknown = 'kz: error: unknown environment "prodution" (from --env)\nkz: hint: did you mean "production"?\n';
    expect(await story.kz(['list', '--env', 'prodution'])).toMatchObject({ code: 1, stdout: '', stderr: unknown });
    expect((await story.kz(['list'], { env: { KEYZERO_ENV: 'test' } })).stderr).toBe(
      'kz: error: unknown environment "test" (from KEYZERO_ENV)\nkz: hint: declared: production, staging; an empty [test.secrets] table declares one\n',
    );
    expect(await story.kz(['run', '--env', 'prodution', '--', 'true'])).toMatchObject({ code: 125, stderr: unknown });
  });
});

describe('--only', () => {
  it('gives the program the secrets that are named, and takes the others away', async () => {
    story.config(
      '[secrets]\nA = { provider = "env", ref = "SA" }\nB = { provider = "env", ref = "SB" }\nC = { provider = "store", ref = "gone" }\n',
    );
    const env = { SA: 'a', SB: 'b', B: 'inherited', C: 'inherited' };
    const show = ['--', process.execPath, '-p', 'JSON.stringify([process.env.A, process.env.B, process.env.C])'];
    expect(JSON.parse((await story.kz(['run', '--only', 'A', ...show], { env })).stdout)).toEqual(['a', null, null]);
    expect(JSON.parse((await story.kz(['run', '--only', 'A,B', ...show], { env })).stdout)).toEqual(['a', 'b', null]);
    expect(JSON.parse((await story.kz(['run', '--only', 'A', '--only', 'B', ...show], { env })).stdout)).toEqual(['a', 'b', null]);
    const unknown = await story.kz(['run', '--only', 'A,BB,X', ...show], { env });
    expect([unknown.code, unknown.stdout]).toEqual([125, '']);
    expect(unknown.stderr).toContain('BB is not declared in the configuration\nkz: hint: did you mean B?');
    expect(unknown.stderr).toContain('X is not declared');
  });
});
