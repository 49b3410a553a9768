// Waits for what is written to a log while its run goes on. The system's notices of change make it prompt; a timer makes it certain, where
// those do not exist or are lost.
import { watch, type FSWatcher } from 'node:fs';
import { LineReader } from './read.ts';
import { listRuns, runState, type Run } from './runs.ts';

/** All lines from the first on, until the run is over. Ends without an error when the signal is aborted. */
export async function* followLines(run: Run, signal: AbortSignal): AsyncGenerator<readonly string[]> {
  const reader = new LineReader(run.path);
  const watcher = watching(run.path);
  try {
    while (!signal.aborted) {
      // In this order: what was written between the two would be missed the other way round.
      const state = runState(run);
      const lines = reader.next();
      if (lines.length > 0) yield lines;
      else if (state !== 'running') return;
      else await change(watcher, signal);
    }
  } finally {
    watcher?.close();
    reader.close();
  }
}

/** The run that `choose` takes out of those that go on, newest first; undefined when the signal is aborted before. */
export async function waitForRun(
  folder: string,
  choose: (running: readonly Run[]) => Run | undefined,
  signal: AbortSignal,
): Promise<Run | undefined> {
  while (!signal.aborted) {
    const run = choose(listRuns(folder).filter((each) => runState(each) === 'running'));
    if (run !== undefined) return run;
    await change(undefined, signal);
  }
  return undefined;
}

function watching(path: string): FSWatcher | undefined {
  try {
    return watch(path, { persistent: false }).on('error', () => undefined);
  } catch {
    // The system's watches are used up, or it has none.
    return undefined;
  }
}

const POLL_MS = 300;

async function change(watcher: FSWatcher | undefined, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      watcher?.off('change', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, POLL_MS);
    watcher?.on('change', done);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
