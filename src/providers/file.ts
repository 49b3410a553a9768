// Files: mounted secrets (Docker, Kubernetes), one key of a JSON, YAML, TOML or dotenv document, or a folder with a file for each key.
// Reads regular files of up to 1 MiB and refuses everything else.
import { readlink, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { Secret } from '../core/secret.ts';
import { suggest } from '../core/suggest.ts';
import { decodeText, documentFormat, parseDocument, selectKey, withoutFinalNewline, type Document } from './document.ts';
import { identify, MAX_FILES, watchPaths } from './file-watch.ts';
import { currentVersion, readGuardedFile, visibleNames } from './guarded-file.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { wide } from './wide.ts';

/** For what has no events: network file systems, and files that are mounted one by one. */
const POLL_MS = 30_000;

/** A version of a Kubernetes mount that is removed while it is being read has a successor. */
const MAX_READINGS = 5;

/** The environment is for `~/` only. */
export function openFile(env: ProviderContext['env'], pollMs = POLL_MS): Provider {
  // What each path was before it was first read: what changes between the reading and the watching is not missed.
  const seen = new Map<string, string>();
  const locate = (ref: Ref): Located => {
    const { file, key } = parseRef(ref);
    return { path: absolutePath(file, ref.directory, env), file, key };
  };
  return {
    async get(refs, signal) {
      signal.throwIfAborted();
      const unseen = [...pathsOf(refs, locate).keys()].filter((path) => !seen.has(path));
      await wide(unseen, async (path) => seen.set(path, await identify(path)));
      for (let reading = 1; ; reading++) {
        const known: Reading = { versions: new Map(), folders: new Map(), names: new Map(), texts: new Map(), documents: new Map() };
        const outcomes = await Promise.all(refs.map((ref) => toOutcome(async () => lookUp(locate(ref), known))));
        const isGood = outcomes.every(({ ok }) => ok) || reading === MAX_READINGS || !(await isReplaced(known));
        if (isGood) return outcomes;
      }
    },

    watch(refs, changed, signal) {
      const watched = [...pathsOf(refs, locate)].map(([path, concerned]) => ({
        path,
        known: seen.get(path),
        changed: () => {
          for (const ref of concerned) changed(ref);
        },
      }));
      watchPaths(watched, pollMs, signal);
    },
  };
}

interface Located {
  readonly path: string;
  /** The path, in the user's words. */
  readonly file: string;
  readonly key: string | undefined;
}

/** What is read once for all refs of one `get`, so that they see the same version of it. */
interface Reading {
  /** Folder → where its files are. */
  readonly versions: Map<string, Promise<string>>;
  /** Path → is it a folder? */
  readonly folders: Map<string, Promise<boolean>>;
  readonly names: Map<string, Promise<readonly string[]>>;
  readonly texts: Map<string, Promise<string>>;
  readonly documents: Map<string, Promise<Document>>;
}

interface Found {
  readonly text: string;
  readonly isFolder?: true;
}

/** Refs that are none are left out. */
function pathsOf(refs: readonly Ref[], locate: (ref: Ref) => Located): Map<string, Ref[]> {
  const paths = new Map<string, Ref[]>();
  for (const ref of refs) {
    try {
      const { path } = locate(ref);
      paths.set(path, [...(paths.get(path) ?? []), ref]);
    } catch (error) {
      if (!(error instanceof KzError)) throw error;
    }
  }
  return paths;
}

function parseRef({ text }: Ref): { file: string; key: string | undefined } {
  const invalid = (problem: string): KzError =>
    new KzError('ref-invalid', `file ref ${JSON.stringify(text)} ${problem}`, { hint: 'write it as `path` or `path#key`' });
  if (text.includes('\0')) throw invalid('holds a NUL character');
  const hash = text.lastIndexOf('#');
  const file = hash === -1 ? text : text.slice(0, hash);
  const key = hash === -1 ? undefined : text.slice(hash + 1);
  if (file === '') throw invalid('names no file');
  if (key === '') throw invalid('names no key behind the #');
  return { file, key };
}

async function lookUp(located: Located, known: Reading): Promise<Found> {
  const { path, file, key } = located;
  if (await once(known.folders, path, () => isFolder(path))) return lookUpInFolder(located, known);
  const label = labelOf(file);
  const text = once(known.texts, path, async () => readText(await inVersion(path, known), label));
  if (key === undefined) return { text: withoutFinalNewline(await text) };
  const document = await once(known.documents, path, async () => parseDocument(await text, documentFormat(path, await text), label));
  return { text: selectKey(document, key) ?? missingKey([...document.keys()], key, label) };
}

async function lookUpInFolder({ path, file, key }: Located, known: Reading): Promise<Found> {
  const short = file.replace(/(?<=.)\/+$/, '');
  const label = `folder ${JSON.stringify(file)}`;
  const folder = await versionOf(path, known).catch((error: unknown) => {
    throw readError(error, path, label);
  });
  const names = await once(known.names, folder, () => fileNames(folder, label));
  const read = (name: string): Promise<string> =>
    once(known.texts, join(path, name), () => readText(join(folder, name), labelOf(join(short, name))));
  if (key !== undefined) return { text: withoutFinalNewline(await read(names.includes(key) ? key : missingKey(names, key, label))) };
  const members = await wide(names, async (name) => {
    const value = await read(name).catch((error: unknown) => notSkipped(error, join(short, name), short));
    return `${JSON.stringify(name)}:${JSON.stringify(withoutFinalNewline(value))}`;
  });
  return { text: `{${members.join(',')}}`, isFolder: true };
}

function labelOf(file: string): string {
  return `file ${JSON.stringify(file)}`;
}

function once<T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const existing = known.get(key);
  if (existing !== undefined) return existing;
  const made = make();
  known.set(key, made);
  return made;
}

