// Many requests at once, but not all of them: servers throttle, and a machine has only so many ports.

/** Enough to hide the way there and back, few enough for every API's limits. */
export const WIDTH = 16;

/** One result per item, in the same order. The first failure stops what has not begun and is thrown. */
export async function wide<T, R>(items: readonly T[], ask: (item: T) => Promise<R>, width = WIDTH): Promise<R[]> {
  const results: R[] = new Array<R>(items.length);
  const waiting = [...items.entries()].reverse();
  const worker = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) results[next[0]] = await ask(next[1]);
  };
  try {
    await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  } finally {
    waiting.length = 0;
  }
  return results;
}

/** The items in lists of at most `size`, for APIs that take so many at once. */
export function batches<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}
