// What the update of `kz hook` does to the variables of a real shell.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOOK_SCRIPTS, HOOK_SHELLS, parseState, previousName, updateScript, type HookShell } from '../../src/cli/hook-script.ts';
import { NASTY, WITH_CARRIAGE_RETURN } from './nasty-values.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'kz-hook-'));
const FINGERPRINT = 'f'.repeat(64);

beforeAll(() => {
  // A kz that has nothing to say.
  writeFileSync(join(FOLDER, 'kz'), '#!/bin/sh\n', { mode: 0o755 });
});

afterAll(() => {
  rmSync(FOLDER, { recursive: true });
});

const ARGS: Readonly<Record<HookShell, readonly string[]>> = { bash: ['--norc'], zsh: ['-f'], fish: ['--no-config'] };

function isMissing(shell: HookShell): boolean {
  return spawnSync(shell, ['-c', ':']).error !== undefined;
}

/** The exported variables after every step, evaluated one after the other as the hook does. */
function after(shell: HookShell, steps: readonly string[], env: Record<string, string> = {}, complaint = ''): Record<string, string>[] {
  const lines = steps.map((step, index) => {
    const path = join(FOLDER, `step-${String(index)}`);
    writeFileSync(path, step);
    return `${shell === 'fish' ? `cat ${path} | source` : `eval "$(cat ${path})"`}\nenv -0\nprintf 'next\\0'\n`;
  });
  const script = join(FOLDER, 'script');
  writeFileSync(script, lines.join(''));
  const { stdout, stderr } = spawnSync(shell, [...ARGS[shell], script], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', HOME: FOLDER, ...env },
    maxBuffer: 1e8,
  });
  expect(stderr).toBe(complaint);
  return stdout
    .split('next\0')
    .slice(0, -1)
    .map((part) =>
      Object.fromEntries(part.split('\0').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)])),
    );
}

const nothing = { from: '', names: [] };

