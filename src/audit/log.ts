// The log of one blind run: append-only, only its owner may read it. Lines are gathered and written once per turn of the event loop. A write
// that fails loses events and is told, but stops nothing: the proxy goes on. Removes old logs, never one that is still being written.
import { randomBytes } from 'node:crypto';
import { closeSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../core/errors.ts';
import { eventLine, type AuditEvent, type RunStarted } from './event.ts';
import { createLogFile, removeOldLogs } from './log-file.ts';
import { runFileName } from './runs.ts';

export interface AuditLogOptions {
  /** `runsFolder(env)`; made when it is missing. */
  readonly folder: string;
  readonly started: Pick<RunStarted, 'version' | 'command' | 'config' | 'secrets' | 'rules'>;
  /** `Remasker.text`: the last gate in front of the file. */
  readonly remask: (latin1: string) => string;
  /** Called once, at the first event that could not be written, with the code of the system's error. */
  readonly onLost: (code: string) => void;
  readonly now?: Date;
}

export class AuditLog {
  /** The id of the run, which is in the name of the file too. */
  readonly run: string;
  readonly path: string;
  readonly #remask: (latin1: string) => string;
  readonly #file: Appender;
  readonly #flushAtExit = (): void => {
    this.#file.flush();
  };

  /** Writes the first line at once. Throws `write-failed`: a run that cannot be logged is not to start. */
  static open(options: AuditLogOptions): AuditLog {
    const now = options.now ?? new Date();
    const run = randomBytes(4).toString('hex');
    const path = join(options.folder, runFileName(now, run));
    const first = { type: 'run-started', schema_version: 1, time: now.toISOString(), run, pid: process.pid, ...options.started } as const;
    const log = new AuditLog(run, path, createLogFile(path, eventLine(first, options.remask)), options);
    removeOldLogs(options.folder, now.getTime());
    return log;
  }

  private constructor(run: string, path: string, descriptor: number, { remask, onLost }: AuditLogOptions) {
    this.run = run;
    this.path = path;
    this.#remask = remask;
    this.#file = new Appender(descriptor, onLost);
    process.once('exit', this.#flushAtExit);
  }

  /** For `run-ended`. */
  get lost(): number {
    return this.#file.lost;
  }

  /** Returns at once; events keep their order. */
  write(event: AuditEvent): void {
    this.#file.push(eventLine(event, this.#remask));
  }

  /** Must be awaited before kz ends by a signal: only then is there no exit at which to write the rest. */
  close(): Promise<void> {
    process.off('exit', this.#flushAtExit);
    this.#file.close();
    return Promise.resolve();
  }
}

/** In characters. A burst that is larger is written before its turn ends, so memory stays bounded. */
const MOST_WAITING = 1_048_576;

/**
 * Owns the descriptor. Writes synchronously: into the page cache a batch takes microseconds, order needs no care, and what was written
 * survives a SIGKILL.
 */
export class Appender {
  #descriptor: number | undefined;
  readonly #onLost: (code: string) => void;
  #lines: string[] = [];
  #waiting = 0;
  #turn: NodeJS.Immediate | undefined;
  /** The file ends inside a line that could not be finished. */
  #torn = false;
  #lost = 0;

  constructor(descriptor: number, onLost: (code: string) => void) {
    this.#descriptor = descriptor;
    this.#onLost = onLost;
  }

  get lost(): number {
    return this.#lost;
  }

  push(line: string): void {
    this.#lines.push(line);
    this.#waiting += line.length;
    if (this.#waiting > MOST_WAITING) this.flush();
    else
      this.#turn ??= setImmediate(() => {
        this.flush();
      });
  }

  flush(): void {
    clearImmediate(this.#turn);
    this.#turn = undefined;
    const lines = this.#lines;
    if (lines.length === 0) return;
    this.#lines = [];
    this.#waiting = 0;
    if (this.#descriptor === undefined) this.#lose(lines.length, 'EBADF');
    else this.#append(this.#descriptor, lines);
  }

  close(): void {
    this.flush();
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #append(descriptor: number, lines: readonly string[]): void {
    const repair = this.#torn ? '\n' : '';
    const bytes = Buffer.from(repair + lines.join(''));
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(descriptor, bytes, written);
      this.#torn = false;
    } catch (error) {
      const complete = bytes.subarray(0, written).toString('latin1').split('\n').length - 1;
      if (written > 0) this.#torn = bytes[written - 1] !== NEWLINE;
      this.#lose(lines.length - Math.max(0, complete - repair.length), systemCode(error) ?? 'unknown error');
    }
  }

  #lose(count: number, code: string): void {
    const isFirst = this.#lost === 0;
    this.#lost += count;
    if (isFirst) this.#onLost(code);
  }
}

const NEWLINE = 0x0a;
