// The completion scripts in the shells that they are for.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.ts';
import { COMPLETION_SHELLS, completionScript, type CompletionShell } from '../../src/cli/completion-script.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'kz-completion-'));

beforeAll(() => {
  writeFileSync(join(FOLDER, 'kz'), '#!/bin/sh\n[ "$*" = "list --names --quiet" ] && printf "GITHUB_TOKEN\\nDATABASE_URL\\n"\n', {
    mode: 0o755,
  });
  writeFileSync(join(FOLDER, 'kzprogram'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(FOLDER, 'a file.pem'), '');
  for (const shell of COMPLETION_SHELLS) writeFileSync(join(FOLDER, `script.${shell}`), completionScript(shell));
});

afterAll(() => {
  rmSync(FOLDER, { recursive: true });
});

function isMissing(shell: CompletionShell): boolean {
  return spawnSync(shell, ['-c', ':']).error !== undefined;
}

function run(shell: CompletionShell, args: readonly string[]): string {
  const env = { PATH: `${FOLDER}:${process.env.PATH ?? ''}`, HOME: FOLDER, LC_ALL: 'C.UTF-8' };
  const { stdout, stderr } = spawnSync(shell, [...args], { encoding: 'utf8', env, cwd: FOLDER });
  expect(stderr).toBe('');
  return stdout;
}

/** What the shell offers for the last word of the line. */
const OFFERED: Readonly<Record<CompletionShell, (words: readonly string[]) => string>> = {
  bash(words) {
    const program = 'source script.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kz; printf "%s\\n" "${COMPREPLY[@]}"';
    return run('bash', ['--norc', '-c', program, 'bash', ...words]);
  },
  // Outside of its line editor zsh completes nothing: its own functions say what they were given.
  zsh(words) {
    const program = `
      autoload -Uz compinit && compinit -u -D
      _describe() { print -l -- \${\${(P)2}%%:*} }
      compadd() { shift; print -l -- "$@" }
      _files() { print -l -- *(N) }
      _normal() { print -l -- "program:$words[CURRENT]" }
      source script.zsh
      words=("$@")
      CURRENT=$#
      $_comps[kz]`;
    return run('zsh', ['-f', '-c', program, 'zsh', ...words]);
  },
  fish(words) {
    return run('fish', ['--no-config', '-c', `source script.fish; complete -C '${words.join(' ')}' | string replace -r '\\t.*' ''`]);
  },
};

describe.each(COMPLETION_SHELLS)('%s', (shell) => {
  const there = it.skipIf(isMissing(shell));
  const offered = (...words: string[]): string[] => {
    const lines = OFFERED[shell](['kz', ...words]).split('\n');
    return lines.filter((line) => line.startsWith(words.at(-1) ?? '') && line !== '').sort();
  };

  there('finds no mistake in the script', () => {
    expect(run(shell, ['-n', `script.${shell}`])).toBe('');
  });

  there('completes commands', () => {
    expect(offered('r')).toEqual(['rm', 'run']);
    expect(offered('')).toEqual(COMMANDS.map(({ name }) => name).sort());
    expect(offered('help', 'r')).toEqual(['rm', 'run']);
  });

  there('completes names of secrets', () => {
    for (const command of ['get', 'put', 'set', 'rm']) expect(offered(command, 'G')).toEqual(['GITHUB_TOKEN']);
    expect(offered('get', '')).toEqual(['DATABASE_URL', 'GITHUB_TOKEN']);
    expect(offered('run', '--only', 'D')).toEqual(['DATABASE_URL']);
  });

  there('completes what a flag takes', () => {
    expect(offered('hook', '--shell', '')).toEqual(['bash', 'fish', 'zsh']);
    expect(offered('completion', 'z')).toEqual(['zsh']);
    expect(offered('export', '--format', 'do')).toEqual(['docker', 'dotenv']);
    expect(offered('export', '-f', 'g')).toEqual(['gha']);
  });

  there('leaves the program behind -- to the shell', () => {
    const program = shell === 'zsh' ? 'program:kzprog' : 'kzprogram';
    const lines = OFFERED[shell](['kz', 'run', '--only', 'A', '--', 'kzprog']).split('\n');
    expect(lines).toContain(program);
    const inner = OFFERED[shell](['kz', 'run', '--', 'cat', '--', 'GITH']).split('\n');
    expect(inner).not.toContain('GITHUB_TOKEN');
  });
});

it('has no command that it does not complete, and none that would break its quotes', () => {
  for (const shell of COMPLETION_SHELLS) {
    for (const { name } of COMMANDS) expect(completionScript(shell)).toContain(name);
  }
  for (const { summary } of COMMANDS) expect(summary).not.toMatch(/['\\`$]/);
});
