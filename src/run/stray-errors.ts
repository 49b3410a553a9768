// Errors that nobody caught while a proxy shares kz's process with a running program: a mistake of ours in one connection is no reason to end
// the program, and what Node would print of the error could hold a value.
import type { Notice } from './blind-secrets.ts';

/** Tells each place once, by the error's class and nothing else of it. Call what comes back to leave errors to Node again. */
export function tellStrayErrors(tell: (notice: Notice) => void): () => void {
  const told = new Set<string>();
  const listener = (error: unknown): void => {
    const place = describe(error);
    if (told.has(place)) return;
    told.add(place);
    tell({ level: 'warning', text: `unexpected ${place}: one connection failed, the run goes on; this is a bug in kz, please report it` });
  };
  process.on('uncaughtException', listener);
  return () => {
    process.off('uncaughtException', listener);
  };
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  // The message comes first, and may have lines that look like frames.
  const frames = (error.stack ?? '').replace(error.message, () => '');
  const frame = frames.split('\n').find((line) => /^ {4}at .*:\d+:\d+\)?$/.test(line));
  const place = frame === undefined ? '' : (/[^/\\( ]+:\d+:\d+/.exec(frame)?.[0] ?? '');
  return `${error.constructor.name} ${place}`.trim();
}
