// Questions on the terminal. They go to /dev/tty, never through standard input and output, which belong to data.
import { closeSync, openSync, writeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { KzError } from '../core/errors.ts';

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
 * lines were pasted: the rest would otherwise answer the next question.
 */
export async function ask({ text, echo }: Question): Promise<string> {
  const descriptor = openTerminal();
  const terminal = new ReadStream(descriptor);
  const show = (shown: string): void => void writeSync(descriptor, shown);
  show(`${text} `);
  terminal.setRawMode(true);
  try {
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

function readLine(terminal: ReadStream, show: (shown: string) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const line = new TypedLine(show);
    const decoder = new TextDecoder();
    terminal.on('data', (chunk: Buffer) => {
      const typed = decoder.decode(chunk, { stream: true });
      try {
        if (line.type(typed)) resolve(line.text);
      } catch (error) {
        reject(error instanceof Error ? error : new Error('unreadable input'));
      }
    });
    terminal.once('error', reject);
    terminal.once('end', () => {
      reject(cancelled());
    });
  });
}

const ENTER = /[\r\n]/;
// eslint-disable-next-line no-control-regex -- that is what an escape sequence starts with
const ESCAPE_SEQUENCE = /\u001B(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?/g;

/** The keys of a line editor that matter when nothing is shown: backspace, ^U, ^C, ^D, Enter. */
class TypedLine {
  #characters: string[] = [];
  readonly #show: (shown: string) => void;

  constructor(show: (shown: string) => void) {
    this.#show = show;
  }

  get text(): string {
    return this.#characters.join('');
  }

  /** True when the line is complete. */
  type(typed: string): boolean {
    const keys = typed.replace(ESCAPE_SEQUENCE, '');
    const end = keys.search(ENTER);
    if (end >= 0 && keys.slice(end).trim() !== '') throw severalLines();
    for (const key of end >= 0 ? keys.slice(0, end) : keys) this.#press(key);
    return end >= 0;
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
