// Durations as people write them in a config: `500ms`, `20s`, `15m`, `2h`, `1d`; and as they read them.

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** The longest that a timer of Node’s can wait; a longer one would fire at once. A little under 25 days. */
const LONGEST_MS = 2_147_483_647;

/** Milliseconds, or undefined when the text is not a whole number followed by one unit, or more than a timer can wait. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const [, count, unit] = match;
  const ms = Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
  return ms <= LONGEST_MS ? ms : undefined;
}

/** `59 minutes`, `1 second`: whole units, the largest of which there are two. */
export function inWords(seconds: number): string {
  const units = [
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
    ['second', 1],
  ] as const;
  const [unit, size] = units.find(([, each]) => seconds >= 2 * each) ?? ['second', 1];
  const count = Math.floor(seconds / size);
  return `${String(count)} ${unit}${count === 1 ? '' : 's'}`;
}
