// The only file that writes to the terminal. Writes go straight to the descriptors: merely touching process.stdout or process.stderr would
// put a pipe that the child shares with us into non-blocking mode, and programs that do not expect that lose output.
import { write as writeAsync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { promisify } from 'node:util';
import { formatPlace, KzError, systemCode } from '../core/errors.ts';
import { oncePerReason } from './same-problem.ts';

export interface Voice {
  readonly quiet: boolean;
  readonly verbose: boolean;
}

let voice: Voice = { quiet: false, verbose: false };

export function setVoice(next: Voice): void {
  voice = next;
}

/** Data, to standard output, byte by byte. What people read goes through `printLine` or `table`. */
export function print(text: string): void {
  write(1, text);
}

/** A line for people, to standard output. */
export function printLine(text: string): void {
  print(`${printable(text)}\n`);
}

export function printJson(value: unknown): void {
  print(`${JSON.stringify(value, null, 2)}\n`);
}

/** Something worth knowing, to standard error; `-q` silences it. */
export function notice(text: string): void {
  if (!voice.quiet) write(2, `kz: ${printable(text)}\n`);
}

/** What `-v` adds. */
export function detail(text: string): void {
  if (voice.verbose && !voice.quiet) write(2, `kz: ${printable(text)}\n`);
}

export function warn(text: string): void {
  if (!voice.quiet) write(2, `kz: ${colour('33', 'warning')}: ${printable(text)}\n`);
}

/** As `notice` and `warn`, while a program runs: a pipe that nobody reads must not hold up signals, requests or the program’s output. */
export function tellWithoutWaiting(level: 'notice' | 'warning', text: string): void {
  if (voice.quiet || waiting.length >= MOST_WAITING) return;
  waiting.push(level === 'warning' ? `kz: ${colour('33', 'warning')}: ${printable(text)}\n` : `kz: ${printable(text)}\n`);
  writing ??= writeWaiting();
}

/** False when something that was told still waits for a reader: then only a signal can end kz, because Node waits for the thread. */
export async function everythingTold(): Promise<boolean> {
  if (writing === undefined) return true;
  return Promise.race([writing.then(() => true), delay(LAST_WAIT_MS, false, { ref: false })]);
}

const MOST_WAITING = 100;
const LAST_WAIT_MS = 100;
const RETRY_MS = 5;
const waiting: string[] = [];
let writing: Promise<void> | undefined;

async function writeWaiting(): Promise<void> {
  try {
    for (let text = waiting.shift(); text !== undefined; text = waiting.shift()) {
      let rest = Buffer.from(text);
      while (rest.length > 0) rest = rest.subarray(await writeSome(rest));
    }
  } catch {
    // Nobody can be told that nobody can be told.
  } finally {
    writing = undefined;
  }
}

async function writeSome(bytes: Buffer): Promise<number> {
  try {
    return (await promisify(writeAsync)(2, bytes)).bytesWritten;
  } catch (error) {
    if (systemCode(error) !== 'EAGAIN') throw error;
    await delay(RETRY_MS);
    return 0;
  }
}

/** Errors are never silenced. One with many problems prints them all, each reason once. */
export function printError(error: KzError): void {
  const problems = error.code === 'several' ? error.problems : [error];
  for (const problem of oncePerReason(problems)) {
    const place = problem.at === undefined ? '' : `${printable(formatPlace(problem.at))}: `;
    write(2, `kz: ${colour('31', 'error')}: ${place}${messageOf(problem)}\n`);
    if (problem.hint !== undefined) write(2, `kz: hint: ${printable(problem.hint)}\n`);
  }
}

/** Only the list of the places that were searched has several lines; whatever a path holds, each of them is indented. */
function messageOf({ code, message }: KzError): string {
  return code === 'config-not-found' ? message.split(/\n */).map(printable).join('\n  ') : printable(message);
}

/**
 * Refs, descriptions and names come from a config that somebody else may have written: what could move the cursor, turn text around or start
 * a line that looks like one of ours is shown as `\u001b` or `\n`.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    return character === '\n' ? String.raw`\n` : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

// eslint-disable-next-line no-control-regex -- these are the ones to find
const UNPRINTABLE = /[\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]/g;

/** Lines for people: columns with two spaces between them; the last one is not padded. */
export function table(cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(printable));
  const widths: number[] = [];
  for (const row of rows) for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}

/** The reader of our output went away (`| head`): not an error, but nothing is left to do. */
export class BrokenPipe extends Error {}

function colour(code: string, text: string): string {
  const { NO_COLOR: noColour, TERM: terminal } = process.env;
  const wanted = (noColour === undefined || noColour === '') && terminal !== 'dumb' && isatty(2);
  return wanted ? `\u001B[${code}m${text}\u001B[0m` : text;
}

const pause = new Int32Array(new SharedArrayBuffer(4));

function write(descriptor: 1 | 2, text: string): void {
  let bytes = Buffer.from(text, 'utf8');
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(descriptor, bytes));
    } catch (error) {
      const code = systemCode(error);
      // Somebody else made the shared pipe non-blocking and it is full: wait for the reader, as a blocking write would.
      if (code === 'EAGAIN') Atomics.wait(pause, 0, 0, 5);
      // There is nowhere left to say that standard error is gone.
      else if (descriptor === 2) return;
      else if (code === 'EPIPE') throw new BrokenPipe();
      else throw new KzError('write-failed', `cannot write to standard output (${code ?? 'unknown error'})`, { cause: error });
    }
  }
}
