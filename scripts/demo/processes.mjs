// Which processes there are below one of ours, and which are left.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/**
 * Every living process below one of ours.
 * @param {number} top
 */
export function descendants(top) {
  const rows = processes();
  const found = [top];
  for (const above of found) found.push(...rows.flatMap(({ pid, parent }) => (parent === above ? [pid] : [])));
  return found.slice(1);
}

/** From /proc where there is one: small images have no ps(1). */
function processes() {
  const lines =
    process.platform === 'linux'
      ? readdirSync('/proc').flatMap((entry) => (/^\d+$/.test(entry) ? statLine(entry) : []))
      : execFileSync('ps', ['-A', '-o', 'pid=,stat=,ppid='], { encoding: 'utf8' }).trim().split('\n');
  return lines.flatMap((line) => {
    const [pid, state, parent] = line.trim().split(/\s+/);
    return state?.startsWith('Z') === true ? [] : [{ pid: Number(pid), parent: Number(parent) }];
  });
}

/** @param {string} pid */
function statLine(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return [`${pid} ${text.slice(text.lastIndexOf(')') + 2)}`];
  } catch {
    return [];
  }
}

/**
 * Those still there after a second.
 * @param {number[]} pids
 */
export async function survivors(pids) {
  const deadline = Date.now() + 1000;
  for (;;) {
    const alive = new Set(processes().map(({ pid }) => pid));
    const left = pids.filter((pid) => alive.has(pid));
    if (left.length === 0 || Date.now() > deadline) return left;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
