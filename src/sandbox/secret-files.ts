// The files that this run's own secrets come from: kz's folders and store, identities, what providers log in with, and what refs name.
import { dirname, join } from 'node:path';
import { userDirectory } from '../config/find.ts';
import type { Config } from '../config/load.ts';
import { lookAt, xdgFolder, type Machine } from './machine.ts';
import { entriesOf, fileOf } from './obeyed.ts';

export type SecretsConfig = Pick<Config, 'secrets' | 'documents' | 'providers'>;

/** As the config writes them, absolute, not looked at. A file that gives only exposed secrets is not among them. */
export function secretFiles(config: SecretsConfig, machine: Machine): readonly string[] {
  return [...ownFolders(machine), ...providerFiles(config), ...refFiles(config, machine)];
}

function ownFolders(machine: Machine): string[] {
  const folders = [userDirectory(machine.env), ...(['DATA', 'STATE'] as const).map((name) => join(xdgFolder(machine, name), 'keyzero'))];
  const usual = machine.homes.flatMap((home) => ['.config', '.local/share', '.local/state'].map((path) => join(home, path, 'keyzero')));
  return [...folders, ...usual];
}

function providerFiles({ providers }: SecretsConfig): string[] {
  const { store, age, vault, keyzero } = providers;
  const stem = store?.path?.replace(/\.age$/, '');
  const ofStore = store?.path === undefined ? [] : [store.path, ...KEY_ENDINGS.map((ending) => `${stem ?? ''}${ending}`)];
  const named = [age?.identity, vault?.token_file, vault?.secret_id_file, vault?.jwt_file, keyzero?.jwt_file];
  return [...ofStore, ...named.filter((path) => path !== undefined)];
}

/** providers/store-key.ts. */
const KEY_ENDINGS = ['.key', '.key.age', '.key.keychain'];

function refFiles(config: SecretsConfig, machine: Machine): string[] {
  const hidden = new Set<string>();
  const exposed = new Set<string>();
  for (const entry of entriesOf(config)) {
    const path = fileOf(entry, machine.env);
    if (path !== undefined) ('expose' in entry && entry.expose === true ? exposed : hidden).add(path);
  }
  return [...hidden].map((path) => versionsOf(path, exposed));
}

/** Kubernetes puts each version of a mounted secret in a new folder beside `..data`: only the folder above stays the same. */
function versionsOf(path: string, exposed: ReadonlySet<string>): string {
  const folder = dirname(path);
  const isMount = lookAt(join(folder, '..data')) !== undefined && ![...exposed].some((each) => dirname(each) === folder);
  return isMount ? folder : path;
}
