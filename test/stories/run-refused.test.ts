// `kz run` when the program does not start: the status, the words, and that nothing else happened.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;
let token: string;

beforeEach(() => {
  story = new Story();
  token = story.canary();
  story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\n');
});

afterEach(() => {
  story.end();
});

describe('a program that cannot be started', () => {
  async function refused(args: readonly string[], env: Record<string, string> = {}): Promise<{ code: number | null; error: string }> {
    const { code, stdout, stderr } = await story.kz(['run', '--', ...args], { env: { SOURCE: token, ...env } });
    expect(stdout).toBe('');
    return { code, error: stderr };
  }

  it('is 127 when it is not on PATH, with the PATH that was searched', async () => {
    expect(await refused(['kz-no-such-program'], { PATH: '/usr/bin:/bin' })).toEqual({
      code: 127,
      error:
        'kz: error: kz-no-such-program is not on PATH (/usr/bin:/bin)\n' +
        'kz: hint: write the full path of the program; programs started from a desktop have a short PATH\n',
    });
  });

  it('is 127 when its path leads nowhere', async () => {
    expect(await refused(['./nowhere'])).toEqual({ code: 127, error: 'kz: error: ./nowhere is not there\n' });
    story.write('file', '');
    expect(await refused(['./file/below'])).toEqual({ code: 127, error: 'kz: error: ./file/below is not there\n' });
  });

  it('is 126 when it is not executable', async () => {
    story.write('plain.txt', 'x\n', 0o644);
    expect(await refused(['./plain.txt'])).toEqual({
      code: 126,
      error:
        'kz: error: ./plain.txt was found but cannot be executed\n' +
        'kz: hint: make it executable (chmod +x), or name its interpreter: kz run -- node ./plain.txt\n',
    });
  });

  it('is 126 when it is a folder', async () => {
    mkdirSync(join(story.project, 'folder'));
    expect(await refused(['./folder'])).toEqual({ code: 126, error: 'kz: error: ./folder is a folder, not a program\n' });
  });

  it('is 126 when its interpreter is missing', async () => {
    const path = story.write('kz-script', '#!/no/such/interpreter\n', 0o755);
    const error = (name: string): string =>
      `kz: error: ${name} names an interpreter that is not there\nkz: hint: look at its first line (#!)\n`;
    expect(await refused(['./kz-script'])).toEqual({ code: 126, error: error('./kz-script') });
    expect(await refused(['kz-script'], { PATH: `/usr/bin:${story.project}` })).toEqual({ code: 126, error: error(path) });
  });

  it('is 125 when the system refuses its arguments', async () => {
    const { code, error } = await refused(['true'], { HUGE: 'x'.repeat(131_000), PATH: '/usr/bin:/bin' });
    expect({ code, error }).toEqual({ code: 0, error: '' });
    const values = Array.from({ length: 17 }, (_, index) => [`HUGE_${String(index)}`, 'x'.repeat(120_000)] as const);
    // Too much for one execve together, but not for the execve that starts kz: the secret is what is added.
    story.config(`[secrets]\n${values.map(([name]) => `BIG_${name} = { provider = "env", ref = "${name}" }`).join('\n')}\n`);
    const long = await story.kz(['run', '--', 'true'], { env: Object.fromEntries(values) });
    expect({ code: long.code, stderr: long.stderr }).toEqual({ code: 125, stderr: 'kz: error: cannot start true (E2BIG)\n' });
  });

  it('is none when a script has no #! line: the shell runs it', async () => {
    story.write('plain', 'echo "plain $1"; exit 4\n', 0o755);
    const { code, stdout } = await story.kz(['run', '--', './plain', 'x'], { env: { SOURCE: token } });
    expect({ code, stdout }).toEqual({ code: 4, stdout: 'plain x\n' });
  });
});

