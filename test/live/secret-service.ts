// A real gnome-keyring on a D-Bus of its own, with everything it writes in a temporary folder. Nothing on that bus starts by itself, so
// the machine's own keyring and desktop are never involved.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface SecretServiceOptions {
  /** False: the login collection is there, and locked. Default: true. */
  readonly unlocked?: boolean;
  /** False: the keyring of somebody who never logged in, without a collection. Default: true. */
  readonly collection?: boolean;
  /**
   * What becomes of an unlock dialog. `ignored`: it is never answered, and there is a file `dialog-shown` in HOME. `answered`: each one
   * leaves a line in the file `dialogs` in HOME, and the right password is given. Default: `refused`, as without a desktop.
   */
  readonly dialog?: Dialog;
}

type Dialog = 'refused' | 'ignored' | 'answered';

export interface SecretService {
  /** All that a program needs: PATH, HOME, the XDG folders and the address of the bus. */
  readonly env: Record<string, string>;
  lock(): Promise<void>;
  /** The daemon keeps its place on the bus and answers nothing any more. */
  freeze(): void;
  stop(): Promise<void>;
}

const PROGRAMS = ['dbus-run-session', 'dbus-send', 'gnome-keyring-daemon'];
const COLLECTION = '/org/freedesktop/secrets/collection/login';

/** Why there can be no Secret Service here, or undefined. */
export function secretServiceProblem(): string | undefined {
  const missing = PROGRAMS.filter((program) => !isInstalled(program));
  return missing.length === 0 ? undefined : `${missing.join(', ')} not installed`;
}

/** Undefined where it cannot be had. */
export async function startSecretService(options: SecretServiceOptions = {}): Promise<SecretService | undefined> {
  if (secretServiceProblem() !== undefined) return undefined;
  const home = await mkdtemp(join(tmpdir(), 'kz-keyring-'));
  const env = await environment(home);
  const config = await busConfig(home, options.dialog ?? 'refused');
  const session = spawn('dbus-run-session', ['--config-file', config, '--', '/bin/sh', '-c', SCRIPT], {
    env: { ...env, KZ_UNLOCK: options.collection === false ? '' : '--unlock', KZ_COLLECTION: COLLECTION },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const [address = '', pid = ''] = (await firstLine(session)).split(' ');
  env.DBUS_SESSION_BUS_ADDRESS = address;
  const service: SecretService = {
    env,
    async lock() {
      await promisify(execFile)('dbus-send', [...SEND, 'org.freedesktop.Secret.Service.Lock', `array:objpath:${COLLECTION}`], { env });
    },
    freeze() {
      process.kill(Number(pid), 'SIGSTOP');
    },
    async stop() {
      const ended = once(session, 'exit');
      session.stdin.end();
      await ended;
      session.stdout.destroy();
      await rm(home, { recursive: true, force: true });
    },
  };
  if (options.unlocked === false) await service.lock();
  return service;
}

const SEND = ['--session', '--print-reply', '--dest=org.freedesktop.secrets', '/org/freedesktop/secrets'];

/** Says when the keyring answers, and ends it when the standard input ends. */
const SCRIPT = `
exec 3<&0
printf password | gnome-keyring-daemon --foreground $KZ_UNLOCK --components=secrets >/dev/null &
keyring=$!
trap 'kill -KILL $keyring 2>/dev/null' EXIT
ask() { dbus-send --session --print-reply --dest=org.freedesktop.secrets "$@" 2>/dev/null; }
ready() {
  if [ -z "$KZ_UNLOCK" ]; then ask /org/freedesktop/secrets org.freedesktop.DBus.Peer.Ping >/dev/null
  else ask /org/freedesktop/secrets org.freedesktop.Secret.Service.ReadAlias string:default | grep -q "$KZ_COLLECTION"; fi
}
until ready; do kill -0 $keyring || exit 1; sleep 0.05; done
echo "$DBUS_SESSION_BUS_ADDRESS $keyring"
read -r _ <&3
`;

async function environment(home: string): Promise<Record<string, string>> {
  const env: Record<string, string> = { PATH: process.env.PATH ?? '', HOME: home, LANG: 'C.UTF-8' };
  const folders = { XDG_RUNTIME_DIR: 'run', XDG_DATA_HOME: 'data', XDG_CONFIG_HOME: 'config', XDG_CACHE_HOME: 'cache' };
  for (const [name, folder] of Object.entries(folders)) {
    const path = join(home, folder);
    await mkdir(path, { mode: 0o700 });
    env[name] = path;
  }
  return env;
}

async function busConfig(home: string, dialog: Dialog): Promise<string> {
  const services = join(home, 'services');
  await mkdir(services);
  if (dialog === 'ignored') {
    // Starts, leaves a file to say so, never takes its place on the bus, and ends when this folder is gone.
    await writeFile(join(home, 'prompter'), '#!/bin/sh\n: > "$HOME/dialog-shown"\nwhile [ -e "$0" ]; do sleep 0.2; done\n', {
      mode: 0o700,
    });
  }
  if (dialog === 'answered') {
    const prompter = fileURLToPath(new URL('../fixtures/unlock-prompter.mjs', import.meta.url));
    await writeFile(join(home, 'prompter'), `#!/bin/sh\nexec '${process.execPath}' '${prompter}'\n`, { mode: 0o700 });
  }
  if (dialog !== 'refused') {
    const service = `[D-BUS Service]\nName=org.gnome.keyring.SystemPrompter\nExec=${join(home, 'prompter')}\n`;
    await writeFile(join(services, 'org.gnome.keyring.SystemPrompter.service'), service);
  }
  const config = join(home, 'bus.conf');
  await writeFile(
    config,
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
      "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
    <busconfig>
      <type>session</type>
      <listen>unix:path=${home}/bus.sock</listen>
      <auth>EXTERNAL</auth>
      <servicedir>${services}</servicedir>
      <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
    </busconfig>`,
  );
  return config;
}

async function firstLine(session: ChildProcess): Promise<string> {
  if (session.stdout === null) throw new Error('no output');
  for await (const line of createInterface({ input: session.stdout })) return line;
  throw new Error('gnome-keyring-daemon did not start');
}

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
