// From files to one configuration: read, check, layer, and remember where each value came from. Absent is not invalid, and invalid never
// falls back: every problem in every file is collected and thrown at once.
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import type * as z from 'zod/mini';
import { KzError, systemCode } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { suggest } from '../core/suggest.ts';
import { chooseEnvironment, type Environment } from './environment.ts';
import { findConfig, refusePlanted, type FindOptions, type FoundFile } from './find.ts';
import { FILE_KEYS } from './file-keys.ts';
import type { Issue } from './issues.ts';
import { isPlainTable } from './plain.ts';
import { canonicalProvider, type ProviderName } from './provider-names.ts';
import { mergeSandbox, sandboxLayer, type SandboxLayer } from './sandbox-layers.ts';
import type { BlindEntry, DocumentEntry, environmentSchema, fileSchema, ProviderOptions, SecretEntry } from './schema.ts';
import { nameProblem } from './variable-name.ts';

export interface SourceFile extends FoundFile {
  readonly text: string;
}

/** Where in which file something is written; `locate.ts` turns it into a line when somebody asks. */
export interface Origin {
  readonly file: SourceFile;
  readonly path: readonly (string | number)[];
}

export type Declaration = Omit<SecretEntry, 'provider'> & {
  readonly name: string;
  readonly provider: ProviderName;
  readonly origin: Origin;
};

export type DocumentDeclaration = Omit<DocumentEntry, 'provider'> & { readonly provider: ProviderName; readonly origin: Origin };

export interface Config {
  readonly files: readonly SourceFile[];
  readonly searched: readonly string[];
  readonly environment: Environment | undefined;
  /** Every environment that any file declares. */
  readonly environments: readonly string[];
  /** By variable name, in the order in which the files declare them. */
  readonly secrets: ReadonlyMap<string, Declaration>;
  readonly documents: readonly DocumentDeclaration[];
  readonly providers: ProviderOptions;
  readonly blind: BlindEntry | undefined;
  /** Where `blind.connections` is written; a rule is at this path and its number. */
  readonly blindOrigin: Origin | undefined;
  /** What `blind.sandbox` was made of, weakest first: the files that say something of it. */
  readonly sandboxLayers: readonly SandboxLayer[];
}

export interface LoadOptions extends FindOptions {
  /** `--env`. */
  readonly environment?: string | undefined;
}

type ParsedTable = z.infer<typeof environmentSchema>;

interface ParsedFile {
  readonly source: SourceFile;
  readonly base: z.infer<typeof fileSchema>;
  readonly environments: ReadonlyMap<string, ParsedTable>;
}

/** Throws `config-not-found` (with every place searched), or one error that holds every problem found. */
export async function loadConfig(options: LoadOptions): Promise<Config> {
  const { files: found, searched } = findConfig(options);
  const problems: Problem[] = [];
  const parsed: ParsedFile[] = [];
  for (const file of found) {
    const one = await parseFile({ ...file, text: readText(file) }, problems);
    if (one !== undefined) parsed.push(one);
  }
  if (problems.length > 0) throw await placed(problems);
  if (!parsed.some((file) => file.source.layer === 'project' || declaresSecrets(file))) throw notFound(searched);
  const environments = [...new Set(parsed.flatMap((file) => [...file.environments.keys()]))];
  const environment = chooseEnvironment(options, environments);
  return {
    files: parsed.map((file) => file.source),
    searched,
    environment,
    environments,
    ...layered(parsed, environment?.name, options.env),
  };
}

/** Throws what `loadConfig` would throw for this one file: an edit is checked before it is written. */
export async function checkText(path: string, text: string): Promise<void> {
  const problems: Problem[] = [];
  await parseFile({ path, text, layer: 'project', how: 'to be written', walkedTo: false }, problems);
  if (problems.length > 0) throw await placed(problems);
}

interface Problem {
  readonly source: SourceFile;
  readonly issue: Issue;
}

/** More of them help nobody, and a file can hold any number. */
const MOST_PROBLEMS = 20;

/** Positions cost a second parser, so it is loaded only when there is something to point at. */
async function placed(problems: readonly Problem[]): Promise<KzError> {
  const { locator } = await import('./locate.ts');
  const locators = new Map<SourceFile, ReturnType<typeof locator>>();
  const errors = problems.slice(0, MOST_PROBLEMS).map(({ source, issue }) => {
    const locate = locators.get(source) ?? locator(source.text);
    locators.set(source, locate);
    return new KzError('config-invalid', issue.message, { hint: issue.hint, at: { file: source.path, ...locate(issue.path) } });
  });
  const more = problems.length - errors.length;
  return KzError.all(more === 0 ? errors : [...errors, new KzError('config-invalid', `and ${String(more)} more problems`)]);
}

function notFound(searched: readonly string[]): KzError {
  const list = searched.map((path) => `\n  ${path}`).join('');
  return new KzError('config-not-found', `no .keyzero.toml found; looked for${list}`, {
    hint: 'run `kz init` in the project, or name a file: --config PATH or KEYZERO_CONFIG',
  });
}

