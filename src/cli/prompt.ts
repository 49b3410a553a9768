// Questions on the terminal. They go to /dev/tty, never through standard input and output, which belong to data.
import { closeSync, openSync, writeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { KzError } from '../core/errors.ts';
import { printable } from './ui.ts';

export interface Question {
  /** Printed as it is, followed by a space. */
  readonly text: string;
  /** Show what is typed. A secret is not shown. */
  readonly echo: boolean;
}

/** Is there a person to ask? */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r+'));
    return true;
  } catch {
    return false;
  }
}

/**
 * One line, without its end. Throws `no-terminal` when there is nobody to ask, `cancelled` on ^C or ^D, and `secret-invalid` when several
 * lines were pasted: the rest would otherwise answer the next question, or the shell.
 */
export async function ask({ text, echo }: Question): Promise<string> {
  const descriptor = openTerminal();
  const terminal = new ReadStream(descriptor);
  const show = (shown: string): void => void writeSync(descriptor, shown);
  // Before the question: an answer that is quicker than this would be shown.
  terminal.setRawMode(true);
  try {
    show(`${printable(text)} `);
    return await readLine(terminal, echo ? show : () => undefined);
  } finally {
    terminal.setRawMode(false);
    show('\n');
    terminal.destroy();
  }
}

/** Yes or no; the answer to an empty line is `byDefault`. */
export async function confirm(text: string, byDefault: boolean): Promise<boolean> {
  const answer = (await ask({ text: `${text} [${byDefault ? 'Y/n' : 'y/N'}]`, echo: true })).trim().toLowerCase();
  return answer === '' ? byDefault : answer.startsWith('y');
}

function openTerminal(): number {
  try {
    return openSync('/dev/tty', 'r+');
  } catch (error) {
    throw new KzError('no-terminal', 'there is no terminal to ask on', { cause: error });
  }
}

/** What follows Enter sooner than this was pasted with it. */
const PASTE_GAP_MS = 50;

function readLine(terminal: ReadStream, show: (shown: string) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const line = new TypedLine(show);
    const decoder = new TextDecoder('utf-8', { fatal: true });
    let problem: KzError | undefined;
    let quiet: NodeJS.Timeout | undefined;
    terminal.on('data', (chunk: Buffer) => {
      try {
        line.type(decoder.decode(chunk, { stream: true }));
      } catch (error) {
        problem ??= error instanceof KzError ? error : notText(error);
      }
      if (problem === undefined && !line.complete) return;
      // The rest of a paste is still on its way, and must be read here.
      clearTimeout(quiet);
      quiet = setTimeout(() => {
        if (line.surplus) problem ??= severalLines();
        if (problem === undefined) resolve(line.text);
        else reject(problem);
      }, PASTE_GAP_MS);
    });
    terminal.once('error', reject);
    terminal.once('end', () => {
      reject(cancelled());
    });
  });
}

const ENTER = /[\r\n]/;
/* eslint-disable no-control-regex -- that is what an escape sequence starts with */
const ESCAPE_SEQUENCE = /\u001B(?:\[[0-9;?]*[ -/]*[@-~]|O.|[^\u0000-\u001F])?/g;
const UNFINISHED_SEQUENCE = /\u001B(?:\[[0-9;?]*[ -/]*|O)?$/;
/* eslint-enable no-control-regex */

/** The keys of a line editor that matter when nothing is shown: backspace, ^U, ^C, ^D, Enter. */
class TypedLine {
  #characters: string[] = [];
  #unfinished = '';
  #complete = false;
  #surplus = false;
  readonly #show: (shown: string) => void;

  constructor(show: (shown: string) => void) {
    this.#show = show;
  }

  get text(): string {
    return this.#characters.join('');
  }

  get complete(): boolean {
    return this.#complete;
  }

  /** Was there more after the end of the line? */
  get surplus(): boolean {
    return this.#surplus;
  }

  /** Throws `cancelled`. */
  type(typed: string): void {
    const all = this.#unfinished + typed;
    this.#unfinished = UNFINISHED_SEQUENCE.exec(all)?.[0] ?? '';
    const keys = all.slice(0, all.length - this.#unfinished.length).replace(ESCAPE_SEQUENCE, '');
    const end = this.#complete ? 0 : keys.search(ENTER);
    for (const key of end >= 0 ? keys.slice(0, end) : keys) this.#press(key);
    if (end < 0) return;
    this.#complete = true;
    if (keys.slice(end).trim() !== '') this.#surplus = true;
  }

  #press(key: string): void {
    if (key === '\u0003' || (key === '\u0004' && this.#characters.length === 0)) throw cancelled();
    if (key === '\u007F' || key === '\b') this.#erase(1);
    else if (key === '\u0015') this.#erase(this.#characters.length);
    else if (key >= ' ' || key === '\t') {
      this.#characters.push(key);
      this.#show(key);
    }
  }

  #erase(count: number): void {
    const erased = this.#characters.splice(Math.max(0, this.#characters.length - count));
    this.#show('\b \b'.repeat(erased.length));
  }
}

function cancelled(): KzError {
  return new KzError('cancelled', 'cancelled');
}

function severalLines(): KzError {
  return new KzError('secret-invalid', 'more than one line was pasted; nothing was stored', {
    hint: 'pipe it instead: kz put NAME < FILE',
  });
}

function notText(cause: unknown): KzError {
  return new KzError('secret-invalid', 'what was typed is not UTF-8 text; nothing was stored', { cause });
}
