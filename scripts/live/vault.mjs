// The Vault server of test/live/vault.test.ts, built from its Go modules (vault/main.go) into the user's cache. Nothing here is required: what
// cannot be made is said, and its tests are skipped.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('./vault/', import.meta.url));
const { XDG_CACHE_HOME = '' } = process.env;
const CACHE = join(XDG_CACHE_HOME === '' ? join(homedir(), '.cache') : XDG_CACHE_HOME, 'kz-live');

/** Vault is a thousand packages: four minutes on two cores, with the downloads. */
const PATIENCE_MS = 900_000;

/** As the module says it, whatever the user has set. cgo would need a C compiler, for nothing. */
const GO_ENV = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-trimpath -buildvcs=false', GOWORK: 'off', GOTOOLCHAIN: 'local' };

/** What keeps tests from using it, in words. */
export function vaultProblem() {
  const version = goVersion();
  if (version === undefined) return 'no go';
  return existsSync(programOf(version)) ? undefined : 'vault was not made: node scripts/live/vault.mjs';
}

/** Where the program is, whether it was made or not. */
export function vaultProgram() {
  return programOf(goVersion() ?? '');
}

/** @param {string} version */
function programOf(version) {
  const hash = createHash('sha256').update(version);
  for (const name of ['go.mod', 'go.sum', 'main.go']) hash.update('\0').update(readFileSync(join(SOURCES, name)));
  return join(CACHE, `vault-${hash.digest('hex').slice(0, 12)}`);
}

function goVersion() {
  try {
    return execFileSync('go', ['env', 'GOVERSION'], { encoding: 'utf8', env: GO_ENV, stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

/** Builds it; throws when that fails. Appears as a whole or not at all. */
function make() {
  const program = vaultProgram();
  const unfinished = `${program}.${String(process.pid)}`;
  mkdirSync(CACHE, { recursive: true });
  try {
    execFileSync('go', ['build', '-ldflags=-s -w', '-o', unfinished, '.'], {
      cwd: SOURCES,
      env: GO_ENV,
      timeout: PATIENCE_MS,
      stdio: ['ignore', 'ignore', 'pipe'],
      maxBuffer: 2 ** 26,
    });
    renameSync(unfinished, program);
  } finally {
    rmSync(unfinished, { force: true });
  }
  const others = readdirSync(CACHE).filter((name) => /^vault-[0-9a-f]{12}$/.test(name) && name !== basename(program));
  for (const name of others) rmSync(join(CACHE, name));
}

/** @param {unknown} error */
function reason(error) {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ETIMEDOUT') return `not built within ${String(PATIENCE_MS / 60_000)} minutes`;
  // What the compiler says is at the end; what was downloaded comes before it.
  return error.message
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('go: downloading'))
    .slice(0, 10)
    .join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url) && vaultProblem() !== undefined) {
  const start = performance.now();
  try {
    if (goVersion() === undefined) throw new Error('no go');
    make();
    console.log(`vault: made in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    console.log(`vault: left out: ${reason(error)}`);
  }
}