describe.each(HOOK_SHELLS)('in %s', (shell) => {
  const there = it.skipIf(isMissing(shell));

  there('sets every value as it is', () => {
    const values = Object.values({ ...NASTY, ...WITH_CARRIAGE_RETURN });
    const variables = values.map((value, index) => ({ name: `V${String(index)}`, value }));
    const [set = {}] = after(shell, [updateScript(shell, nothing, FINGERPRINT, variables)]);
    expect(variables.map(({ name }) => set[name])).toEqual(values);
  });

  there('gives back what was there before, and takes away what was not', () => {
    const loaded = { from: FINGERPRINT, names: ['A', 'B', 'C'] };
    const variables = loaded.names.map((name) => ({ name, value: `new ${name}` }));
    const steps = [updateScript(shell, nothing, FINGERPRINT, variables), updateScript(shell, loaded, 'none', [])];
    const [inside = {}, outside = {}] = after(shell, steps, { A: "it's $HOME\n\\", B: '' });
    expect(inside).toMatchObject({ A: 'new A', B: 'new B', C: 'new C', __kz_state: `${FINGERPRINT} A B C` });
    expect(outside).toMatchObject({ A: "it's $HOME\n\\", B: '', __kz_state: 'none' });
    expect(outside).not.toHaveProperty('C');
    expect(Object.keys(outside).filter((name) => name.startsWith('__kz_was'))).toEqual([]);
  });

  there('remembers the value from before the first folder, not that of the folder before', () => {
    const first = updateScript(shell, nothing, FINGERPRINT, [{ name: 'A', value: 'one' }]);
    const second = updateScript(shell, { from: FINGERPRINT, names: ['A'] }, FINGERPRINT, [{ name: 'A', value: 'two' }]);
    const last = updateScript(shell, { from: FINGERPRINT, names: ['A'] }, 'none', []);
    expect(after(shell, [first, second, last], { A: 'zero' }).map(({ A }) => A)).toEqual(['one', 'two', 'zero']);
    expect(after(shell, [first, second, last]).map(({ A }) => A)).toEqual(['one', 'two', undefined]);
  });

  there('lets a shell that was started inside the folder leave it too', () => {
    const [inside = {}] = after(shell, [updateScript(shell, nothing, FINGERPRINT, [{ name: 'A', value: 'secret' }])], { A: 'mine' });
    const state = parseState(shell, inside.__kz_state ?? '');
    const [left = {}] = after(shell, [updateScript(shell, state, 'none', [])], inside);
    expect(left.A).toBe('mine');
    expect(left).not.toHaveProperty(previousName('A'));
  });

  there('leaves to the shell alone what was the shell’s alone', () => {
    const loaded = { from: FINGERPRINT, names: ['A', 'B'] };
    const variables = loaded.names.map((name) => ({ name, value: `new ${name}` }));
    const steps = [
      shell === 'fish' ? "set -g A 'my own'\nset -gx B mine\n" : "A='my own'\nexport B=mine\n",
      updateScript(shell, nothing, FINGERPRINT, variables),
      updateScript(shell, loaded, 'none', []),
      'export A\n',
    ];
    const [before = {}, inside = {}, outside = {}, last = {}] = after(
      shell,
      shell === 'fish' ? [...steps.slice(0, 3), 'set -x A $A'] : steps,
    );
    expect(before).not.toHaveProperty('A');
    expect(inside).toMatchObject({ A: 'new A', B: 'new B', [previousName('B')]: 'mine' });
    expect(inside).not.toHaveProperty(previousName('A'));
    expect(outside).not.toHaveProperty('A');
    expect(outside).toMatchObject({ B: 'mine' });
    expect(last).toMatchObject({ A: 'my own', B: 'mine' });
    expect(Object.keys(outside).filter((name) => name.startsWith('__kz_was'))).toEqual([]);
  });

  there('takes everything back, also after a value that the shell did not take', () => {
    // Read-only in each shell. The hook does not get this far with it.
    const bad = { bash: 'PPID', zsh: 'status', fish: 'status' }[shell];
    const names = ['A', bad, 'C'];
    const path = join(FOLDER, 'update');
    const set = updateScript(shell, nothing, FINGERPRINT, names.map((name) => ({ name, value: `new ${name}` }))); // prettier-ignore
    const script = shell === 'fish' ? `cat ${path} | source; env` : `set -e; eval "$(cat ${path})"; env`;
    writeFileSync(path, set);
    const env = { PATH: process.env.PATH ?? '', HOME: FOLDER };
    const { stdout, status } = spawnSync(shell, [...ARGS[shell], '-c', script], { encoding: 'utf8', env });
    expect(status).toBe(0);
    expect(stdout).toContain('A=new A\n');
    expect(stdout).toContain('C=new C\n');
    writeFileSync(path, set + updateScript(shell, { from: FINGERPRINT, names }, 'none', []));
    const left = spawnSync(shell, [...ARGS[shell], '-c', script], { encoding: 'utf8', env });
    expect(left.status).toBe(0);
    expect(left.stdout).toContain('__kz_state=none\n');
    expect(left.stdout).not.toMatch(/^(?:A|C|__kz_was_\w+)=/m);
  });

  there('remembers what it sets before it sets it', () => {
    const lines = updateScript(shell, nothing, FINGERPRINT, [{ name: 'A', value: 'new' }]).split('\n');
    const state = lines.findIndex((line) => line.includes('__kz_state'));
    expect(state).toBeGreaterThan(0);
    expect(lines.findIndex((line) => line.includes("'new'"))).toBeGreaterThan(state);
  });

  there('is loaded by a start-up file without a word, also with unset variables as errors', () => {
    const strict = { bash: 'set -eu\n', zsh: 'setopt err_exit no_unset\n', fish: '' }[shell];
    const call = { bash: '_kz_prompt; _kz_prompt', zsh: '_kz_prompt; _kz_hook', fish: '_kz_prompt; _kz_folder' }[shell];
    const script = join(FOLDER, 'start');
    writeFileSync(script, `${strict}${HOOK_SCRIPTS[shell]}${call}\necho "end"\n`);
    const env = { PATH: `${FOLDER}:${process.env.PATH ?? ''}`, HOME: FOLDER };
    expect(spawnSync(shell, [...ARGS[shell], script], { encoding: 'utf8', env })).toMatchObject({ stdout: 'end\n', stderr: '' });
  });
});

