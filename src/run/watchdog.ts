// A shell that waits for kz to die. SIGKILL cannot be caught, so when it hits kz only another process can end the child's tree. It reads
// from a pipe that nobody writes to: end of file means that kz is gone without having dismissed it.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';

/**
 * $1 is the child, $2 is `group` when the child leads a process group of its own. TERM, a second for the tree to clean up, KILL. A process
 * whose parent died belongs to init, so the tree, which is everybody that the first signal does not reach, is written down before anything
 * is signalled. Small containers have no ps(1).
 */
const SCRIPT = `
read -r _
table() {
  if [ -r /proc/self/stat ]; then
    for file in /proc/[0-9]*/stat; do
      read -r line <"$file" && set -- \${line##*) } && echo "\${line%% *} $2 $3"
    done
  else
    ps -A -o pid= -o ppid= -o pgid=
  fi
}
tree=$(table | awk -v root="$1" -v kind="$2" '
  { parent[$1] = $2; group[$1] = $3 }
  END {
    for (p in parent) {
      if (p == root || (kind == "group" && group[p] == root)) continue
      q = p
      while ((q in parent) && q != root) q = parent[q]
      if (q == root) print p
    }
  }')
[ "$2" = group ] && set -- "-$1" || set -- "$1"
kill -TERM "$1" $tree
sleep 1
kill -KILL "$1" $tree
`;

export interface Watchdog {
  /** Await on every orderly way out, before kz exits: where process 1 does not reap, an unreaped shell would stay as a zombie. */
  dismiss(): Promise<void>;
}

/**
 * The watchdog has a session of its own, so that what hits kz's group or terminal does not hit it. It never keeps kz alive. Undefined when
 * it cannot be started; the child still sees the end of its standard input.
 */
export function startWatchdog(pid: number, ownGroup: boolean): Watchdog | undefined {
  try {
    const shell = spawn('/bin/sh', ['-c', SCRIPT, 'kz-watchdog', String(pid), ownGroup ? 'group' : 'process'], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
      env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin' },
      cwd: '/',
    });
    shell.on('error', () => undefined);
    unreference(shell);
    return { dismiss: () => end(shell) };
  } catch {
    return undefined;
  }
}

async function end(shell: ChildProcess): Promise<void> {
  if (shell.pid === undefined || shell.exitCode !== null || shell.signalCode !== null) return;
  const exit = once(shell, 'exit');
  shell.ref();
  shell.kill('SIGKILL');
  await exit;
}

function unreference(shell: ChildProcess): void {
  shell.unref();
  const { stdin } = shell;
  if (stdin === null) return;
  stdin.on('error', () => undefined);
  if (stdin instanceof Socket) stdin.unref();
}
