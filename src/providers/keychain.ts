// The system keychain: macOS Keychain, or the Secret Service on D-Bus. Never the kernel keyring, which forgets at reboot.
//
// A helper process makes the calls. The native library can wait for an unlock dialog for a year and for a dead bus forever, neither with
// a way to stop it, and a process with such a call in it cannot exit (measured with @napi-rs/keyring 2.1.2 on Node 20: process.exit()
// hangs). A helper can be killed, and the dialog goes away with it.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError, systemCode } from '../core/errors.ts';
import type { Busy } from '../core/file-lock.ts';
import { Secret } from '../core/secret.ts';
import { onePromptAtATime } from './one-prompt.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';

type KeychainOptions = NonNullable<ProviderOptions['keychain']>;

/** `libraryFrom` is the file from which the native library is looked for, as if that file required it. */
export function openKeychain(options: KeychainOptions, context: ProviderContext, libraryFrom = programPath()): Provider {
  const setup: Setup = { service: options.service ?? 'keyzero', env: busEnvironment(context.env, runtimeDirectory()), libraryFrom };
  // The helper starts while others ask: only the asking is one at a time.
  const connect = <T>(use: (ask: Ask) => Promise<T>, signal: AbortSignal): Promise<T> =>
    withHelper(setup, (ask) => onePromptAtATime({ path: join(context.userDirectory, 'keychain'), busy }, () => use(ask), signal), signal);
  return {
    get: (refs, signal) => connect((ask) => lookUpInTurn(refs, setup, ask), signal),

    async put(ref, secret, signal) {
      const item = parseRef(ref, setup.service);
      await connect((ask) => ask({ action: 'put', ...item, value: secret.reveal() }), signal);
    },

    async remove(ref, signal) {
      const item = parseRef(ref, setup.service);
      return (await connect((ask) => ask({ action: 'remove', ...item }), signal)) === true;
    },

    destination(ref) {
      const { service, account } = parseRef(ref, setup.service);
      return `${process.platform === 'darwin' ? 'the macOS Keychain' : 'the system keychain'} (service ${service}, account ${account})`;
    },
  };
}

interface Setup {
  readonly service: string;
  readonly env: ProviderContext['env'];
  readonly libraryFrom: string;
}

interface Item {
  readonly service: string;
  readonly account: string;
}

type Call = Item & ({ readonly action: 'get' | 'remove' } | { readonly action: 'put'; readonly value: string });

/** `get` gives the value or null, `remove` whether there was one, `put` nothing. Throws KzError. */
type Ask = (call: Call) => Promise<string | boolean | null>;

/** The D-Bus address as a login shell has it: MCP clients start their servers without. */
export function busEnvironment(env: ProviderContext['env'], runtime: string | undefined): ProviderContext['env'] {
  if (env.DBUS_SESSION_BUS_ADDRESS !== undefined && env.DBUS_SESSION_BUS_ADDRESS !== '') return env;
  const folder = [env.XDG_RUNTIME_DIR, runtime].find((candidate) => candidate !== undefined && existsSync(join(candidate, 'bus')));
  if (folder === undefined) return env;
  return { ...env, XDG_RUNTIME_DIR: folder, DBUS_SESSION_BUS_ADDRESS: `unix:path=${join(folder, 'bus')}` };
}

function runtimeDirectory(): string | undefined {
  const uid = process.platform === 'linux' ? process.getuid?.() : undefined;
  return uid === undefined ? undefined : `/run/user/${String(uid)}`;
}

/** The bundle is CommonJS and the source an ES module: only the program's own path tells both where they are installed. */
function programPath(): string {
  const [, program = ''] = process.argv;
  try {
    return realpathSync(program);
  } catch {
    return program;
  }
}

function parseRef({ text }: Ref, defaultService: string): Item {
  const slash = text.indexOf('/');
  const item =
    slash === -1 ? { service: defaultService, account: text } : { service: text.slice(0, slash), account: text.slice(slash + 1) };
  if (item.service !== '' && item.account !== '' && !/\p{Cc}/u.test(text)) return item;
  throw new KzError('ref-invalid', `keychain ref ${JSON.stringify(text)} has an empty part or a control character`, {
    hint: 'write it as `name` or `service/account`',
  });
}

