// What the quotes give back when a real shell reads them.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { fishQuote, shellQuote } from '../../src/cli/quote.ts';
import { NASTY, WITH_CARRIAGE_RETURN } from './nasty-values.ts';

const VALUES: Readonly<Record<string, string>> = { ...NASTY, ...WITH_CARRIAGE_RETURN, nothing: '' };

const FOLDER = mkdtempSync(join(tmpdir(), 'kz-quote-'));

afterAll(() => {
  rmSync(FOLDER, { recursive: true });
});

const SHELLS = [
  { shell: 'sh', args: [], quote: shellQuote },
  { shell: 'bash', args: [], quote: shellQuote },
  { shell: 'bash', args: ['--posix'], quote: shellQuote },
  { shell: 'zsh', args: ['-f'], quote: shellQuote },
  // Two quotes inside quotes are one quote here.
  { shell: 'zsh', args: ['-f', '-o', 'rcquotes'], quote: shellQuote },
  { shell: 'fish', args: ['--no-config'], quote: fishQuote },
] as const;

it.for(SHELLS)('$shell $args reads every value back', ({ shell, args, quote }, { skip }) => {
  skip(spawnSync(shell, ['-c', ':']).error !== undefined, `${shell} is not installed`);
  const names = Object.keys(VALUES);
  const script = join(FOLDER, `${shell}-script`);
  writeFileSync(script, names.map((name) => `printf '%s\\0' ${quote(VALUES[name] ?? '')}\n`).join(''));
  const { stdout } = spawnSync(shell, [...args, script], { encoding: 'utf8', env: { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8' } });
  const read = stdout.split('\0').slice(0, -1);
  expect(Object.fromEntries(read.map((value, index) => [names[index] ?? '', value]))).toEqual(VALUES);
});
