// What is open, closed in the opposite order. One that fails to close does not keep the others open.

type Close<How> = (how: How) => unknown;

export class Opened<How = void> {
  readonly #closes: Close<How>[] = [];

  add(close: Close<How>): void {
    this.#closes.unshift(close);
  }

  /** Throws what the first of them threw that failed, after all of them. */
  async close(how: How): Promise<void> {
    const failures: unknown[] = [];
    for (const close of this.#closes.splice(0)) {
      try {
        await close(how);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
