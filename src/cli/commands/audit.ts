// `kz audit`: what blind runs did, from their logs. Reads files only; the config is looked for to find its runs, and not read.
import { Option, type Command } from 'commander';
import { followLines, waitForRun } from '../../audit/follow.ts';
import { parseEvent, readEvents, readLines, readStart } from '../../audit/read.ts';
import { listRuns, runsFolder, runState, type Run } from '../../audit/runs.ts';
import { findConfig } from '../../config/find.ts';
import { KzError } from '../../core/errors.ts';
import { shortPath } from '../../core/home-path.ts';
import { Signals } from '../../run/signals.ts';
import { AuditView, moment, target, WIDEST_TARGET } from '../audit-view.ts';
import { interruptible } from '../exit.ts';
import { useVoice, workingFolder } from '../options.ts';
import { notice, print, printable, printJson, table } from '../ui.ts';

interface AuditFlags {
  readonly json?: boolean;
  readonly follow?: boolean;
  readonly suggest?: boolean;
  readonly run?: string;
  readonly list?: boolean;
  readonly blocked?: boolean;
  readonly config?: string;
  readonly quiet?: boolean;
}

export function defineAudit(command: Command): void {
  command
    .option('-c, --config <file>', 'show the latest run of this file')
    .option('-q, --quiet', 'print errors only')
    .option('--run <id>', 'show this run (see --list)')
    .option('--blocked', 'only what did not go through')
    .option('--json', 'print the events as they are stored, one per line')
    .option('--follow', 'show a run while it goes on, until it ends')
    .addOption(new Option('--suggest', 'print the config that the run needed').conflicts(['json', 'blocked', 'follow']))
    .addOption(new Option('--list', 'show which runs are logged').conflicts(['run', 'blocked', 'follow', 'suggest']))
    .addHelpText('after', '\nWithout --run: the latest run of this project, else the latest of all.\n\nExample:\n  kz audit --blocked')
    .action(audit);
}

async function audit(flags: AuditFlags): Promise<void> {
  useVoice(flags);
  const folder = runsFolder(process.env);
  if (flags.list === true) list(folder, flags);
  else if (flags.follow === true) await follow(folder, flags);
  else if (flags.suggest === true) await suggest(logged(folder, flags));
  else show(logged(folder, flags), flags);
}

function show(run: Run, flags: AuditFlags): void {
  const printer = new Printer(run, flags, widestTarget(run, flags));
  for (const lines of readLines(run.path)) printer.print(lines);
  printer.end();
}

/** A run that goes on cannot be measured beforehand. */
const FOLLOWED_WIDTH = 40;

async function follow(folder: string, flags: AuditFlags): Promise<void> {
  const signals = new Signals();
  try {
    await interruptible(signals, new AbortController().signal, async (signal) => {
      const run = await runToFollow(folder, flags, signal);
      if (run === undefined) return;
      const printer = new Printer(run, flags, FOLLOWED_WIDTH);
      for await (const lines of followLines(run, signal)) printer.print(lines);
      if (!signal.aborted) printer.end();
    });
  } finally {
    signals.close();
  }
}

async function runToFollow(folder: string, flags: AuditFlags, signal: AbortSignal): Promise<Run | undefined> {
  if (flags.run !== undefined) return named(listRuns(folder), flags.run);
  const config = projectConfig(flags);
  const newest = (running: readonly Run[]): Run | undefined => ofConfig(running, config) ?? running[0];
  const running = newest(listRuns(folder).filter((run) => runState(run) === 'running'));
  if (running !== undefined) return running;
  notice('no blind run is going on; waiting for one (`kz run --blind -- PROGRAM`)');
  return waitForRun(folder, newest, signal);
}

async function suggest(run: Run): Promise<void> {
  const { suggestConfig } = await import('../../audit/suggest.ts');
  const start = readStart(run);
  const text = suggestConfig(readEvents(run.path));
  if (text === undefined) {
    notice(`nothing was requested in run ${run.id}, so there is nothing to suggest`);
    return;
  }
  const title = `# What run ${run.id}${start === undefined ? '' : ` of ${start.command}`} needed, ${moment(run.startedAt)}. Read it before you paste it.`;
  print(`${[title, '', ...text.trimEnd().split('\n')].map(printable).join('\n')}\n`);
}

/** Prints the lines of a log, for people or as they are. */
class Printer {
  readonly #run: Run;
  readonly #flags: AuditFlags;
  readonly #view: AuditView;
  #unread = 0;

