// What kz itself reads or runs, outside of the sandbox, when it starts: files that refs name, authorities, programs of `exec`. A program that
// could change them would decide at the next start what secrets are, whom kz believes, or what runs as the user.
import { readdirSync } from 'node:fs';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import type { Config, Declaration, DocumentDeclaration } from '../config/load.ts';
import { absolutePath } from '../core/home-path.ts';
import { lookAt, type Env } from './machine.ts';

export type ObeyedConfig = Pick<Config, 'secrets' | 'documents' | 'providers' | 'blind'>;

export interface Obeyed {
  readonly path: string;
  /** As the start of a sentence. */
  readonly who: string;
  /** Programs are often links (`node_modules/.bin`), and so are authorities of the environment. What the config names has no reason to be. */
  readonly mayBeLinked: boolean;
}

/** As they are called; some are not there. Nothing that is run by a name that is looked up in folders of the system. */
export function obeyedFiles(config: ObeyedConfig, env: Env): readonly Obeyed[] {
  const file = (path: string | undefined, who: string): Obeyed[] => (path === undefined ? [] : [{ path, who, mayBeLinked: false }]);
  const { store, age, vault, keyzero } = config.providers;
  return [
    ...entriesOf(config).flatMap((entry) => ofEntry(entry, config, env)),
    ...file(config.blind?.upstream_ca, '`upstream_ca`'),
    ...file(store?.path, '`path` in [providers.store]'),
    ...file(age?.identity, '`identity` in [providers.age]'),
    ...file(vault?.ca, '`ca` in [providers.vault]'),
    ...file(vault?.token_file, '`token_file` in [providers.vault]'),
    ...file(vault?.secret_id_file, '`secret_id_file` in [providers.vault]'),
    ...file(vault?.jwt_file, '`jwt_file` in [providers.vault]'),
    ...file(keyzero?.ca, '`ca` in [providers.keyzero]'),
    ...file(keyzero?.jwt_file, '`jwt_file` in [providers.keyzero]'),
    ...AUTHORITIES.flatMap((name) => file(env[name], name).filter(({ path }) => isAbsolute(path))).map((each) => ({
      ...each,
      mayBeLinked: true,
    })),
  ];
}

/** Those by which kz itself believes a server. A program's own (`PIP_CERT`) are mostly the same files. */
const AUTHORITIES = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'NIX_SSL_CERT_FILE', 'AWS_CA_BUNDLE', 'VAULT_CACERT', 'BAO_CACERT'];

type Entry = Declaration | DocumentDeclaration;

export function entriesOf({ secrets, documents }: Pick<Config, 'secrets' | 'documents'>): readonly Entry[] {
  return [...secrets.values(), ...documents];
}

/** As providers/file.ts and providers/age.ts read it. */
export function fileOf({ provider, ref, origin }: Entry, env: Env): string | undefined {
  const file =
    provider === 'file' ? /^(.*?)(?:#[^#]*)?$/s.exec(ref)?.[1] : provider === 'age' ? /^(.*?[^/]\.age)(?:#|$)/.exec(ref)?.[1] : '';
  return file === undefined || file === '' ? undefined : absolutePath(file, dirname(origin.file.path), env);
}

function ofEntry(entry: Entry, { providers }: ObeyedConfig, env: Env): Obeyed[] {
  const who = 'name' in entry ? `the ref of ${entry.name}` : `the ref ${JSON.stringify(entry.ref)}`;
  const program = (path: string): Obeyed => ({ path, who, mayBeLinked: true });
  if (entry.provider === '1password') return onPath('op', env).map(program);
  if (entry.provider !== 'exec') {
    const path = fileOf(entry, env);
    return path === undefined ? [] : [path, ...membersOf(path)].map((each) => ({ path: each, who, mayBeLinked: false }));
  }
  const [first = '', ...words] = [...(providers.exec?.command ?? []), ...wordsOf(entry.ref)];
  const directory = dirname(entry.origin.file.path);
  const programs = first.includes('/') ? [resolve(directory, first)] : onPath(first, env);
  // `--config=ask.toml` names a file as well. Folders are left alone: `-C .` would close the project.
  const named = words.flatMap((word) => [word, word.slice(word.indexOf('=') + 1)]).filter((word) => word !== '' && !word.includes('\0'));
  const files = [...new Set(named)].map((word) => resolve(directory, word)).filter((path) => lookAt(path)?.kind === 'file');
  return [...programs, ...files].map(program);
}

/** A ref may name a folder, with a value in each file. */
function membersOf(path: string): string[] {
  if (lookAt(path)?.kind !== 'folder') return [];
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isSymbolicLink() ? [join(path, entry.name)] : []));
  } catch {
    return [];
  }
}

/** Near enough to a shell's (providers/words.ts): they are only looked for. */
function wordsOf(text: string): string[] {
  const pieces = text.match(/'[^']*'|"(?:\\[\s\S]|[^"\\])*"|(?:\\[\s\S]|[^\s'"\\])+/g) ?? [];
  return pieces.map((piece) => (/^['"]/.test(piece) ? piece.slice(1, -1) : piece.replace(/\\([\s\S])/g, '$1')));
}

/** The program itself, and the places in front of it in PATH, where another one would count instead. */
function onPath(program: string, env: Env): string[] {
  if (program === '') return [];
  const places = (env.PATH ?? '').split(delimiter).flatMap((folder) => (isAbsolute(folder) ? [join(folder, program)] : []));
  const index = places.findIndex((path) => lookAt(path)?.kind === 'file');
  return places.slice(0, index === -1 ? places.length : index + 1);
}
