// A place in a text that moves on as patterns match: for scanners that read a text from its start to its end.

export class TextCursor {
  readonly #text: string;
  #offset = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get offset(): number {
    return this.#offset;
  }

  get atEnd(): boolean {
    return this.#offset === this.#text.length;
  }

  /** Moves behind what matches right here; null, and no move, when nothing does. The pattern is sticky: `/…/y`. */
  take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#offset;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#offset = pattern.lastIndex;
    return match;
  }
}
