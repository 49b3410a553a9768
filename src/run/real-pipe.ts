// Pipes of the kernel. What Node gives a child as a pipe is a pair of sockets, and a program that opens /dev/stdout or /dev/stderr
// (`echo x >/dev/stderr`, nginx) gets ENXIO on a socket. Node cannot call pipe(2), but it can open a FIFO, which is the same thing with a name.
import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Two descriptors, to be closed by whoever asked for them. */
export interface RealPipe {
  readonly reader: number;
  readonly writer: number;
}

/** Undefined when there is no mkfifo(1), or no folder to make them in. The names are gone when it returns. Two milliseconds. */
export function openPipes(count: number): RealPipe[] | undefined {
  let folder: string | undefined;
  const opened: RealPipe[] = [];
  try {
    folder = mkdtempSync(join(tmpdir(), 'kz-pipe-'));
    const paths = Array.from({ length: count }, (_, index) => join(String(folder), String(index)));
    const env = { PATH: `/usr/bin:/bin:${process.env.PATH ?? ''}` };
    const { status } = spawnSync('mkfifo', ['-m', '600', ...paths], { env, stdio: 'ignore' });
    if (status !== 0) return undefined;
    for (const path of paths) opened.push(open(path));
    return opened;
  } catch {
    for (const pipe of opened) close(pipe);
    return undefined;
  } finally {
    remove(folder);
  }
}

export function close(pipe: RealPipe): void {
  closeSync(pipe.reader);
  closeSync(pipe.writer);
}

/** The reader first: a writer waits for one. */
function open(path: string): RealPipe {
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { reader, writer: openSync(path, constants.O_WRONLY) };
  } catch (error) {
    closeSync(reader);
    throw error;
  }
}

function remove(folder: string | undefined): void {
  try {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  } catch {
    // Two names without anything behind them stay.
  }
}
