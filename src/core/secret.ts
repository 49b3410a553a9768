// An opaque secret value. Everything that turns an object into text (string conversion, JSON, console.log, template
// literals) gives `[secret]`; `reveal()` is the only way out, and test/architecture.test.ts lists the files that may call it.

const MASK = '[secret]';

export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The real value. Callers are listed by name in the architecture test; think before adding one. */
  reveal(): string {
    return this.#value;
  }

  /** Length in characters (Unicode code points), the only fact about a value that kz ever prints. */
  get length(): number {
    return Array.from(this.#value).length;
  }

  equals(other: Secret): boolean {
    return this.#value === other.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [Symbol.toPrimitive](): string {
    return MASK;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return MASK;
  }
}
