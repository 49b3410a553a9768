// What `kz init` proposes from the files a project already has: which names are secrets, which are plain settings. Reads values only to
// judge their shape; nothing it returns holds one, not even in a problem.
import {
  explainsRandomValue,
  isPublishedName,
  isReference,
  looksLikeSecretName,
  looksLikeSecretValue,
  RANDOM_SHAPE,
  secretValueShape,
} from '../core/credential-shape.ts';
import { isRecord } from '../core/record.ts';
import { TextCursor } from '../core/text-cursor.ts';
import type { ProviderName } from './provider-names.ts';
import { nameProblem } from './variable-name.ts';

export interface ProposedSecret {
  readonly name: string;
  /** The file, and for an MCP server its name: `.mcp.json (github)`. */
  readonly source: string;
  /** The end of a sentence that starts with the name: `is named like a secret`. */
  readonly reason: string;
}

export interface ProposedServer {
  readonly name: string;
  readonly command: string;
  /** As written, except that an argument that may hold a secret is `[secret]`. */
  readonly args: readonly string[];
  /** Indexes of those arguments. */
  readonly hiddenArgs: readonly number[];
  /** Variables of the `env` block that `kz run` takes over. */
  readonly secrets: readonly string[];
  /** Variables that stay in the `env` block. */
  readonly settings: readonly string[];
  /** Variables whose whole value is `${…}`, and what stands in it: `GITHUB_TOKEN`, `env:GITHUB_TOKEN`, `input:token`. */
  readonly references: readonly { readonly name: string; readonly to: string }[];
  /** The path as written; the file is not read. */
  readonly envFile?: string;
}

export interface Proposals {
  readonly secrets: readonly ProposedSecret[];
  readonly settings: readonly { readonly name: string }[];
  readonly servers: readonly ProposedServer[];
  /** Why nothing could be read. */
  readonly problem?: string;
  /** What `kz run` will not take care of. */
  readonly notes: readonly string[];
}

const NOTHING: Proposals = { secrets: [], settings: [], servers: [], notes: [] };

/** No file that somebody maintains by hand. */
const LONGEST_TEXT = 1024 * 1024;

/** The settings of a `.env` file, in its order. Understands what every dotenv reader does: `export`, quotes, values over many lines. */
export function proposeFromDotenv(text: string, fileName: string): Proposals {
  if (text.length > LONGEST_TEXT) return { ...NOTHING, problem: `${fileName} is larger than 1 MiB` };
  return { ...classify(scanDotenv(text).map((variable) => ({ ...variable, source: fileName }))), servers: [] };
}

/** The `env` blocks of `mcpServers` (Claude, Cursor and others) or `servers` (VS Code, also below `mcp` in its settings). */
export function proposeFromMcp(text: string, fileName: string): Proposals {
  if (text.length > LONGEST_TEXT) return { ...NOTHING, problem: `${fileName} is larger than 1 MiB` };
  const document = parseJson(text);
  // The parser's own message quotes the text.
  if (document === undefined) return { ...NOTHING, problem: `${fileName} is not valid JSON (comments and trailing commas are not read)` };
  const entries = serverEntries(document);
  if (entries.length === 0) return { ...NOTHING, problem: `${fileName} has no mcpServers and no servers` };
  const { notes, ...found } = classify(
    entries.flatMap(([name, entry]) => environmentOf(entry).map((variable) => ({ ...variable, source: `${fileName} (${name})` }))),
  );
  const secretNames = new Set(found.secrets.map((secret) => secret.name));
  return {
    ...found,
    servers: entries.flatMap(([name, entry]) => proposeServer(name, entry, secretNames) ?? []),
    notes: [...notes, ...entries.flatMap(([name, entry]) => headerNotes(name, entry))],
  };
}

export interface Starter {
  readonly names: readonly string[];
  readonly provider: ProviderName;
  /** The project's name. It stands in front of every ref: a store or a keychain is the user's, and two projects have a DATABASE_URL each. */
  readonly project: string;
}

