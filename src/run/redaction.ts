// Which of the child's streams pass through redaction, and what is hidden in them.
import { Redactor, RedactionSet, type Redacted } from '../mask/redact.ts';
import type { Notice } from './blind-secrets.ts';
import type { Output } from './filtered-output.ts';

export type Stream = 1 | 2;

export class Redaction {
  /** For `ChildOptions`. */
  readonly output: Output;
  readonly #redactors: readonly Redactor[];
  #set: RedactionSet;

  constructor(hidden: readonly Redacted[], streams: readonly Stream[], tell: (notice: Notice) => void) {
    this.#set = new RedactionSet(hidden);
    const [stdout, stderr] = ([1, 2] as const).map((stream) => (streams.includes(stream) ? new Redactor(this.#set) : undefined));
    this.#redactors = [stdout, stderr].filter((each) => each !== undefined);
    this.output = {
      stdout,
      stderr,
      onLost: (code) => {
        tell({ level: 'warning', text: `the program’s output cannot be written (${code})` });
      },
    };
  }

  /** Old values stay hidden. */
  add(more: readonly Redacted[]): void {
    this.#set = this.#set.with(more);
    for (const redactor of this.#redactors) redactor.use(this.#set);
  }
}
