// What stays as it is although the program may write around it: configs, hooks, and whatever else somebody outside, kz before all, obeys later.
// Decides for a layout that has its writable places already.
import { basename, dirname, join } from 'node:path';
import { LOCAL_FILE, PROJECT_FILE } from '../config/find.ts';
import type { Config } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import { shortPath } from '../core/home-path.ts';
import type { AskedPaths } from './asked-paths.ts';
import { gitFolders, type GitFolders } from './git-folders.ts';
import { around, isAnyInside, put, type Layout } from './layout.ts';
import { plantedLink } from './links.ts';
import { isInside, lookAt, namesIn, placeOfMissing, tooMuch, type Machine } from './machine.ts';
import { obeyedFiles, type Obeyed, type ObeyedConfig } from './obeyed.ts';
import { GUARDED, GUARDED_AT_HOME } from './project.ts';

export interface Guarding {
  readonly config: ObeyedConfig & Pick<Config, 'files'>;
  readonly machine: Machine;
  readonly asked: AskedPaths;
  readonly directory: string;
  readonly projects: readonly string[];
  /** Real folders that the program may write to, at this start or another. */
  readonly open: readonly string[];
  readonly layout: Layout;
  readonly missing: string[];
  readonly notes: string[];
}

/** Returns what it looked for, found or not. Throws for files of the config that the program could exchange. */
export function guard(guarding: Guarding): readonly string[] {
  const { config, machine, projects, layout, missing } = guarding;
  const opened = openedFolders(guarding);
  const git = opened.map((folder) => gitFolders(folder));
  openGit(git, guarding);
  const obeyed = obeyedFiles(config, machine.env);
  for (const each of obeyed) refuseLink(each, guarding);
  const homes = machine.homes.filter((home) => opened.some((folder) => isInside(home, folder)));
  const places = [
    ...config.files.map(({ path }) => path),
    ...[...projects, ...opened].flatMap((folder) => GUARDED.map((name) => `${folder}/${name}`)),
    ...onTheWayUp(guarding),
    ...homes.flatMap((home) => GUARDED_AT_HOME.map((name) => `${home}/${name}`)),
    ...git.flatMap(({ guarded }) => guarded),
    ...obeyed.map(({ path }) => path),
  ];
  for (const place of new Set(places)) guardOne(place, guarding);
  for (const path of git.flatMap((each) => each.missing)) {
    if (around(layout, path) !== 'writable') continue;
    put(layout, path, { list: 'guarded' });
    missing.push(path);
  }
  return places;
}

/** Of the places that `guard` looked for, those that the program can make. Ask when the layout is complete. */
export function absentPlaces(places: readonly string[], { config, layout, ...guarding }: Guarding): readonly string[] {
  const beside = config.files.map(({ path }) => dirname(path));
  const repositories = openedFolders({ layout, ...guarding }).map((folder) => join(folder, '.git'));
  // kz reads one only beside a config, and whoever makes stand-ins must not litter.
  const wanted = [...places, ...repositories].filter((path) => basename(path) !== LOCAL_FILE || beside.includes(dirname(path)));
  const real = new Set([...new Set(wanted)].flatMap((path) => placeOfMissing(path) ?? []));
  return [...real].filter((path) => around(layout, path) === 'writable' && !layout.has(path));
}

function openedFolders({ projects, asked, layout }: Pick<Guarding, 'projects' | 'asked' | 'layout'>): readonly string[] {
  const folders = [...projects, ...asked.write.filter(({ kind }) => kind === 'folder').map(({ path }) => path)];
  return [...new Set(folders)].filter((path) => layout.get(path)?.list === 'writable');
}

function openGit(git: readonly GitFolders[], { machine, layout }: Guarding): void {
  for (const path of git.flatMap(({ writable }) => writable))
    if (tooMuch(path, machine) === undefined && around(layout, path) !== 'hidden') put(layout, path, { list: 'writable' });
}

/** Between where the program starts and its config, another config would come first. */
function onTheWayUp({ directory, layout }: Guarding): string[] {
  const places: string[] = [];
  for (let folder = directory; around(layout, folder) === 'writable' && folder !== dirname(folder); folder = dirname(folder))
    places.push(join(folder, PROJECT_FILE));
  return places;
}

function guardOne(place: string, { asked, projects, layout }: Guarding): void {
  const found = lookAt(place);
  if (found === undefined || found.kind === 'device' || isAnyInside(projects, found.path)) return;
  if (!asked.write.some(({ path }) => path === found.path)) put(layout, found.path, { list: 'guarded' });
}

/** Of a link, only what it leads to can be guarded: the link itself could lead elsewhere at the next start. */
function refuseLink({ path, who, mayBeLinked }: Obeyed, { machine, open, notes }: Guarding): void {
  const link = plantedLink(path, open);
  if (link === undefined) return;
  const [name, place] = [path, link].map((each) => shortPath(each, machine.env));
  const real = lookAt(path)?.path;
  if (mayBeLinked) {
    notes.push(`${who} names ${name ?? ''}: what the program puts in the place of the link ${place ?? ''}, kz obeys at its next start`);
    return;
  }
  const way = name === place ? 'a link' : `by way of the link ${place ?? ''},`;
  throw new KzError('config-invalid', `${who} names ${name ?? ''}, ${way} that a sandboxed program could have made`, {
    hint: real === undefined ? 'take the link away' : `if it is yours, name ${shortPath(real, machine.env)} itself`,
  });
}

/** A config decides what kz runs, so a link that the program could exchange is none. Throws `config-untrusted`. */
export function refuseLinkedConfigs({ files }: Pick<Config, 'files'>, open: readonly string[]): void {
  for (const { path } of files) {
    const link = plantedLink(path, open);
    if (link === undefined) continue;
    const real = lookAt(path)?.path ?? path;
    throw new KzError('config-untrusted', `${path} leads by the link ${link} to ${real}: a sandboxed program could exchange it`, {
      hint: `put the file itself there, or --sandbox off`,
    });
  }
}

/**
 * Of kz's own package, what is run outside as well when it is installed in the project: all of it, and the one package that it loads. A link in
 * `.bin` or of pnpm's cannot be guarded without its folder, and without that folder nothing can be installed.
 */
export function ownPlaces(own: readonly string[], projects: readonly string[]): readonly string[] {
  return own.flatMap((each) => {
    const folder = lookAt(each)?.path;
    if (folder === undefined) return [];
    const root = dirname(folder);
    if (lookAt(join(root, 'package.json'))?.kind !== 'file') return [folder];
    // Whoever develops kz may change its package.json.
    return isAnyInside(projects, root) ? [folder, join(root, 'bin')] : [folder, root, ...besidePackage(root)];
  });
}

function besidePackage(root: string): string[] {
  const places: string[] = [];
  for (let folder = dirname(root); folder !== dirname(folder); folder = dirname(folder)) {
    if (basename(folder) !== 'node_modules') continue;
    const scope = join(folder, '@napi-rs');
    places.push(join(folder, '.bin/kz'), ...namesIn(scope).flatMap((name) => (name.startsWith('keyring') ? [join(scope, name)] : [])));
  }
  return places;
}
