// The processes below one of ours, found through /proc on Linux and ps(1) elsewhere. Needed because npx → npm → sh → node does not
// forward signals, and because on a terminal the child shares our process group, so the group cannot be signalled as a whole.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** Every living descendant of `root`, parents before children, without `root` itself. */
export function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const { pid, parent } of process.platform === 'linux' ? fromProc() : fromPs()) {
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found: number[] = [];
  const visit = (pid: number): void => {
    for (const child of children.get(pid) ?? []) {
      found.push(child);
      visit(child);
    }
  };
  visit(root);
  return found;
}

interface Row {
  readonly pid: number;
  readonly parent: number;
}

function fromProc(): Row[] {
  return readdirSync('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    const fields = statFields(entry);
    const [state, parent] = fields;
    if (parent === undefined || state === 'Z') return [];
    return [{ pid: Number(entry), parent: Number(parent) }];
  });
}

/** The fields of proc_pid_stat(5) from the third on: state, ppid, pgrp, session, tty_nr, tpgid, … Empty when the process is gone. */
export function statFields(pid: number | string): string[] {
  try {
    const text = readFileSync(`/proc/${String(pid)}/stat`, 'latin1');
    // The second field is the program's name in parentheses and may hold anything, also `) `.
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

function fromPs(): Row[] {
  try {
    const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return table.split('\n').flatMap((line) => {
      const [pid, parent] = line.trim().split(/\s+/);
      return pid === undefined || parent === undefined ? [] : [{ pid: Number(pid), parent: Number(parent) }];
    });
  } catch {
    return [];
  }
}
