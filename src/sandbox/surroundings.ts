// What this machine and this config make of a program's confinement: looks, and decides. Changes nothing, and starts nothing.
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import type { Config } from '../config/load.ts';
import { sandboxSettings, type SandboxSettings } from '../config/sandbox-settings.ts';
import { KzError } from '../core/errors.ts';
import { shortPath } from '../core/home-path.ts';
import { askedPaths, type AskedPaths } from './asked-paths.ts';
import { packageCaches } from './caches.ts';
import type { Confinement } from './confinement.ts';
import { credentialPlaces } from './credential-places.ts';
import { gitFolders } from './git-folders.ts';
import { above, around, isAnyInside, isGone, listsOf, put, type Layout } from './layout.ts';
import { liveSockets } from './live-sockets.ts';
import {
  holdsEverything,
  isInside,
  isPseudo,
  lookAt,
  machineOf,
  systemPath,
  tooMuch,
  type Machine,
  type MachineOptions,
} from './machine.ts';
import { nameFiles } from './name-files.ts';
import { programFolders } from './program-folders.ts';
import { GUARDED, GUARDED_AT_HOME, projectFolders, valueFiles } from './project.ts';
import { secretFiles } from './secret-files.ts';
import { settingsFiles } from './settings-files.ts';

/** Of the machine, tests make their own. */
export interface Surroundings extends MachineOptions {
  /** Where the program starts. */
  readonly directory: string;
  readonly config: Pick<Config, 'files' | 'secrets' | 'documents' | 'providers' | 'blind'>;
  /** By default what the config says. */
  readonly settings?: Pick<SandboxSettings, 'read' | 'write' | 'hide'> | undefined;
  /** Of kz's installation, what the program needs. */
  readonly own: readonly string[];
  /** Does kz answer for names? Where nobody does, it does not matter whom programs ask: no question leaves. */
  readonly names?: boolean | undefined;
  readonly memoryBytes?: number | undefined;
  /** The machine's name. */
  readonly host?: string | undefined;
}

export interface Surveyed {
  readonly confinement: Confinement;
  /** Folders that the confinement counts on, for the caller to make: 0700, with what is above them. */
  readonly missing: readonly string[];
  /** What the user may not expect, for a person. */
  readonly notes: readonly string[];
  /** What would be guarded if it were there: nothing can keep the program from making it. */
  readonly absent: readonly string[];
}

/**
 * What does not exist is in no list: a credential file that is made while the program runs can be read, unless it is in a hidden folder, and so
 * can one that was hidden by itself and is replaced meanwhile. Of `readable`, a path below what is emptied or temporary may be a link outside:
 * it has its target's contents in there. Throws `config-invalid` for paths of the config that cannot be had, and `start-failed` when the program
 * cannot start where it should.
 */
export function confinementFor(input: Surroundings): Surveyed {
  const machine = machineOf(input);
  const directory = lookAt(input.directory)?.path;
  if (directory === undefined)
    throw new KzError('start-failed', `cannot start in ${input.directory}: it is not there`, { hint: 'cd elsewhere' });
  const asked = askedPaths(input.settings ?? sandboxSettings(input.config.blind), machine);
  const projects = projectFolders(input.config, directory);
  const survey: Survey = { input, machine, asked, directory, projects, layout: new Map(), missing: [], notes: [...asked.notes] };
  emptyFolders(survey);
  keepHomes(survey);
  hideCredentials(survey);
  openProjects(survey);
  openCaches(survey);
  for (const { path, kind } of asked.hide) survey.layout.set(path, { list: 'hidden', kind: kind === 'folder' ? 'folder' : 'file' });
  for (const { path } of asked.write) survey.layout.set(path, { list: 'writable' });
  const gitConfigs = guard(survey);
  replaceFiles(survey, gitConfigs);
  keepReadable(survey);
  keepOwn(survey);
  hideSockets(survey);
  refuseHiddenStart(survey);
  const temporaryBytes = temporarySize(input.memoryBytes ?? memory());
  return {
    confinement: { directory, ...listsOf(survey.layout), temporaryBytes },
    missing: survey.missing,
    notes: [...new Set(survey.notes)],
    absent: [],
  };
}

interface Survey {
  readonly input: Surroundings;
  readonly machine: Machine;
  readonly asked: AskedPaths;
  readonly directory: string;
  readonly projects: readonly string[];
  readonly layout: Layout;
  readonly missing: string[];
  readonly notes: string[];
}