describe('kz fails with 125 before the program starts', () => {
  /** The program would leave a file behind. */
  async function refused(env: Record<string, string> = {}, flags: readonly string[] = []): Promise<string> {
    const { code, stdout, stderr } = await story.kz(['run', ...flags, '--', 'sh', '-c', 'echo started > started'], { env });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(() => readFileSync(join(story.project, 'started'))).toThrow('ENOENT');
    return stderr;
  }

  it('when there is no configuration, with every place that was searched', async () => {
    const elsewhere = join(story.folder, 'elsewhere');
    mkdirSync(elsewhere);
    const { code, stderr } = await story.kz(['run', '--', 'true'], { cwd: elsewhere });
    expect(code).toBe(125);
    expect(stderr).toContain('kz: error: no .keyzero.toml found; looked for\n');
    expect(stderr).toContain(`\n  ${elsewhere}/.keyzero.toml\n`);
    expect(stderr).toContain(`\n  ${story.home}/.config/keyzero/config.toml\n`);
    expect(stderr).toContain('kz: hint: run `kz init` in the project, or name a file: --config PATH or KEYZERO_CONFIG\n');
  });

  it('when the named configuration is not there', async () => {
    expect(await refused({}, ['--config', '/nowhere.toml'])).toContain('kz: error: --config names /nowhere.toml, which is not there\n');
  });

  it('when the TOML is wrong, with the place', async () => {
    const file = story.config('[secrets]\nTOKEN = { provider = env, ref = "SOURCE" }\n');
    expect(await refused()).toContain(`kz: error: ${file}:2:22: not valid TOML: `);
  });

  it('when a key is unknown, with the place and what was meant', async () => {
    const file = story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", min_lenght = 3 }\n');
    expect(await refused({ SOURCE: token })).toBe(
      `kz: error: ${file}:2:45: unknown key "min_lenght" in secrets.TOKEN\nkz: hint: did you mean "min_length"?\n`,
    );
  });

  it('when a provider is unknown', async () => {
    const file = story.config('[secrets]\nTOKEN = { provider = "envv", ref = "SOURCE" }\n');
    const error = await refused({ SOURCE: token });
    expect(error).toContain(`kz: error: ${file}:2:`);
    expect(error).toContain('unknown provider "envv"\nkz: hint: did you mean "env"?\n');
  });

  it('when a provider has no address', async () => {
    story.config('[secrets]\nTOKEN = { provider = "keyzero", ref = "github/pat" }\n');
    expect(await refused()).toContain('kz: error: TOKEN: the kz server has no address: neither the config nor KEYZERO_URL names one\n');
  });

  it('when the environment is unknown', async () => {
    story.config('[secrets]\n[production.secrets]\n');
    expect(await refused({}, ['--env', 'prodution'])).toBe(
      'kz: error: unknown environment "prodution" (from --env)\nkz: hint: did you mean "production"?\n',
    );
  });

  it('when --only names what is not declared', async () => {
    expect(await refused({ SOURCE: token }, ['--only', 'TOKNE'])).toBe(
      'kz: error: TOKNE is not declared in the configuration\nkz: hint: did you mean TOKEN?\n',
    );
  });

  it('when a secret is missing', async () => {
    expect(await refused()).toBe(
      'kz: error: TOKEN is missing (provider: env, ref: SOURCE)\nkz: hint: set SOURCE in the environment that starts kz\n',
    );
  });

  it('when two are missing, with both', async () => {
    story.config(
      '[secrets]\nONE = { provider = "env", ref = "A" }\nFINE = { provider = "env", ref = "B" }\nTWO = { provider = "store", ref = "c" }\n',
    );
    expect(await refused({ B: token })).toBe(
      'kz: error: ONE is missing (provider: env, ref: A)\nkz: hint: set A in the environment that starts kz\n' +
        'kz: error: TWO is missing (provider: store, ref: c)\nkz: hint: run `kz put TWO`\n',
    );
  });

  it('when a secret is empty', async () => {
    expect(await refused({ SOURCE: '' })).toContain('kz: error: TOKEN is empty (provider: env, ref: SOURCE)\n');
  });

  it.each([
    ['too short', 'min_length = 500', `has 31 characters, fewer than min_length = 500`],
    ['too long', 'max_length = 5', 'has 31 characters, more than max_length = 5'],
    ['without its prefix', 'starts_with = "ghp_"', 'does not start with "ghp_"'],
    ['of the wrong shape', 'pattern = "[0-9]+"', 'does not match its pattern'],
    ['none of the choices', 'one_of = ["a", "b"]', 'is none of the values in one_of'],
    ['not of its type', 'type = "url"', 'is not of type url'],
  ])('when a secret is %s', async (_, rule, problem) => {
    story.config(`[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", ${rule} }\n`);
    expect(await refused({ SOURCE: token })).toBe(
      `kz: error: TOKEN ${problem} (provider: env, ref: SOURCE)\nkz: hint: correct SOURCE in the environment that starts kz\n`,
    );
  });

  it('when a secret is too long for any environment', async () => {
    const path = story.write('long', `${token}${'x'.repeat(140_000)}`);
    story.config(`[secrets]\nTOKEN = { provider = "file", ref = "${path}" }\n`);
    expect(await refused()).toContain('kz: error: TOKEN is too long for an environment variable (more than 128 KiB)\n');
    writeFileSync(path, '');
  });

  it('when the list after --only is empty, which would mean no secret at all', async () => {
    expect(await refused({ SOURCE: token }, ['--only', ''])).toContain('kz: error: an empty list of names\n');
  });
});
