// The living processes and who descends from whom, from /proc on Linux and ps(1) elsewhere. Needed because npx → npm → sh → node does not
// forward signals, because on a terminal the child shares our group, and because some programs (timeout, a shell) leave their group.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  /** When it began, in the system's own notation: together with the pid it names one process, also after the pid was used again. */
  readonly started: string;
}

/** Every living process that may be seen; a zombie is not one. */
export function livingProcesses(): Process[] {
  return process.platform === 'linux' ? fromProc() : fromPs();
}

/** The roots and everything below them, parents before children. */
export function withDescendants(roots: readonly Process[], living: readonly Process[]): Process[] {
  const children = new Map<number, Process[]>();
  for (const each of living) children.set(each.parent, [...(children.get(each.parent) ?? []), each]);
  const found = new Map<number, Process>();
  const visit = (each: Process): void => {
    if (found.has(each.pid)) return;
    found.set(each.pid, each);
    for (const child of children.get(each.pid) ?? []) visit(child);
  };
  for (const root of roots) visit(root);
  return [...found.values()];
}

/** Everybody below, too, and nobody gets away by a fork: all are stopped before any is killed. Only for what has no state to save. */
export function killTree(pid: number): void {
  const stopped = new Set<number>();
  for (let found = -1; found !== stopped.size;) {
    found = stopped.size;
    const living = livingProcesses();
    const roots = living.filter((each) => each.pid === pid);
    for (const each of withDescendants(roots, living)) {
      if (!stopped.has(each.pid)) send(each.pid, 'SIGSTOP');
      stopped.add(each.pid);
    }
  }
  for (const each of stopped) send(each, 'SIGKILL');
}

/** To one process, or to a group by its negative number. It may be gone already. */
export function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // ESRCH; or EPERM, for a program that changed its user.
  }
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

const START_TIME = 19;

function fromProc(): Process[] {
  return entriesOf('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    const fields = statFields(entry);
    const [state, parent, group] = fields;
    if (state === undefined || state === 'Z' || state === 'X') return [];
    return [{ pid: Number(entry), parent: Number(parent), group: Number(group), started: fields[START_TIME] ?? '' }];
  });
}

/** Nothing when it cannot be read (a container without /proc): the child itself can still be signalled. */
function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function fromPs(): Process[] {
  try {
    const columns = ['pid=', 'ppid=', 'pgid=', 'stat=', 'lstart='].flatMap((column) => ['-o', column]);
    const table = execFileSync('ps', ['-A', ...columns], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return table.split('\n').flatMap((line) => {
      const [pid, parent, group, state, ...started] = line.trim().split(/\s+/);
      if (state === undefined || state.startsWith('Z')) return [];
      return [{ pid: Number(pid), parent: Number(parent), group: Number(group), started: started.join(' ') }];
    });
  } catch {
    return [];
  }
}