describe.each(['bash', 'zsh'] as const)('in %s', (shell) => {
  it.skipIf(isMissing(shell)).each(['readonly A=1', 'A=(1 2)', 'typeset -i A=1'])('leaves alone: %s', (line) => {
    const steps = [
      `${line}\n`,
      updateScript(shell, nothing, FINGERPRINT, [
        { name: 'A', value: 'x[$(echo run >&2)]' },
        { name: 'B', value: 'new' },
      ]),
      updateScript(shell, { from: FINGERPRINT, names: ['A', 'B'] }, 'none', []),
      'B="${A[*]}"; export B\n',
    ];
    const [, inside = {}, outside = {}, last = {}] = after(shell, steps, {}, 'kz: A is not set: in this shell it is no plain variable\n');
    expect(inside).toMatchObject({ B: 'new' });
    expect(inside).not.toHaveProperty('A');
    expect(outside).not.toHaveProperty('B');
    expect(last.B).toMatch(/^1(?: 2)?$/);
  });

  it.skipIf(isMissing(shell))('takes no function for a variable, and heeds no option of the user', () => {
    const options = { bash: 'set -aeu', zsh: 'setopt err_exit no_unset all_export ksh_arrays sh_word_split warn_create_global' }[shell];
    const steps = [
      `A() { echo function; }; ${options}\n`,
      updateScript(shell, nothing, FINGERPRINT, [{ name: 'A', value: 'a  b' }]),
      updateScript(shell, { from: FINGERPRINT, names: ['A'] }, 'none', []),
      'export B="$(A)"\n',
    ];
    const [, inside = {}, outside = {}, last = {}] = after(shell, steps);
    expect(inside.A).toBe('a  b');
    expect(outside).not.toHaveProperty('A');
    expect(last.B).toBe('function');
  });
});

describe('bash', () => {
  const prompt = (before: string): string => {
    const script = `${before}\n${HOOK_SCRIPTS.bash}${HOOK_SCRIPTS.bash}printf %s "$PROMPT_COMMAND"`;
    return spawnSync('bash', ['-c', script], { encoding: 'utf8' }).stdout;
  };

  it('is asked first at every prompt, once, and keeps what was there', () => {
    expect(prompt('unset PROMPT_COMMAND')).toBe('_kz_prompt');
    expect(prompt("PROMPT_COMMAND='history -a; other'")).toBe('_kz_prompt;history -a; other');
  });

  it('leaves the status of the last command to what is asked after it', () => {
    const script = `${HOOK_SCRIPTS.bash}sh -c 'exit 7'\n_kz_prompt\necho "$?"\nsh -c 'exit 8'\n_kz_prompt\necho "$?"\n`;
    const { stdout } = spawnSync('bash', ['-c', script], { encoding: 'utf8', env: { PATH: `${FOLDER}:${process.env.PATH ?? ''}` } });
    expect(stdout).toBe('7\n8\n');
  });
});

describe('the state', () => {
  it('is read back as it was written', () => {
    expect(parseState('bash', `${FINGERPRINT} A B_1`)).toEqual({ from: FINGERPRINT, names: ['A', 'B_1'] });
    expect(parseState('bash', 'waiting')).toEqual({ from: 'waiting', names: [] });
    expect(parseState('bash', '')).toEqual({ from: '', names: [] });
  });

  it('takes no name that the hook could not have set', () => {
    expect(parseState('zsh', 'none __kz_state path').names).toEqual([]);
    expect(parseState('bash', 'none PATH LD_PRELOAD $(id) A;id KEYZERO_ENV  OK __proto__').names).toEqual(['OK']);
  });
});
