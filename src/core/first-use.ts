// What is made at its first use, by one attempt for all who wait. One that fails is not kept: whoever comes next tries again.

export class FirstUse<T> {
  readonly #make: () => Promise<T>;
  #made: Promise<T> | undefined;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  get(): Promise<T> {
    this.#made ??= this.#make().catch((error: unknown) => {
      this.#made = undefined;
      throw error;
    });
    return this.#made;
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
