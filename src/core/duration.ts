// Durations as people write them in a config: `500ms`, `20s`, `15m`, `2h`, `1d`.

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
