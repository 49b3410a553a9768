// The Open Policy Agent, built once from its Go module into the user's cache. Nothing requires it: without it its rows are left out.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const OPA_VERSION = 'v1.14.0';
const { XDG_CACHE_HOME = '' } = process.env;
const CACHE = join(XDG_CACHE_HOME === '' ? join(homedir(), '.cache') : XDG_CACHE_HOME, 'kz-live');
/** A few hundred packages and their downloads, on two cores. */
const PATIENCE_MS = 900_000;

/** @returns {{ program: string } | { problem: string }} */
export function opaProgram() {
  const program = join(CACHE, `opa-${OPA_VERSION}`);
  if (existsSync(program)) return { program };
  mkdirSync(CACHE, { recursive: true });
  const draft = mkdtempSync(`${program}-`);
  try {
    console.error(`building OPA ${OPA_VERSION}, once`);
    execFileSync('go', ['install', '-ldflags=-s -w', `github.com/open-policy-agent/opa@${OPA_VERSION}`], {
      env: { ...process.env, GOBIN: draft, CGO_ENABLED: '0', GOFLAGS: '-trimpath -buildvcs=false', GOWORK: 'off', GOTOOLCHAIN: 'local' },
      timeout: PATIENCE_MS,
      stdio: ['ignore', 'ignore', 'pipe'],
      maxBuffer: 2 ** 26,
    });
    renameSync(join(draft, 'opa'), program);
    return { program };
  } catch (error) {
    return { problem: reasonOf(error) };
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** @param {unknown} error */
function reasonOf(error) {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ENOENT') return 'there is no go';
  if ('code' in error && error.code === 'ETIMEDOUT') return `not built within ${String(PATIENCE_MS / 60_000)} minutes`;
  const lines = error.message.split('\n').filter((line) => line !== '' && !/^(?:go: downloading|Command failed)/.test(line));
  return (lines.at(-1) ?? 'it cannot be built').slice(0, 200);
}
