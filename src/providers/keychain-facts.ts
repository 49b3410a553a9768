// Which keychain there is on this machine, from what can be seen without asking it anything: no prompt, no unlock, no process.
import { existsSync } from 'node:fs';
import { busEnvironment } from './keychain.ts';
import type { ProviderContext } from './provider.ts';

export interface KeychainFacts {
  readonly backend: 'secret-service' | 'macos' | 'none';
  /** The D-Bus address, of the Secret Service only. */
  readonly bus: string | undefined;
  /** In words for a person, and what it means where there is none. */
  readonly detail: string;
}

export interface KeychainPlace {
  readonly env: ProviderContext['env'];
  readonly platform: NodeJS.Platform;
  /** The user's runtime directory as systemd makes it. */
  readonly runtime: string | undefined;
}

const NONE = 'there is no system keychain here; `provider = "store"` needs nothing installed';

export function keychainFacts({ env, platform, runtime }: KeychainPlace = thisMachine()): KeychainFacts {
  if (platform === 'darwin') return { backend: 'macos', bus: undefined, detail: 'macOS Keychain' };
  const given = env.DBUS_SESSION_BUS_ADDRESS ?? '';
  const bus = busEnvironment(env, runtime).DBUS_SESSION_BUS_ADDRESS ?? '';
  if (bus === '') return { backend: 'none', bus: undefined, detail: `no D-Bus session bus: ${NONE}` };
  // Only a socket in the file system can be looked at.
  const [, socket] = /^unix:path=([^,;%]+)(?:,guid=\w+)?$/.exec(bus) ?? [];
  if (socket !== undefined && !existsSync(socket)) {
    const detail = `DBUS_SESSION_BUS_ADDRESS names ${socket}, which is not there: ${NONE}`;
    return { backend: 'none', bus, detail };
  }
  const found = given === '' ? 'found without DBUS_SESSION_BUS_ADDRESS' : 'from DBUS_SESSION_BUS_ADDRESS';
  return { backend: 'secret-service', bus, detail: `Secret Service, if one is on the D-Bus session bus ${bus} (${found})` };
}

function thisMachine(): KeychainPlace {
  const uid = process.platform === 'linux' ? process.getuid?.() : undefined;
  return { env: process.env, platform: process.platform, runtime: uid === undefined ? undefined : `/run/user/${String(uid)}` };
}