function emptyFolders({ machine, layout, projects, notes }: Survey): void {
  for (const path of foldersAt(machine, ['/tmp', '/var/tmp'])) put(layout, path, { list: 'temporary' });
  // macOS has no mounts of one's own, and there no socket can be reached anyway.
  if (machine.platform === 'linux') for (const path of foldersAt(machine, ['/run', '/var/run'])) put(layout, path, { list: 'emptied' });
  for (const name of ['TMPDIR', 'TMP', 'TEMP']) {
    const found = lookAt(machine.env[name] ?? '');
    if (found?.kind !== 'folder' || layout.has(found.path) || projects.some((project) => isInside(found.path, project))) continue;
    const why = tooMuch(found.path, machine);
    if (why === undefined) put(layout, found.path, { list: 'temporary' });
    else notes.push(`the program cannot write to ${name}, which ${why}`);
  }
}

/** In /tmp, as builds have them, they are homes all the same. */
function keepHomes({ machine, layout }: Survey): void {
  for (const home of machine.homes) if (isGone(above(layout, home))) put(layout, home, { list: 'readable' });
}

function foldersAt(machine: Machine, paths: readonly string[]): string[] {
  const found = paths.flatMap((path) => lookAt(systemPath(machine, path)) ?? []);
  return found.filter(({ kind }) => kind === 'folder').map(({ path }) => path);
}

function hideCredentials(survey: Survey): void {
  const { input, machine, asked, projects, layout } = survey;
  const configs = new Set(input.config.files.map(({ path }) => path));
  const own = secretFiles(input.config, machine);
  const places = [...own, ...credentialPlaces(machine), ...valueFiles(projects).filter((path) => !configs.has(path))];
  const runtime = machine.env.XDG_RUNTIME_DIR ?? '';
  const found = [...places, runtime].flatMap((path) => lookAt(path) ?? []).filter(({ kind }) => kind !== 'device');
  const lifted = new Set([...asked.read, ...asked.write].map(({ path }) => path));
  // Who may see ~/.aws may see ~/.aws/credentials, whatever names it once more.
  const open = found.filter(({ path, kind }) => kind === 'folder' && lifted.has(path)).map(({ path }) => path);
  for (const { path, kind } of found) {
    if (lifted.has(path) || open.some((folder) => isInside(path, folder)) || isPseudo(path, machine)) continue;
    const why = kind === 'folder' ? holdsEverything(path, machine) : undefined;
    if (why === undefined) put(layout, path, { list: 'hidden', kind: kind === 'folder' ? 'folder' : 'file' });
    else survey.notes.push(`${shortPath(path, machine.env)} is not hidden: it ${why}`);
  }
  for (const { path } of own.flatMap((place) => lookAt(place) ?? []))
    if (lifted.has(path)) survey.notes.push(`the program can read ${shortPath(path, machine.env)}, where secrets of yours are`);
}

function openProjects({ machine, projects, layout, directory, notes }: Survey): void {
  const open = projects.filter((path) => tooMuch(path, machine) === undefined && around(layout, path) !== 'hidden');
  for (const path of open) put(layout, path, { list: 'writable' });
  if (open.length > 0) return;
  const why = tooMuch(directory, machine) ?? 'is hidden';
  const name = shortPath(directory, machine.env);
  notes.push(`the program cannot write to ${name}, which ${why}; \`write\` in [blind.sandbox] names what it may`);
}

function openCaches({ machine, layout, missing }: Survey): void {
  const caches = packageCaches(machine);
  for (const path of caches.found) if (around(layout, path) !== 'hidden') put(layout, path, { list: 'writable' });
  for (const path of caches.installed) put(layout, path, { list: 'guarded' });
  for (const path of caches.missing) {
    if (isGone(above(layout, path))) continue;
    put(layout, path, { list: 'writable' });
    missing.push(path);
  }
}

/** The configs of git that it found. */
function guard({ input, machine, asked, projects, layout, missing }: Survey): readonly string[] {
  const opened = [...projects, ...asked.write.map(({ path }) => path)].filter((path) => layout.get(path)?.list === 'writable');
  const git = opened.map((folder) => gitFolders(folder));
  for (const path of git.flatMap(({ writable }) => writable))
    if (tooMuch(path, machine) === undefined && around(layout, path) !== 'hidden') put(layout, path, { list: 'writable' });
  const homes = machine.homes.filter((home) => opened.some((folder) => isInside(home, folder)));
  const places = [
    ...input.config.files.map(({ path }) => path),
    ...[...projects, ...opened].flatMap((folder) => GUARDED.map((name) => join(folder, name))),
    ...homes.flatMap((home) => GUARDED_AT_HOME.map((name) => join(home, name))),
    ...git.flatMap(({ guarded }) => guarded),
  ];
  for (const { path, kind } of places.flatMap((place) => lookAt(place) ?? [])) {
    if (kind === 'device' || asked.write.some((each) => each.path === path) || isAnyInside(projects, path)) continue;
    put(layout, path, { list: 'guarded' });
  }
  for (const path of git.flatMap((each) => each.missing)) {
    if (around(layout, path) !== 'writable') continue;
    put(layout, path, { list: 'guarded' });
    missing.push(path);
  }
  return places.filter((path) => path.endsWith('/config'));
}

