// The MCP servers of mcp/package.json, installed once into a cache folder outside of the clone.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const LISTED = fileURLToPath(new URL('./mcp/', import.meta.url));

/** The folder of the packages, or a sentence that says why there is none. */
export function installed(): { readonly packages: string } | { readonly problem: string } {
  const lock = readFileSync(join(LISTED, 'package-lock.json'));
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kz-live');
  const folder = join(cache, `mcp-${createHash('sha256').update(lock).digest('hex').slice(0, 12)}`);
  if (!existsSync(folder)) {
    const fresh = `${folder}.${String(process.pid)}`;
    try {
      mkdirSync(fresh, { recursive: true });
      for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(LISTED, name), join(fresh, name));
      // None of them needs a script of its own to be run.
      execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: fresh, stdio: ['ignore', 'ignore', 'pipe'] });
      renameSync(fresh, folder);
    } catch {
      return { problem: 'npm could not install the servers' };
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
  }
  return { packages: join(folder, 'node_modules') };
}