function declaresSecrets(file: ParsedFile): boolean {
  const tables = [file.base, ...file.environments.values()];
  return tables.some((table) => table.secrets !== undefined || table.secrets_from !== undefined);
}

async function parseFile(source: SourceFile, problems: Problem[]): Promise<ParsedFile | undefined> {
  const document = parseToml(source);
  const before = problems.length;
  const report = (issue: Issue) => problems.push({ source, issue });
  const { own, tables } = splitEnvironments(document, report);
  const base = isPlainTable(own) ? own : (await import('./check.ts')).checkFile(own, report);
  checkNames(own, [], report);
  const environments = new Map<string, ParsedTable>();
  for (const [name, table] of tables) {
    const result = isPlainTable(table) ? table : (await import('./check.ts')).checkEnvironment(table, name, report);
    checkNames(table, [name], report);
    if (result !== undefined) environments.set(name, result);
  }
  if (base === undefined || problems.length > before) return undefined;
  return { source, base, environments };
}

/** In bytes. Checking takes time that grows with the file, and the shell hook checks before anybody trusted it. */
const LARGEST_FILE = 1_048_576;

function readText({ path, walkedTo, layer }: FoundFile): string {
  try {
    const descriptor = openSync(path, 'r');
    try {
      const stats = fstatSync(descriptor);
      if (walkedTo) refusePlanted(path, stats);
      if (stats.size > LARGEST_FILE) throw new KzError('config-unreadable', `${path} is larger than 1 MiB`);
      return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(descriptor));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error instanceof KzError) throw error;
    // Found a moment ago: the empty one that stood in for it while another run's program ran (run/tripwire.ts).
    if (layer === 'local' && systemCode(error) === 'ENOENT') return '';
    const reason = error instanceof TypeError ? 'it is not UTF-8 text' : (systemCode(error) ?? 'unknown error');
    throw new KzError('config-unreadable', `cannot read ${path}: ${reason}`, { cause: error });
  }
}

