// The numbers of a run: engine → metric → one sample a round, or several.
import { median } from './measure.mjs';

export class Results {
  /** @type {Map<string, Map<string, number[]>>} */
  #samples = new Map();

  /**
   * @param {string} engine
   * @param {string} metric
   * @param {number} value
   */
  put(engine, metric, value) {
    const metrics = this.#samples.get(engine) ?? /** @type {Map<string, number[]>} */ (new Map());
    this.#samples.set(engine, metrics);
    metrics.set(metric, [...(metrics.get(metric) ?? []), value]);
  }

  /**
   * @param {string} engine
   * @param {string} metric
   * @returns {number[]}
   */
  of(engine, metric) {
    return this.#samples.get(engine)?.get(metric) ?? [];
  }

  /**
   * Undefined when it was not measured.
   * @param {string} engine
   * @param {string} metric
   */
  median(engine, metric) {
    const samples = this.of(engine, metric);
    return samples.length === 0 ? undefined : median(samples);
  }

  /**
   * One engine's part of another's, round by round: what the machine did in a round is in both.
   * @param {string} engine
   * @param {string} other
   * @param {string} metric
   */
  ratios(engine, other, metric) {
    const theirs = this.of(other, metric);
    return this.of(engine, metric).flatMap((value, round) => {
      const against = theirs[round];
      return against === undefined ? [] : [value / against];
    });
  }
}