  constructor(run: Run, flags: AuditFlags, targetWidth: number) {
    this.#run = run;
    this.#flags = flags;
    this.#view = new AuditView({ targetWidth, onlyBlocked: flags.blocked === true });
  }

  print(lines: readonly string[]): void {
    print(lines.flatMap((line) => (this.#flags.json === true ? this.#stored(line) : this.#words(line))).join(''));
  }

  end(): void {
    if (this.#flags.json === true) return;
    print(`\n${this.#view.summary(runState(this.#run)).join('\n')}\n`);
    if (this.#unread > 0) notice(`${String(this.#unread)} lines of the log are torn or were written by a newer kz`);
    if (this.#view.hasAdvice)
      notice(`\`kz audit --suggest${this.#flags.run === undefined ? '' : ` --run ${this.#run.id}`}\` prints config to paste`);
  }

  /** What is no JSON is left out, so that whoever reads the lines need not expect it. */
  #stored(line: string): string[] {
    if (this.#flags.blocked !== true) return isJson(line) ? [`${line}\n`] : [];
    const event = parseEvent(line);
    return event?.type === 'refused' || (event?.type === 'exchange' && event.decision === 'blocked') ? [`${line}\n`] : [];
  }

  #words(line: string): string[] {
    const event = parseEvent(line);
    if (event === undefined) this.#unread++;
    return event === undefined ? [] : this.#view.lines(event).map((each) => `${each}\n`);
  }
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}

function widestTarget(run: Run, flags: AuditFlags): number {
  let widest = 0;
  if (flags.json === true) return widest;
  for (const event of readEvents(run.path)) {
    if (event.type === 'exchange' && (flags.blocked !== true || event.decision === 'blocked'))
      widest = Math.max(widest, target(event).length);
  }
  return Math.min(widest, WIDEST_TARGET);
}

function logged(folder: string, flags: AuditFlags): Run {
  const runs = listRuns(folder);
  if (flags.run !== undefined) return named(runs, flags.run);
  const [latest] = runs;
  if (latest === undefined)
    throw new KzError('usage', `no blind run is logged in ${folder}`, { hint: `each blind run makes a log: \`${FIRST_RUN}\`` });
  const config = projectConfig(flags);
  const own = ofConfig(runs, config);
  if (own === undefined && config !== undefined) {
    notice(`no run of ${shortPath(config, process.env)} is logged; this is the latest of all`);
  }
  return own ?? latest;
}

const FIRST_RUN = 'kz run --blind -- PROGRAM';

/** The start of an id is enough. */
function named(runs: readonly Run[], id: string): Run {
  const found = id === '' ? [] : runs.filter((run) => run.id.startsWith(id));
  const [run] = found;
  if (run !== undefined && found.length === 1) return run;
  const problem = run === undefined ? 'no run has the id' : `${String(found.length)} runs have ids that start with`;
  throw new KzError('usage', `${problem} ${JSON.stringify(id)}`, { hint: 'run `kz audit --list`' });
}

function ofConfig(runs: readonly Run[], config: string | undefined): Run | undefined {
  return config === undefined ? undefined : runs.find((run) => readStart(run)?.config.includes(config) === true);
}

/** Only found, not read: a config that is broken by now must not hide what happened. */
function projectConfig(flags: AuditFlags): string | undefined {
  const { files } = findConfig({ explicit: flags.config, env: process.env, cwd: workingFolder() });
  return files.find(({ layer }) => layer === 'project')?.path;
}

function list(folder: string, flags: AuditFlags): void {
  const rows = listRuns(folder).map((run) => ({ run, start: readStart(run), state: runState(run) }));
  if (flags.json === true) {
    printJson({
      schema_version: 1,
      runs: rows.map(({ run, start, state }) => {
        const { command = null, config = [] } = start ?? {};
        return { run: run.id, started: new Date(run.startedAt).toISOString(), state, command, config, path: run.path };
      }),
    });
  } else if (rows.length === 0) notice(`no blind run is logged yet; each one makes a log: \`${FIRST_RUN}\``);
  else {
    const cells = rows.map(({ run, start, state }) => {
      const config = start?.config.map((path) => shortPath(path, process.env)).join(', ') ?? '';
      return [run.id, moment(run.startedAt), state, start?.command ?? '-', config];
    });
    print(table([['RUN', 'STARTED', 'STATE', 'COMMAND', 'CONFIG'], ...cells]));
  }
}
