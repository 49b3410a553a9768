// Files: mounted secrets (Docker, Kubernetes), or one key of a JSON, YAML, TOML or dotenv document. Reads regular files of up to 1 MiB and
// refuses everything else.
import { KzError, systemCode } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { Secret } from '../core/secret.ts';
import { suggest } from '../core/suggest.ts';
import { decodeText, documentFormat, parseDocument, selectKey, withoutFinalNewline, type Document } from './document.ts';
import { readGuardedFile } from './guarded-file.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';

/** The environment is for `~/` only. */
export function openFile(env: ProviderContext['env']): Provider {
  return {
    async get(refs, signal) {
      signal.throwIfAborted();
      // Several refs into one file read and parse it once, and see the same version of it.
      const texts = new Map<string, Promise<string>>();
      const documents = new Map<string, Promise<Document>>();
      const lookUp = async (ref: Ref): Promise<string> => {
        const { file, key } = parseRef(ref);
        const path = absolutePath(file, ref.directory, env);
        const label = `file ${JSON.stringify(file)}`;
        const text = once(texts, path, () => readText(path, label));
        if (key === undefined) return withoutFinalNewline(await text);
        const document = await once(documents, path, async () => parseDocument(await text, documentFormat(path, await text), label));
        return selectKey(document, key) ?? missingKey(document, key, label);
      };
      return Promise.all(refs.map((ref) => toOutcome(lookUp(ref))));
    },
  };
}

function parseRef({ text }: Ref): { file: string; key?: string } {
  const invalid = (problem: string): KzError =>
    new KzError('ref-invalid', `file ref ${JSON.stringify(text)} ${problem}`, { hint: 'write it as `path` or `path#key`' });
  if (text.includes('\0')) throw invalid('holds a NUL character');
  const hash = text.lastIndexOf('#');
  const file = hash === -1 ? text : text.slice(0, hash);
  const key = hash === -1 ? undefined : text.slice(hash + 1);
  if (file === '') throw invalid('names no file');
  if (key === '') throw invalid('names no key behind the #');
  return key === undefined ? { file } : { file, key };
}

function once<T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const existing = known.get(key);
  if (existing !== undefined) return existing;
  const made = make();
  known.set(key, made);
  return made;
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

function missingKey(document: Document, key: string, label: string): never {
  const near = suggest(key, [...document.keys()]);
  const hint = `${label} has no key ${JSON.stringify(key)}${near === undefined ? '' : `; did you mean ${JSON.stringify(near)}?`}`;
  throw new KzError('secret-missing', `${label} has no key ${JSON.stringify(key)}`, { hint });
}

async function toOutcome(value: Promise<string>): Promise<Outcome> {
  try {
    return { ok: true, secret: new Secret(await value) };
  } catch (error) {
    if (error instanceof KzError) return { ok: false, error };
    throw error;
  }
}
