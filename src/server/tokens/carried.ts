// What the requests of one caller have carried through the proxy: answers are searched for it, those to later requests without a token too.
import { Remasker, type Masked } from '../../mask/remask.ts';

/** Of those that no request carries at the moment, more than this are not searched for. */
const MOST_CARRIED = 64;
/** Answers may repeat a value when its token has expired. */
const AFTER_EXPIRY_MS = 3_600_000;

type Carriable = Masked & { readonly expiresAt: number };

/** One value. Of the tokens that stood for it, the one that lives longest. */
interface Held {
  readonly name: string;
  readonly secret: Masked['secret'];
  token: string;
  expiresAt: number;
  /** Exchanges that carry it and are not over. */
  uses: number;
}

/**
 * Values that a caller's requests have carried. An answer may repeat one later, on another connection, to a request without a token. One that
 * a request carries at the moment is never forgotten: the caller could bring that about.
 */
export class Carried {
  readonly remasker = new Remasker([]);
  /** The latest last. */
  #held: readonly Held[] = [];
  #isStale = false;

  /** Gives what has to be called when the exchange is over. */
  add(entries: readonly Carriable[], now: number): () => void {
    const held = entries.map((entry) => this.#hold(entry));
    if (this.#isStale) this.#update(now);
    return () => {
      for (const each of held.splice(0)) each.uses -= 1;
    };
  }

  #hold({ name, secret, token, expiresAt }: Carriable): Held {
    const known = this.#held.find((each) => each.name === name && each.secret.equals(secret));
    const held = known ?? { name, secret, token, expiresAt: 0, uses: 0 };
    held.uses += 1;
    if (expiresAt > held.expiresAt) {
      Object.assign(held, { token, expiresAt });
      this.#isStale = true;
    }
    this.#held = [...this.#held.filter((each) => each !== held), held];
    return held;
  }

  #update(now: number): void {
    const idle = this.#held.filter(({ uses }) => uses === 0);
    const old = idle.filter(({ expiresAt }) => expiresAt + AFTER_EXPIRY_MS < now);
    const gone = new Set([...old, ...idle.slice(0, -MOST_CARRIED)]);
    this.#held = this.#held.filter((each) => !gone.has(each));
    this.remasker.update([...this.#held].reverse());
    this.#isStale = false;
  }
}
