// moto's server, which stands in for AWS in test/live/aws.test.ts, in a virtual environment in the user's cache. Nothing here is required:
// what cannot be made is said, and its tests are skipped.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const VERSION = '5.2.5';

const { XDG_CACHE_HOME = '' } = process.env;
const CACHE = XDG_CACHE_HOME === '' ? join(homedir(), '.cache') : XDG_CACHE_HOME;

/** Where it is, whether it was made or not. */
export const FOLDER = join(CACHE, 'kz-live', `moto-${VERSION}`);

/** Nobody waits longer for the downloads. */
const PATIENCE_MS = 300_000;

/** Makes what is not there yet; throws when that fails. Appears as a whole or not at all. */
export function install() {
  const unfinished = `${FOLDER}.${String(process.pid)}`;
  mkdirSync(dirname(FOLDER), { recursive: true });
  try {
    run('python3', ['-m', 'venv', '--without-pip', unfinished]);
    // Not venv's own pip: Debian keeps that in another package. And no scripts of the venv: they name the folder that they were made in.
    const packages = ['--quiet', '--disable-pip-version-check', '--only-binary=:all:', `moto[server]==${VERSION}`];
    run('python3', ['-m', 'pip', '--python', join(unfinished, 'bin/python'), 'install', ...packages]);
    renameSync(unfinished, FOLDER);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 */
function run(program, args) {
  execFileSync(program, args, { timeout: PATIENCE_MS, stdio: ['ignore', 'pipe', 'pipe'] });
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !existsSync(FOLDER)) {
  const start = performance.now();
  try {
    install();
    console.log(`moto: made in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    console.log(`moto: left out: ${error instanceof Error ? error.message : String(error)}`);
  }
}