/** The text of a new `.keyzero.toml`. */
export function starterConfig({ names, provider, project }: Starter): string {
  const refs = new RefNames(project);
  const lines = [...new Set(names)].map((name) => entryLine(name, provider, refs.of(name)));
  const header = [
    '#:schema ./node_modules/keyzero/schema.json',
    '#',
    '# Which secrets this project needs, and where each one lives. It holds no values: commit it.',
    '#',
    '#   kz put NAME            store a value',
    '#   kz status              what is there, what is missing',
    '#   kz run -- npm start    start a program with all of them; with --blind, with masked tokens instead of the values',
    '#',
  ];
  const examples = ['GITHUB_TOKEN', 'DATABASE_URL'].map((name) => `#   ${entryLine(name, provider, refs.of(name))}`);
  const more = ['# For another environment, a table of its own: [production.secrets], chosen by `kz run --env production`.', ''];
  const start =
    lines.length > 0 ? [...header, ...more] : [...header, '# One line per secret, below [secrets]:', '#', ...examples, '#', ...more];
  return [...start, '[secrets]', ...lines, ''].join('\n');
}

interface Variable {
  readonly name: string;
  readonly value: string;
}

type SourcedVariable = Variable & { readonly source: string };

function classify(variables: readonly SourcedVariable[]): Pick<Proposals, 'secrets' | 'settings' | 'notes'> {
  const secrets = new Map<string, ProposedSecret>();
  const byName = new Map<string, SourcedVariable[]>();
  for (const variable of variables) {
    const { name, value, source } = variable;
    const same = byName.get(name);
    if (same === undefined) byName.set(name, [variable]);
    else same.push(variable);
    const reason = secretReason(name, value);
    if (reason !== undefined && !secrets.has(name)) secrets.set(name, { name, source, reason });
  }
  const settings = [...byName.keys()].filter((name) => !secrets.has(name));
  const notes = [...secrets.keys()].flatMap((name) => conflictNote(byName.get(name) ?? []));
  return { secrets: [...secrets.values()], settings: settings.map((name) => ({ name })), notes };
}

function secretReason(name: string, value: string): string | undefined {
  if (nameProblem(name) !== undefined || isPublishedName(name)) return undefined;
  // `BASIC_AUTH=true` is a switch.
  if (looksLikeSecretName(name) && !/^(?:true|false|yes|no|on|off|0|1)$/i.test(value)) return 'is named like a secret';
  const shape = secretValueShape(value);
  if (shape === undefined || (shape === RANDOM_SHAPE && explainsRandomValue(name))) return undefined;
  return `has a value that looks like ${shape}`;
}

/** Servers have an environment each, a config has one entry per name. */
function conflictNote(variables: readonly SourcedVariable[]): string[] {
  const [first, ...others] = variables.filter(({ value }) => value !== '' && !isReference(value));
  const other = others.find(({ value, source }) => value !== first?.value && source !== first?.source);
  if (first === undefined || other === undefined) return [];
  return [`${first.name} differs between ${first.source} and ${other.source}, and one entry holds one value`];
}

const DOTENV_START = String.raw`[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*=[ \t]*`;
const DOTENV_QUOTED = new RegExp(`${DOTENV_START}(?:'([^']*)'|"((?:\\\\[^]|[^"\\\\])*)"|\`([^\`]*)\`)[ \\t]*(?:#[^\\n]*)?(?:\\n|$)`, 'y');
const DOTENV_BARE = new RegExp(`${DOTENV_START}([^\\n]*)(?:\\n|$)`, 'y');
const DOTENV_LINE = /[^\n]*(?:\n|$)/y;
const PEM_REST = /[^]*?-----END [^\n]*(?:\n|$)|[^]*/y;

function scanDotenv(original: string): Variable[] {
  const cursor = new TextCursor(original.replace(/^\uFEFF/, '').replace(/\r\n?/g, '\n'));
  const variables: Variable[] = [];
  while (!cursor.atEnd) {
    const quoted = cursor.take(DOTENV_QUOTED);
    const [, name, ...values] = quoted ?? cursor.take(DOTENV_BARE) ?? cursor.take(DOTENV_LINE) ?? [];
    const found = values.join('');
    const value = quoted === null ? withoutComment(found) : found;
    // A key pasted without quotes: its lines end in `=` and would pass for names.
    if (quoted === null && value.includes('-----BEGIN ') && !value.includes('-----END ')) cursor.take(PEM_REST);
    if (name !== undefined && !looksLikeSecretValue(name)) variables.push({ name, value });
  }
  return variables;
}

/** A search and a slice: one pattern for all of it takes time that grows with the square of the line. */
function withoutComment(line: string): string {
  const comment = line.search(/(?:^|\s)#/);
  return (comment === -1 ? line : line.slice(0, comment)).trim();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/, '')) as unknown;
  } catch {
    return undefined;
  }
}

type Entry = Readonly<Record<string, unknown>>;

