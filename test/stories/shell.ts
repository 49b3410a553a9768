// Stories that need a shell around kz: pipes, redirections, `eval`.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { collect, KZ, NODE, type Ended, type Story } from './kz.ts';

/** A PATH on which `kz` is the one that was built. */
export function pathWithKz(story: Story): string {
  story.write('../bin/kz', `#!/bin/sh\nexec '${NODE}' '${KZ}' "$@"\n`, 0o755);
  return `${join(story.folder, 'bin')}:${story.environment().PATH ?? ''}`;
}

/** Runs a bash script in the project, with nothing on standard input. What it prints is not searched for canaries. */
export function inShell(story: Story, script: string, env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const options = { cwd: story.project, env: story.environment({ PATH: pathWithKz(story), ...env }), detached: true };
  return collect(spawn('bash', ['-c', script], { ...options, stdio: ['ignore', 'pipe', 'pipe'] }));
}
