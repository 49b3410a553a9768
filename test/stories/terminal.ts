// A real terminal for stories: test/fixtures/terminal.py runs a program on one, and the story types, reads what is shown, and hangs up.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { FIXTURES, type Story } from './kz.ts';
import { waitFor } from './processes.ts';

/** Why there can be no terminal here; undefined when there can. */
export const NO_TERMINAL: string | undefined = python() === undefined ? 'no python3 with the pty module' : undefined;

function python(): string | undefined {
  const { status, stdout } = spawnSync('python3', ['-c', 'import pty, sys; print(sys.executable)'], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

export interface TerminalEnd {
  readonly code?: number;
  readonly signal?: NodeJS.Signals;
}

interface Modes {
  readonly echo: boolean;
  readonly canonical: boolean;
}

type Event = { pid: number } | { shown: string } | { modes: Modes } | { hungUp: true } | TerminalEnd;

export class Terminal {
  readonly ended: Promise<TerminalEnd>;
  readonly #driver: ChildProcess;
  #pid = 0;
  #shown = '';
  #read = 0;
  #modes: Modes[] = [];
  #hungUp = false;

  private constructor(driver: ChildProcess) {
    this.#driver = driver;
    this.ended = new Promise((resolve, reject) => {
      if (driver.stdout === null) throw new Error('the driver has no output');
      createInterface({ input: driver.stdout }).on('line', (line) => {
        const event = JSON.parse(line) as Event;
        if ('pid' in event) this.#pid = event.pid;
        else if ('shown' in event) this.#shown += Buffer.from(event.shown, 'base64').toString('utf8');
        else if ('modes' in event) this.#modes.push(event.modes);
        else if ('hungUp' in event) this.#hungUp = true;
        else resolve(event);
      });
      driver.once('error', reject);
      driver.once('close', () => {
        reject(new Error('the driver of the terminal has failed'));
      });
    });
    // A story that does not ask for the end has no use for its failure.
    this.ended.catch(() => undefined);
  }

  /** The program leads the terminal's session, as the shell of a terminal window does. */
  static async start(
    story: Story,
    [program, ...args]: readonly [string, ...string[]],
    env: Record<string, string> = {},
  ): Promise<Terminal> {
    const environment = story.environment({ TERM: 'xterm', NO_COLOR: '1', ...env });
    const driver = spawn(python() ?? 'python3', [`${FIXTURES}terminal.py`, program, ...args], {
      cwd: story.project,
      env: environment,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const terminal = new Terminal(driver);
    await Promise.race([waitFor('the start of the terminal', () => terminal.#pid !== 0), terminal.ended]);
    return terminal;
  }

  get pid(): number {
    return this.#pid;
  }

  /** Everything that was shown so far. */
  get shown(): string {
    return this.#shown;
  }

  type(keys: string | Buffer): void {
    this.#order({ type: Buffer.from(keys).toString('base64') });
  }

  resize(rows: number, columns: number): void {
    this.#order({ resize: [rows, columns] });
  }

  /** What closing the window does. */
  async hangUp(): Promise<void> {
    this.#order({ hangUp: true });
    await waitFor('the end of the terminal', () => this.#hungUp);
  }

  async modes(): Promise<Modes> {
    const before = this.#modes.length;
    this.#order({ modes: true });
    await waitFor('the modes of the terminal', () => this.#modes.length > before);
    return this.#modes.at(-1) ?? { echo: false, canonical: false };
  }

  /** Waits until `text` is shown after what the last `sees` found. Returns what stands between the two, and `text`. */
  async sees(text: string): Promise<string> {
    const find = (): number => this.#shown.indexOf(text, this.#read);
    await waitFor(`${JSON.stringify(text)} on the terminal`, () => find() >= 0).catch((error: unknown) => {
      throw new Error(`it shows ${JSON.stringify(this.#shown)}`, { cause: error });
    });
    const start = this.#read;
    this.#read = find() + text.length;
    return this.#shown.slice(start, this.#read);
  }

  /** How often `text` was shown so far. */
  count(text: string): number {
    return this.#shown.split(text).length - 1;
  }

  close(): void {
    this.#driver.stdin?.end();
  }

  #order(order: unknown): void {
    this.#driver.stdin?.write(`${JSON.stringify(order)}\n`);
  }
}