function serverEntries(document: unknown): [string, Entry][] {
  if (!isRecord(document)) return [];
  const nested = isRecord(document.mcp) ? document.mcp.servers : undefined;
  return [document.mcpServers, document.servers, nested]
    .filter(isRecord)
    .flatMap((servers) => Object.entries(servers).flatMap(([name, entry]): [string, Entry][] => (isRecord(entry) ? [[name, entry]] : [])));
}

function environmentOf({ env }: Entry): Variable[] {
  return isRecord(env) ? Object.entries(env).map(([name, value]) => ({ name, value: textOf(value) })) : [];
}

function proposeServer(name: string, entry: Entry, secretNames: ReadonlySet<string>): ProposedServer | undefined {
  const { command, args, envFile } = entry;
  // Nothing to start, or `kz run` starts it already.
  if (typeof command !== 'string' || /(?:^|[\\/])kz$/.test(command)) return undefined;
  const words = Array.isArray(args) ? args.map(textOf) : [];
  const hidden = new Set(words.flatMap((word, index) => (mayHoldSecret(word, words[index - 1]) ? [index] : [])));
  const variables = environmentOf(entry);
  const names = variables.map((variable) => variable.name);
  return {
    name,
    command: mayHoldSecret(command, undefined) ? HIDDEN : command,
    args: words.map((word, index) => (hidden.has(index) ? HIDDEN : word)),
    hiddenArgs: [...hidden],
    secrets: names.filter((variable) => secretNames.has(variable)),
    settings: names.filter((variable) => !secretNames.has(variable)),
    references: variables.flatMap((variable) => {
      const to = referenceTarget(variable.value);
      return to === undefined ? [] : [{ name: variable.name, to }];
    }),
    ...(typeof envFile === 'string' ? { envFile } : {}),
  };
}

const HIDDEN = '[secret]';

/** Alone (`sk-…`), behind its flag (`--token`, `…`), or with its name in one word (`TOKEN=…`, `Authorization: Bearer …`). */
function mayHoldSecret(word: string, previous: string | undefined): boolean {
  if (looksLikeSecretValue(word) || word.split(/[\s=:,"'/?&]+/).some(looksLikeSecretValue)) return true;
  const flag = /^--?([\w-]+)$/.exec(previous ?? '')?.[1];
  if (flag !== undefined && looksLikeSecretName(`arg-${flag}`) && !word.startsWith('-') && !isReference(word)) return true;
  const named = word.matchAll(/(?<![\w.-])([\w.-]+)["']?\s*[=:]\s*["']?((?:Bearer |Basic )?[^\s"']+)/gi);
  return [...named].some(([, name = '', value = '']) => {
    return looksLikeSecretName(`arg-${name}`) && !isReference(value.replace(/^(?:Bearer|Basic) /i, ''));
  });
}

/** Without the default of `${NAME:-default}`, which may be a value. */
function referenceTarget(value: string): string | undefined {
  return /^\$\{((?:env:)?[A-Za-z_]\w*|(?:input|command|config):[\w.-]+)(?::?-[^}]*)?\}$/.exec(value)?.[1];
}

function headerNotes(server: string, { headers }: Entry): string[] {
  if (!isRecord(headers)) return [];
  const secrets = Object.entries(headers).filter(([name, value]) => mayHoldSecret(`${name}: ${textOf(value)}`, undefined));
  return secrets.map(([name]) => `server ${server} sends a secret in its header ${name}, which \`kz run\` cannot supply`);
}

function entryLine(name: string, provider: ProviderName, ref: string): string {
  return `${name} = { provider = ${JSON.stringify(provider)}, ref = ${JSON.stringify(ref)} }`;
}

/** `shop/database-url`, and no two names with the same ref. */
class RefNames {
  readonly #prefix: string;
  readonly #taken = new Set<string>();
  /** How many names had the same ref so far: counting from the start again would take long for many. */
  readonly #counts = new Map<string, number>();

  constructor(project: string) {
    const word = kebab(project);
    this.#prefix = word === '' ? '' : `${word}/`;
  }

  of(name: string): string {
    const stem = `${this.#prefix}${kebab(name) || 'secret'}`;
    let count = this.#counts.get(stem) ?? 1;
    let ref = count === 1 ? stem : `${stem}-${String(count)}`;
    while (this.#taken.has(ref)) ref = `${stem}-${String(++count)}`;
    this.#taken.add(ref);
    this.#counts.set(stem, count);
    return ref;
  }
}

function kebab(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}