function parseToml(source: SourceFile): Record<string, unknown> {
  try {
    return parse(source.text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The library's message ends with an excerpt of the file; only its first sentence is ours to repeat.
    const [reason = 'bad TOML'] = error.message.replace(/^Invalid TOML document: /, '').split('\n');
    const at = { file: source.path, line: error.line, column: error.column };
    throw new KzError('config-syntax', `not valid TOML: ${reason}`, { at });
  }
}

/** Every top-level table that is not one of ours is an environment: `[production.secrets]`. */
function splitEnvironments(
  document: Record<string, unknown>,
  report: (issue: Issue) => void,
): { own: unknown; tables: Map<string, unknown> } {
  const own: [string, unknown][] = [];
  const tables = new Map<string, unknown>();
  for (const [key, value] of Object.entries(document)) {
    if ((FILE_KEYS as readonly string[]).includes(key)) own.push([key, value]);
    else if (looksLikeEnvironment(key, value)) tables.set(key, value);
    else report(unknownTable(key));
  }
  return { own: Object.fromEntries(own), tables };
}

function looksLikeEnvironment(key: string, value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const keys = Object.keys(value);
  const known = ['secrets', 'secrets_from'];
  return keys.some((inner) => known.includes(inner)) || (keys.length > 0 && suggest(key, FILE_KEYS) === undefined);
}

function unknownTable(key: string): Issue {
  const near = suggest(key, FILE_KEYS);
  const hint =
    near === undefined
      ? `known keys: ${FILE_KEYS.join(', ')}; an environment is a table [${key}.secrets]`
      : `did you mean ${JSON.stringify(near)}?`;
  return { path: [key], message: `unknown key ${JSON.stringify(key)}`, hint };
}

/** Looks at the table as it was written: zod drops `__proto__` without a word. */
function checkNames(table: unknown, prefix: readonly string[], report: (issue: Issue) => void): void {
  for (const name of namesIn(table, 'secrets')) {
    const problem = nameProblem(name);
    if (problem !== undefined) report({ path: [...prefix, 'secrets', name], message: `${name} ${problem}` });
  }
  const documents = isTable(table) && Array.isArray(table.secrets_from) ? table.secrets_from : [];
  for (const [index, document] of documents.entries()) {
    const keys: unknown = isTable(document) ? document.keys : undefined;
    for (const name of Array.isArray(keys) ? keys.map(String) : namesIn(document, 'keys')) {
      const problem = nameProblem(name);
      if (problem !== undefined) report({ path: [...prefix, 'secrets_from', index, 'keys'], message: `${name} ${problem}` });
    }
  }
}

function namesIn(table: unknown, key: string): string[] {
  const inner = isTable(table) ? table[key] : undefined;
  return isTable(inner) && !Array.isArray(inner) ? Object.keys(inner) : [];
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** The variable names that a document is known to give before it is read. */
export function documentNames(document: Pick<DocumentEntry, 'keys'>): readonly string[] {
  if (document.keys === undefined) return [];
  return Array.isArray(document.keys) ? document.keys : Object.keys(document.keys);
}

/** What declares a resolved secret: an entry of its own, or the document that gave it. */
export function declarationFor(config: Config, name: string, origin: Origin): Declaration | DocumentDeclaration | undefined {
  return config.secrets.get(name) ?? config.documents.find((document) => document.origin === origin);
}

type Layered = Pick<Config, 'secrets' | 'documents' | 'providers' | 'blind' | 'blindOrigin' | 'sandboxLayers'>;

/** Later files win, and within a file the environment's table wins over `[secrets]`; an entry is replaced whole, never merged. */
function layered(files: readonly ParsedFile[], environment: string | undefined, env: FindOptions['env']): Layered {
  const secrets = new Map<string, Declaration>();
  const documents: DocumentDeclaration[] = [];
  let providers: ProviderOptions = {};
  let blind: BlindEntry | undefined;
  let blindOrigin: Origin | undefined;
  const sandboxLayers: SandboxLayer[] = [];
  for (const { source, base, environments } of files) {
    addTable(base, { file: source, path: [] });
    const table = environment === undefined ? undefined : environments.get(environment);
    if (environment !== undefined && table !== undefined) addTable(table, { file: source, path: [environment] });
    const absolute = (path: string): string => absolutePath(path, dirname(source.path), env);
    if (base.providers !== undefined) providers = mergeProviders(providers, base.providers, absolute);
    if (base.blind !== undefined) blind = { ...blind, ...absoluteBlind(base.blind, absolute) };
    if (base.blind?.connections !== undefined) blindOrigin = { file: source, path: ['blind', 'connections'] };
    if (base.blind?.sandbox !== undefined)
      sandboxLayers.push(sandboxLayer(base.blind.sandbox, { file: source, path: ['blind', 'sandbox'] }, absolute));
  }
  const sandbox = mergeSandbox(sandboxLayers);
  if (sandbox !== undefined) blind = { ...blind, sandbox };
  return { secrets, documents, providers, blind, blindOrigin, sandboxLayers };

  function addTable(table: ParsedTable, { file, path }: Origin): void {
    for (const [name, entry] of Object.entries(table.secrets ?? {})) {
      secrets.set(name, {
        ...entry,
        name,
        provider: canonicalProvider(entry.provider),
        origin: { file, path: [...path, 'secrets', name] },
      });
    }
    for (const [index, entry] of (table.secrets_from ?? []).entries()) {
      documents.push({ ...entry, provider: canonicalProvider(entry.provider), origin: { file, path: [...path, 'secrets_from', index] } });
    }
  }
}

/** Options merge key by key; paths are relative to the file that names them. */
export function mergeProviders(weaker: ProviderOptions, stronger: ProviderOptions, absolute: (path: string) => string): ProviderOptions {
  const merged: ProviderOptions = { ...weaker, ...stronger };
  if (stronger.store !== undefined) {
    const { path } = stronger.store;
    merged.store = { ...weaker.store, ...stronger.store, ...(path === undefined ? {} : { path: absolute(path) }) };
  }
  if (stronger.age !== undefined) {
    const { identity } = stronger.age;
    merged.age = { ...weaker.age, ...stronger.age, ...(identity === undefined ? {} : { identity: absolute(identity) }) };
  }
  if (stronger.keychain !== undefined) merged.keychain = { ...weaker.keychain, ...stronger.keychain };
  if (stronger.vault !== undefined)
    merged.vault = { ...weaker.vault, ...withAbsolute(stronger.vault, ['ca', 'token_file', 'secret_id_file', 'jwt_file'], absolute) };
  if (stronger.keyzero !== undefined)
    merged.keyzero = { ...weaker.keyzero, ...withAbsolute(stronger.keyzero, ['ca', 'jwt_file'], absolute) };
  if (stronger.aws !== undefined) merged.aws = { ...weaker.aws, ...stronger.aws };
  if (stronger.gcp !== undefined) merged.gcp = { ...weaker.gcp, ...stronger.gcp };
  if (stronger['1password'] !== undefined) merged['1password'] = { ...weaker['1password'], ...stronger['1password'] };
  return merged;
}

function withAbsolute<T extends object>(options: T, keys: readonly (keyof T)[], absolute: (path: string) => string): T {
  const paths = keys.flatMap((key) => {
    const path = options[key];
    return typeof path === 'string' ? [[key, absolute(path)] as const] : [];
  });
  return { ...options, ...Object.fromEntries(paths) };
}

function absoluteBlind(blind: BlindEntry, absolute: (path: string) => string): BlindEntry {
  return blind.upstream_ca === undefined ? blind : { ...blind, upstream_ca: absolute(blind.upstream_ca) };
}