function keepReadable({ machine, asked, layout, notes }: Survey): void {
  const written = new Set(asked.write.map(({ path }) => path));
  for (const { path } of asked.read) {
    const list = around(layout, path);
    if (written.has(path) || !isGone(list)) continue;
    if (layout.has(path)) notes.push(`\`read\` names ${path}: the program sees the one outside, and cannot write to it`);
    put(layout, path, { list: 'readable' });
  }
  for (const path of programFolders(machine, layout)) put(layout, path, { list: 'readable' });
}

/** kz in the project's own node_modules is run outside as well. */
function keepOwn({ input, layout }: Survey): void {
  for (const { path } of input.own.flatMap((each) => lookAt(each) ?? [])) {
    const list = around(layout, path);
    if (isGone(list)) put(layout, path, { list: 'readable' });
    else if (list === 'writable' && layout.get(path)?.list !== 'writable') put(layout, path, { list: 'guarded' });
  }
}

/** So many masks take longer than everything else; folders with this many sockets are for sockets. */
const MOST_SOCKETS = 500;
const MANY_IN_ONE = 32;

function hideSockets({ machine, asked, directory, projects, layout, notes }: Survey): void {
  const skip = (path: string): boolean => isGone(around(layout, path)) || isPseudo(path, machine);
  const sockets = liveSockets(machine, { near: [directory, ...projects], skip });
  const named = new Set([...asked.read, ...asked.write].map(({ path }) => path));
  const paths = sockets.paths.filter((path) => !named.has(path) && !skip(path));
  const counts = new Map<string, number>();
  for (const path of paths) counts.set(dirname(path), (counts.get(dirname(path)) ?? 0) + 1);
  for (const [folder, count] of counts) {
    const isNeeded = holdsEverything(folder, machine) !== undefined || isAnyInside(layout.keys(), folder);
    if (count > MANY_IN_ONE && !isNeeded) put(layout, folder, { list: 'hidden', kind: 'folder' });
  }
  const single = paths.filter((path) => !isGone(around(layout, path)));
  for (const path of single.slice(0, MOST_SOCKETS)) put(layout, path, { list: 'hidden', kind: 'file' });
  const rest = single.length - MOST_SOCKETS;
  notes.push(...sockets.notes, ...(rest > 0 ? [`${String(rest)} Unix sockets of this machine are not hidden: there are too many`] : []));
}

function replaceFiles({ input, machine, asked, projects, layout }: Survey, gitConfigs: readonly string[]): void {
  const named = new Set([...asked.read, ...asked.write].map(({ path }) => path));
  const ofNames = input.names === true ? nameFiles(machine, input.host) : [];
  for (const { path, contents } of ofNames) if (!named.has(path)) put(layout, path, { list: 'replaced', contents });
  for (const { path, contents } of settingsFiles(machine, projects, gitConfigs)) {
    if (named.has(path) || isGone(around(layout, path))) continue;
    put(layout, path, contents === undefined ? { list: 'hidden', kind: 'file' } : { list: 'replaced', contents });
  }
}

function refuseHiddenStart({ directory, layout, machine }: Survey): void {
  const list = layout.get(directory)?.list;
  const isThere = list === undefined ? !isGone(above(layout, directory)) : list !== 'hidden';
  if (isThere) return;
  const name = shortPath(directory, machine.env);
  throw new KzError('start-failed', `cannot start in ${name}: it is hidden from blind programs`, {
    hint: 'cd elsewhere, or name it in `write` or `read` of [blind.sandbox]',
  });
}

const MEBIBYTE = 1_048_576;

/** An eighth: there are a few of these folders, and the program fills memory when it fills them. */
function temporarySize(memoryBytes: number): number {
  return Math.floor(Math.min(Math.max(memoryBytes / 8, 256 * MEBIBYTE), 4096 * MEBIBYTE));
}

/** Of the container, where it is one. */
function memory(): number {
  const most = process.constrainedMemory();
  return most > 0 ? Math.min(most, totalmem()) : totalmem();
}
