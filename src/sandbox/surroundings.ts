// What this machine and this config make of a program's confinement: looks, and decides. Changes nothing, and starts nothing.
import { totalmem } from 'node:os';
import { dirname } from 'node:path';
import type { Config } from '../config/load.ts';
import { sandboxSettings, type SandboxSettings } from '../config/sandbox-settings.ts';
import { KzError } from '../core/errors.ts';
import { shortPath } from '../core/home-path.ts';
import { askedPaths } from './asked-paths.ts';
import { packageCaches, type Caches } from './caches.ts';
import type { Confinement } from './confinement.ts';
import { credentialPlaces } from './credential-places.ts';
import { gitFolders } from './git-folders.ts';
import { absentPlaces, guard, ownPlaces, refuseLinkedConfigs, type Guarding } from './guarding.ts';
import { above, around, isAnyInside, isGone, listsOf, put } from './layout.ts';
import { liveSockets } from './live-sockets.ts';
import {
  holdsEverything,
  isInside,
  isPseudo,
  lookAt,
  machineOf,
  remembering,
  systemPath,
  tooMuch,
  type Machine,
  type MachineOptions,
} from './machine.ts';
import { nameFiles } from './name-files.ts';
import { commandPlaces, programFolders } from './program-folders.ts';
import { projectFolders, valueFiles } from './project.ts';
import { secretFiles } from './secret-files.ts';
import { settingsFiles } from './settings-files.ts';

/** Of the machine, tests make their own. */
export interface Surroundings extends MachineOptions {
  /** Where the program starts. */
  readonly directory: string;
  /** The program and its arguments. */
  readonly command?: readonly string[] | undefined;
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
 * can one that was hidden by itself and is replaced meanwhile. Throws `config-invalid` for paths of the config that cannot be had,
 * `config-untrusted` for a config that the program could exchange, and `start-failed` when the program cannot start where it should.
 */
export function confinementFor(input: Surroundings): Surveyed {
  return remembering(() => surveyOf(input));
}

function surveyOf(input: Surroundings): Surveyed {
  const machine = machineOf(input);
  const directory = lookAt(input.directory)?.path;
  if (directory === undefined)
    throw new KzError('start-failed', `cannot start in ${input.directory}: it is not there`, { hint: 'cd elsewhere' });
  const survey = beginSurvey(input, machine, directory);
  const { asked } = survey;
  emptyFolders(survey);
  keepHomes(survey);
  hideCredentials(survey);
  openProjects(survey);
  openCaches(survey);
  for (const { path, kind } of asked.hide) survey.layout.set(path, { list: 'hidden', kind: kind === 'folder' ? 'folder' : 'file' });
  for (const { path } of asked.write) survey.layout.set(path, { list: 'writable' });
  const guarded = guard(survey);
  replaceFiles(
    survey,
    guarded.filter((path) => path.endsWith('/config')),
  );
  keepReadable(survey);
  keepOwn(survey);
  hideSockets(survey);
  refuseHiddenStart(survey);
  const temporaryBytes = temporarySize(input.memoryBytes ?? memory());
  return {
    confinement: { directory, ...listsOf(survey.layout), temporaryBytes },
    missing: survey.missing,
    notes: [...new Set(survey.notes)],
    absent: absentPlaces(guarded, survey),
  };
}

interface Survey extends Guarding {
  readonly input: Surroundings;
  readonly caches: Caches;
}

/** First of all, where the program may write: no link in there is followed to anything that it gets. */
function beginSurvey(input: Surroundings, machine: Machine, directory: string): Survey {
  const { config, settings = sandboxSettings(config.blind) } = input;
  const projects = projectFolders(config, directory);
  const own = projects.filter((path) => tooMuch(path, machine) === undefined).flatMap((path) => [path, ...gitFolders(path).writable]);
  refuseLinkedConfigs(config, own);
  const caches = packageCaches(machine, [...own, ...settings.write.flatMap((path) => lookAt(path)?.path ?? [])]);
  const asked = askedPaths(settings, machine, [...own, ...caches.found]);
  const open = [...own, ...caches.found, ...asked.write.map(({ path }) => path)];
  const linked = caches.refused.map(
    (path) =>
      `${shortPath(path, machine.env)} is a link that a program could have made, so not followed: if it is yours, name what it leads to in \`write\``,
  );
  const notes = [...asked.notes, ...linked];
  return { input, config, machine, asked, caches, directory, projects, open, layout: new Map(), missing: [], notes };
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

function openCaches({ caches, layout, missing }: Survey): void {
  for (const path of caches.found) if (around(layout, path) !== 'hidden') put(layout, path, { list: 'writable' });
  for (const path of caches.installed) put(layout, path, { list: 'guarded' });
  for (const path of caches.missing) {
    if (isGone(above(layout, path))) continue;
    put(layout, path, { list: 'writable' });
    missing.push(path);
  }
}

function keepReadable({ input, machine, asked, directory, layout, notes }: Survey): void {
  const written = new Set(asked.write.map(({ path }) => path));
  for (const { path } of asked.read) {
    const list = around(layout, path);
    if (written.has(path) || !isGone(list)) continue;
    if (layout.has(path)) notes.push(`\`read\` names ${path}: the program sees the one outside, and cannot write to it`);
    put(layout, path, { list: 'readable' });
  }
  const named = commandPlaces(input.command ?? [], directory, machine, layout);
  for (const path of [...programFolders(machine, layout), ...named]) put(layout, path, { list: 'readable' });
}

/** kz in the project's own node_modules is run outside as well. */
function keepOwn({ input, projects, layout }: Survey): void {
  for (const { path } of input.own.flatMap((each) => lookAt(each) ?? []))
    if (isGone(around(layout, path))) put(layout, path, { list: 'readable' });
  for (const { path } of ownPlaces(input.own, projects).flatMap((each) => lookAt(each) ?? []))
    if (around(layout, path) === 'writable' && layout.get(path)?.list !== 'writable') put(layout, path, { list: 'guarded' });
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