async function lookUpInTurn(refs: readonly Ref[], { service }: Setup, ask: Ask): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  let closed: KzError | undefined;
  for (const ref of refs) {
    // Who dismissed one unlock dialog does not want to see nine more.
    const outcome: Outcome = closed === undefined ? await lookUp(ref, service, ask) : { ok: false, error: closed };
    if (!outcome.ok && (outcome.error.code === 'provider-locked' || outcome.error.code === 'provider-unavailable')) closed = outcome.error;
    outcomes.push(outcome);
  }
  return outcomes;
}

async function lookUp(ref: Ref, defaultService: string, ask: Ask): Promise<Outcome> {
  try {
    const item = parseRef(ref, defaultService);
    const value = await ask({ action: 'get', ...item });
    if (typeof value === 'string') return { ok: true, secret: new Secret(value) };
    return { ok: false, error: new KzError('secret-missing', `the system keychain has no ${describe(item)}`) };
  } catch (error) {
    if (error instanceof KzError) return { ok: false, error };
    throw error;
  }
}

function busy({ pid, lock, cause }: Busy): KzError {
  const other = pid === undefined ? 'another kz' : `another kz (process ${String(pid)})`;
  return new KzError('provider-timeout', `gave up waiting for the system keychain, which ${other} is being asked to unlock`, {
    hint: `answer its dialog, and allow more with --timeout 60s; if that process is gone, run \`rm ${lock}\``,
    cause,
  });
}

/** Values travel over the channel between the two processes, never in arguments, environment or files. */
const HELPER = `
process.title = 'kz-keychain';
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', async ({ libraryFrom, action, service, account, value }) => {
  let stage = 'load';
  try {
    const { AsyncEntry } = require('node:module').createRequire(libraryFrom)('@napi-rs/keyring');
    stage = 'connect';
    const entry = new AsyncEntry(service, account, { linux: { store: 'secret-service' } });
    stage = 'call';
    const calls = { get: () => entry.getPassword(), put: () => entry.setPassword(value), remove: () => entry.deletePassword() };
    process.send({ result: (await calls[action]()) ?? null });
  } catch (error) {
    process.send({ stage, error: String(error?.message) });
  }
});
`;

