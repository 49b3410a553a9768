// Runs `op`, 1Password's program: one at a time, in this kz and in all others that start together, because each may ask the person to
// unlock. `op` gets the variables that it needs and no others, and never a value in its arguments.
import { join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import { onePromptAtATime } from './one-prompt.ts';
import { readFault } from './onepassword-faults.ts';
import { runProgram, type ProgramEnd } from './program.ts';
import type { ProviderContext } from './provider.ts';

export interface OpCall {
  readonly args: readonly string[];
  /** For its standard input. */
  readonly input?: string;
}

/** Asks `op`, any number of times, in one turn. A status other than 0 is an answer. */
export type AskOp = (call: OpCall) => Promise<ProgramEnd>;

const NEEDED = new Set([
  ...['HOME', 'USER', 'LOGNAME', 'PATH', 'TMPDIR', 'LANG', 'DISPLAY', 'WAYLAND_DISPLAY', 'XAUTHORITY', 'DBUS_SESSION_BUS_ADDRESS'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
]);
const NEEDED_PREFIX = /^(?:OP_|XDG_|LC_)/;
const SESSION = 'OP_SESSION_';

/** Two hundred values of a few KiB; op answers with all of them at once. */
const MOST_OUTPUT_MEBIBYTES = 16;

export class Op {
  readonly #account: string | undefined;
  readonly #lock: string;
  #env: ProviderContext['env'];
  #last: Promise<unknown> = Promise.resolve();

  constructor(account: string | undefined, { env, userDirectory }: ProviderContext) {
    this.#account = account;
    this.#lock = join(userDirectory, 'unlock-1password');
    this.#env = onlyNeeded(env);
  }

  /** A token in the environment says who asks: then nobody is prompted, and the account is settled. */
  get login(): 'service account' | 'Connect server' | undefined {
    if (isSet(this.#env.OP_CONNECT_HOST) && isSet(this.#env.OP_CONNECT_TOKEN)) return 'Connect server';
    return isSet(this.#env.OP_SERVICE_ACCOUNT_TOKEN) ? 'service account' : undefined;
  }

  /** Waits for its turn until the signal aborts, then throws `provider-timeout`. */
  inTurn<T>(action: (ask: AskOp) => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.#last;
    const start = async (): Promise<T> => {
      await before;
      const use = (): Promise<T> => action((call) => this.#ask(call, signal));
      return this.login === undefined ? onePromptAtATime({ path: this.#lock }, use, signal) : use();
    };
    const turn = start();
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #ask(call: OpCall, signal: AbortSignal): Promise<ProgramEnd> {
    const end = await this.#run(call, signal);
    if (end.status === 0 || !hasSession(this.#env) || !isLocked(end)) return end;
    // A session that a shell has kept since yesterday stands in the way of the desktop app, which may well be unlocked.
    this.#env = Object.fromEntries(Object.entries(this.#env).filter(([name]) => !name.startsWith(SESSION)));
    return this.#run(call, signal);
  }

  async #run({ args, input }: OpCall, signal: AbortSignal): Promise<ProgramEnd> {
    const account = this.#account === undefined || this.login !== undefined ? [] : [`--account=${this.#account}`];
    const program = {
      ...{ program: 'op', args: [...args, ...account, '--no-color'], directory: '/', env: this.#env },
      ...{ maxMebibytes: MOST_OUTPUT_MEBIBYTES, keepsErrors: true, ...(input === undefined ? {} : { input }) },
      // The app remembers whom it has let in by terminal: without one, it would ask for every call.
      staysInSession: true,
    };
    try {
      return await runProgram(program, signal);
    } catch (error) {
      throw signal.aborted ? timedOut(error) : notStarted(error);
    }
  }
}

function onlyNeeded(env: ProviderContext['env']): ProviderContext['env'] {
  return Object.fromEntries(Object.entries(env).filter(([name]) => NEEDED.has(name.toUpperCase()) || NEEDED_PREFIX.test(name)));
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}

function hasSession(env: ProviderContext['env']): boolean {
  return Object.keys(env).some((name) => name.startsWith(SESSION));
}

function isLocked({ errors }: ProgramEnd): boolean {
  const fault = readFault(errors);
  return fault.concerns === 'all' && fault.error.code === 'provider-locked';
}

function timedOut(cause: unknown): KzError {
  return new KzError('provider-timeout', 'op did not answer in time', {
    hint: 'it may wait for you to unlock 1Password; allow more with --timeout 60s',
    cause,
  });
}

function notStarted(error: unknown): unknown {
  const isMissing = error instanceof KzError && systemCode(error.cause) === 'ENOENT';
  if (!isMissing) return error;
  return new KzError('provider-unavailable', 'the 1Password program "op" was not found in PATH', {
    hint: 'install 1password-cli, or start kz with a PATH that has op',
    cause: error.cause,
  });
}
