// Which of the child's streams pass through redaction, and what is hidden in them.
import { Redactor, RedactionSet, type Redacted } from '../mask/redact.ts';
import type { Notice } from './blind-secrets.ts';
import type { Output } from './filtered-output.ts';

export type Stream = 1 | 2;

/** All spellings of all values take 10 ms: while the program starts, and not for one that is over by then without a word. */
const PREPARE_AFTER_MS = 30;

export class Redaction {
  /** For `ChildOptions`. */
  readonly output: Output;
  readonly #hidden: Redacted[];
  readonly #late: readonly LateRedactor[];
  #set: RedactionSet | undefined;

  constructor(hidden: readonly Redacted[], streams: readonly Stream[], tell: (notice: Notice) => void) {
    this.#hidden = [...hidden];
    const set = (): RedactionSet => (this.#set ??= new RedactionSet([...this.#hidden]));
    const [stdout, stderr] = ([1, 2] as const).map((stream) => (streams.includes(stream) ? new LateRedactor(set) : undefined));
    this.#late = [stdout, stderr].filter((each) => each !== undefined);
    this.output = {
      stdout,
      stderr,
      onLost: (code) => {
        tell({ level: 'warning', text: `the program’s output cannot be written (${code})` });
      },
    };
    setTimeout(set, PREPARE_AFTER_MS).unref();
  }

  /** Old values stay hidden; see `RedactionSet.with`. */
  add(more: readonly Redacted[]): void {
    if (this.#set === undefined) {
      this.#hidden.push(...more);
      return;
    }
    this.#set = this.#set.with(more);
    for (const redactor of this.#late) redactor.use(this.#set);
  }
}

/** Begins with the first byte. */
class LateRedactor {
  readonly #set: () => RedactionSet;
  #redactor: Redactor | undefined;

  constructor(set: () => RedactionSet) {
    this.#set = set;
  }

  push(chunk: Buffer): Buffer {
    this.#redactor ??= new Redactor(this.#set());
    return this.#redactor.push(chunk);
  }

  end(): Buffer {
    return this.#redactor?.end() ?? Buffer.alloc(0);
  }

  use(set: RedactionSet): void {
    this.#redactor?.use(set);
  }
}
