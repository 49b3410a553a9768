// What is made at its first use, by one attempt for all who wait. One that fails is not kept: whoever comes next tries again.

export class FirstUse<T> {
  readonly #make: () => Promise<T>;
  #made: Promise<T> | undefined;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  get(): Promise<T> {
    if (this.#made !== undefined) return this.#made;
    const made = this.#make().catch((error: unknown) => {
      // It may have been forgotten, and another one be made.
      if (this.#made === made) this.#made = undefined;
      throw error;
    });
    this.#made = made;
    return made;
  }

  /** For closing it: undefined when nobody has used it, or it could not be made. */
  async used(): Promise<T | undefined> {
    return this.#made?.catch(() => undefined);
  }

  /** The next use makes another one. */
  forget(): void {
    this.#made = undefined;
  }
}
