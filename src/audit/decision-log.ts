// The log of one server: a file of its own that only its owner may read, or a descriptor that is open already, or nothing. A write that fails
// loses events, counts them and tells once, but stops nobody: the caller of a server cannot mend its disk. Removes old files.
import { randomBytes, randomUUID } from 'node:crypto';
import { closeSync, constants, fchmodSync, fstatSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeError } from '../core/private-file.ts';
import { decisionLine, type ServerEvent, type ServerStarted } from './decision.ts';
import { DescriptorAppender } from './descriptor.ts';
import { createLogFile, removeOldLogs } from './log-file.ts';
import { Appender } from './log.ts';
import { runFileName, runsFolder } from './runs.ts';

export type DecisionSink =
  /** A file of its own in `serverLogFolder(env)`, which is made when it is missing. */
  | { readonly to: 'folder'; readonly folder: string }
  /** That file, at its end: the administrator's, who rotates it too, by copying and truncating or by a new file and `reopen`. */
  | { readonly to: 'file'; readonly path: string }
  /** 1 or 2; stays open. */
  | { readonly to: 'descriptor'; readonly descriptor: number }
  | { readonly to: 'none' };

export interface DecisionLogOptions {
  readonly sink: DecisionSink;
  readonly started: Pick<ServerStarted, 'version' | 'bundle' | 'bundle_version' | 'bundle_sha256'>;
  /** Called once, at the first event that could not be written, with the code of the system's error. */
  readonly onLost: (code: string) => void;
  readonly now?: Date;
}

interface Lines {
  readonly lost: number;
  push(line: string): void;
  flush(): unknown;
  close(): void | Promise<void>;
}

/** `$XDG_STATE_HOME/keyzero/server`, or `~/.local/state/keyzero/server`. */
export function serverLogFolder(env: Readonly<Record<string, string | undefined>>): string {
  return join(dirname(runsFolder(env)), 'server');
}

/** Sixteen hex characters. Node keeps the randomness of UUIDs in stock: to ask the system for each of them was a tenth of a decision's time. */
export function decisionId(): string {
  const random = randomUUID();
  return `${random.slice(0, 4)}${random.slice(-12)}`;
}

export class DecisionLog {
  /** Undefined when it is no file. */
  readonly path: string | undefined;
  #lines: Lines;
  readonly #openAgain: (() => Lines) | undefined;
  /** By those that were open before. */
  #lostBefore = 0;
  #closed: Promise<void> | undefined;
  readonly #flushAtExit = (): void => {
    this.#lines.flush();
  };

  /** Writes the first line. Throws `write-failed`: a server that cannot be audited is not to start. */
  static open(options: DecisionLogOptions): DecisionLog {
    const now = options.now ?? new Date();
    const server = randomBytes(4).toString('hex');
    const first = decisionLine({
      type: 'server-started',
      schema_version: 1,
      time: now.toISOString(),
      server,
      pid: process.pid,
      ...options.started,
    });
    const { sink, onLost } = options;
    switch (sink.to) {
      case 'folder':
        return openInFolder(join(sink.folder, runFileName(now, server)), { first, onLost, now });
      case 'file':
        return openNamed(sink.path, { first, onLost, now });
      case 'descriptor':
        return begin(new DescriptorAppender(sink.descriptor, onLost), first);
      case 'none':
        return new DecisionLog(NOWHERE);
    }
  }

  /** For `open`. */
  constructor(lines: Lines, path?: string, openAgain?: () => Lines) {
    this.path = path;
    this.#lines = lines;
    this.#openAgain = openAgain;
    process.once('exit', this.#flushAtExit);
  }

  /** So far. */
  get lost(): number {
    return this.#lostBefore + this.#lines.lost;
  }

  /** Returns at once; events keep their order. What comes after `close` is dropped. */
  write(event: ServerEvent): void {
    if (this.#closed === undefined) this.#lines.push(decisionLine(event));
  }

  /** Goes on in the file that has the name now, and makes one if there is none. Throws `write-failed`, and goes on in the old one. */
  reopen(): void {
    if (this.#openAgain === undefined || this.#closed !== undefined) return;
    const next = this.#openAgain();
    const before = this.#lines;
    this.#lines = next;
    // It never waits for anybody. What is written at this moment may be lost, too.
    try {
      void before.close();
    } finally {
      this.#lostBefore += before.lost;
    }
  }

  /** Writes the last line. Must be awaited before kz ends by a signal: only then is there no exit at which to write the rest. */
  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    process.off('exit', this.#flushAtExit);
    // First, so that the last line counts what was lost up to now.
    this.#lines.flush();
    this.#lines.push(decisionLine({ type: 'server-ended', time: new Date().toISOString(), lost: this.lost }));
    await this.#lines.close();
  }
}

const NOWHERE: Lines = { lost: 0, push: () => undefined, flush: () => undefined, close: () => undefined };

interface FirstLine extends Pick<DecisionLogOptions, 'onLost'> {
  readonly first: string;
  readonly now: Date;
}

function begin(lines: Lines, first: string): DecisionLog {
  lines.push(first);
  return new DecisionLog(lines);
}

function openNamed(path: string, { first, onLost }: FirstLine): DecisionLog {
  const open = (): Lines => appendTo(path, onLost);
  const lines = open();
  lines.push(first);
  return new DecisionLog(lines, path, open);
}

function appendTo(path: string, onLost: FirstLine['onLost']): Lines {
  try {
    // O_NONBLOCK: opening a FIFO that nobody reads must not wait.
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;
    return new Appender(madePrivate(openSync(path, flags, 0o600)), onLost);
  } catch (error) {
    throw writeError(path, error);
  }
}

function madePrivate(descriptor: number): number {
  try {
    if (fstatSync(descriptor).isFile()) fchmodSync(descriptor, 0o600);
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

function openInFolder(path: string, { first, onLost, now }: FirstLine): DecisionLog {
  const log = new DecisionLog(new Appender(createLogFile(path, first), onLost), path);
  removeOldLogs(dirname(path), now.getTime());
  return log;
}
