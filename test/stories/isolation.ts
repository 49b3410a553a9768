// Can the full isolation of a blind run be made on this machine? Asked of bubblewrap itself and not of kz: where it can, kz has to.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FIXTURES, has, type Story } from './kz.ts';

/** Why it cannot, in words for the name of a skipped test; undefined where it can. */
export const NO_ISOLATION: string | undefined = problem();

/** ` (skipped: …)` for a name, or nothing. */
export const ISOLATION_NOTE = NO_ISOLATION === undefined ? '' : ` (skipped: ${NO_ISOLATION})`;

/** For TMPDIR. A story's own is the folder above its home, which no isolated program may have, and kz says so. */
export function ownTemporary(story: Story): string {
  const folder = join(story.folder, 'temporary');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** For a config whose program names fixtures in a script: a clone below /tmp is hidden otherwise. */
export const READS_FIXTURES = /^\/(?:var\/)?tmp\//.test(FIXTURES) ? `[blind.sandbox]\nread = [${JSON.stringify(FIXTURES)}]\n` : '';

function problem(): string | undefined {
  if (process.platform !== 'linux') return 'isolation of this kind is for Linux';
  if (!has('bwrap')) return 'no bubblewrap';
  const outer = ['--bind', '/', '/', '--dev-bind', '/dev', '/dev', '--unshare-user', '--uid', '0', '--gid', '0', '--unshare-net'];
  const powers = ['CAP_NET_ADMIN', 'CAP_NET_BIND_SERVICE', 'CAP_SETFCAP'].flatMap((name) => ['--cap-add', name]);
  const inner = ['--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--unshare-user', '--unshare-pid', '--cap-drop', 'ALL'];
  const { status } = spawnSync('bwrap', [...outer, ...powers, '--', 'bwrap', ...inner, '--', 'true'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'bubblewrap cannot make namespaces in namespaces here';
}