async function withHelper<T>(setup: Setup, use: (ask: Ask) => Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const helper = await startHelper(setup);
  const end = (): void => {
    helper.kill('SIGKILL');
  };
  signal.addEventListener('abort', end, { once: true });
  const gone = untilGone(helper);
  try {
    signal.throwIfAborted();
    const result = await use((call) => Promise.race([askHelper(helper, call, setup), gone]));
    signal.throwIfAborted();
    return result;
  } catch (error) {
    // Not that the helper was killed is what went wrong, but why.
    if (!(error instanceof KzError && error.code === 'provider-timeout')) signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
}

/** Until it has spawned, it may have neither a channel nor a `send`. */
async function startHelper(setup: Setup): Promise<ChildProcess> {
  // NODE_OPTIONS could make the helper load or print anything.
  const env = Object.fromEntries(Object.entries(setup.env).filter(([name]) => !name.startsWith('NODE_')));
  try {
    const helper = spawn(process.execPath, ['--input-type=commonjs', '--eval', HELPER], {
      env,
      cwd: '/',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    await once(helper, 'spawn');
    return helper;
  } catch (cause) {
    const code = systemCode(cause) ?? 'unknown error';
    throw new KzError('provider-failed', `cannot start the helper process for the system keychain: ${code}`, { cause });
  }
}

/** Only ever rejects. */
function untilGone(helper: ChildProcess): Promise<never> {
  const gone = new Promise<never>((_resolve, reject) => {
    helper.once('error', (cause) => {
      reject(new KzError('provider-failed', 'the helper process for the system keychain cannot be reached', { cause }));
    });
    helper.once('exit', (code, signal) => {
      reject(new KzError('provider-failed', `the helper process for the system keychain ended (${signal ?? String(code)})`));
    });
  });
  gone.catch(() => undefined);
  return gone;
}

async function askHelper(helper: ChildProcess, call: Call, { libraryFrom, env }: Setup): Promise<string | boolean | null> {
  const answered = once(helper, 'message');
  // A channel that is closed already shows as the helper's exit.
  helper.send({ ...call, libraryFrom }, () => undefined);
  const [answer] = (await answered) as unknown[];
  if (typeof answer !== 'object' || answer === null)
    throw new KzError('provider-failed', 'the helper process for the keychain gave no answer');
  if ('error' in answer && 'stage' in answer) throw libraryError({ stage: answer.stage, message: String(answer.error) }, call, env);
  const result = 'result' in answer ? answer.result : null;
  return typeof result === 'string' || typeof result === 'boolean' ? result : null;
}

const USE_STORE = 'use `provider = "store"`, which needs nothing installed';

interface LibraryError {
  readonly stage: unknown;
  readonly message: string;
}

/** By the library's words, which are its only sign. Each of those on Linux is provoked in test/live/keychain.test.ts. */
function libraryError({ stage, message }: LibraryError, item: Item, env: ProviderContext['env']): KzError {
  const cause = new Error(message);
  if (stage === 'load') {
    const platform = `${process.platform}-${process.arch}`;
    return new KzError('provider-unavailable', `the keychain library is not installed for ${platform}`, { hint: USE_STORE, cause });
  }
  if (/unlock prompt was dismissed|object locked/.test(message)) {
    const hint = `log in to the desktop or unlock its keyring; without a desktop, ${USE_STORE}`;
    return new KzError('provider-locked', 'the system keychain is locked, and nobody unlocked it', { hint, cause });
  }
  if (message.startsWith('Entry is matched by')) {
    const hint = 'delete all but one of them in the password manager of the desktop';
    return new KzError('provider-failed', `the system keychain has more than one ${describe(item)}`, { hint, cause });
  }
  if (message.includes('not valid UTF-8')) {
    return new KzError('secret-invalid', `${describe(item)} of the system keychain is not UTF-8 text`, { cause });
  }
  if (process.platform === 'linux') return serviceError(stage, message, env);
  return new KzError('provider-failed', 'the system keychain did not do what kz asked', {
    hint: 'if it is locked, as it is over SSH, run `security unlock-keychain`',
    cause,
  });
}

function serviceError(stage: unknown, message: string, env: ProviderContext['env']): KzError {
  const cause = new Error(message);
  const unavailable = (problem: string): KzError => new KzError('provider-unavailable', problem, { hint: USE_STORE, cause });
  const address = env.DBUS_SESSION_BUS_ADDRESS ?? '';
  const bus = address === '' ? 'the D-Bus session bus' : `the D-Bus session bus at ${address}`;
  if (message.includes('no result found')) return unavailable(`the Secret Service on ${bus} has no default collection`);
  if (message.includes('was not provided by any .service files')) return unavailable(`there is no Secret Service on ${bus}`);
  if (message.includes('Did not receive a reply')) return unavailable(`the Secret Service on ${bus} does not answer`);
  if (stage !== 'connect') return new KzError('provider-failed', `the Secret Service on ${bus} did not do what kz asked`, { cause });
  if (address !== '') return unavailable(`cannot reach the Secret Service: no answer from ${bus}`);
  const tried = [env.XDG_RUNTIME_DIR, runtimeDirectory()].filter((folder) => folder !== undefined && folder !== '');
  return unavailable(
    `there is no system keychain: DBUS_SESSION_BUS_ADDRESS is not set, and no ${[...new Set(tried)].join('/bus nor ')}/bus`,
  );
}

function describe({ service, account }: Item): string {
  return `entry ${JSON.stringify(account)} of service ${JSON.stringify(service)}`;
}