/** What cannot be looked at is left to the reading, which says why. */
async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

function versionOf(folder: string, { versions }: Reading): Promise<string> {
  return once(versions, folder, () => currentVersion(folder));
}

/** Two files of one Kubernetes mount, a user and a password say, must not come from different versions of it. */
async function inVersion(path: string, known: Reading): Promise<string> {
  const link = await readlink(path).catch(() => '');
  return link.startsWith('..data/') ? join(await versionOf(dirname(path), known), link.slice('..data/'.length)) : path;
}

async function isReplaced({ versions }: Reading): Promise<boolean> {
  const checks = [...versions].map(async ([folder, version]) => (await currentVersion(folder)) !== (await version));
  return (await Promise.allSettled(checks)).some((check) => check.status === 'fulfilled' && check.value);
}

/** A link that leads nowhere is among them: it was meant to be one. */
async function fileNames(folder: string, label: string): Promise<readonly string[]> {
  try {
    const names = await visibleNames(folder);
    const files = await wide(names, async (name) => {
      const stats = await stat(join(folder, name)).catch(() => undefined);
      return stats === undefined || stats.isFile() ? [name] : [];
    });
    const found = files.flat();
    if (found.length <= MAX_FILES) return found;
  } catch (error) {
    throw readError(error, folder, label);
  }
  throw new KzError('secret-invalid', `${label} has more than ${String(MAX_FILES)} files`, { hint: 'name a folder of secrets only' });
}

async function readText(path: string, label: string): Promise<string> {
  try {
    const text = decodeText(await readGuardedFile(path, { label, maxMebibytes: 1 }));
    if (text === undefined) throw new KzError('secret-invalid', `${label} is not UTF-8 text`);
    return text;
  } catch (error) {
    throw error instanceof KzError ? error : readError(error, path, label);
  }
}

/** One file that cannot be read fails the whole folder; it must not pass for a folder that is not there, which may be optional. */
function notSkipped(error: unknown, file: string, folder: string): never {
  if (!(error instanceof KzError)) throw error;
  const code = error.code === 'secret-missing' ? 'provider-failed' : error.code;
  const hint = `declare the files that you want one by one, with \`ref = "${folder}#NAME"\`, or mend ${basename(file)}`;
  throw new KzError(code, error.message, { hint, cause: error });
}

function readError(error: unknown, path: string, label: string): KzError {
  const code = systemCode(error);
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new KzError('secret-missing', `${label} does not exist`, { hint: `there is no file at ${path}`, cause: error });
    case 'EACCES':
    case 'EPERM':
      return new KzError('provider-denied', `kz may not read ${label}`, {
        hint: `run \`ls -l ${path}\` to see whose it is`,
        cause: error,
      });
    default:
      return new KzError('provider-failed', `cannot read ${label}: ${code ?? 'unknown error'}`, { cause: error });
  }
}

function missingKey(keys: readonly string[], key: string, label: string): never {
  const near = suggest(key, keys);
  const hint = `${label} has no key ${JSON.stringify(key)}${near === undefined ? '' : `; did you mean ${JSON.stringify(near)}?`}`;
  throw new KzError('secret-missing', `${label} has no key ${JSON.stringify(key)}`, { hint });
}

async function toOutcome(find: () => Promise<Found>): Promise<Outcome> {
  try {
    const { text, ...facts } = await find();
    return { ok: true, secret: new Secret(text), ...facts };
  } catch (error) {
    if (error instanceof KzError) return { ok: false, error };
    throw error;
  }
}
