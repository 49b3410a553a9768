// From declarations to secrets: ask the providers, decode, pick the field, fill the template, check the shape. Everything that is
// missing or wrong comes back at once, by name; nothing here prints or decides what happens next.
import { dirname } from 'node:path';
import { documentNames, type Config, type Declaration, type DocumentDeclaration, type Origin } from '../config/load.ts';
import type { ProviderName } from '../config/provider-names.ts';
import { valueProblems } from '../config/value.ts';
import { isTypable, nameProblem, typedName } from '../config/variable-name.ts';
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { suggest } from '../core/suggest.ts';
import { decode, nearestField } from './decode.ts';
import { namedFormat, parseDocument, selectKey, type Document } from './document.ts';
import type { Lease, Outcome, Ref } from './provider.ts';
import { resolveRefs, type Access, type Answer } from './resolve.ts';

/** Where a secret is declared to come from. */
export interface Source {
  readonly provider: ProviderName;
  readonly ref: string;
  readonly origin: Origin;
}

interface Common {
  readonly name: string;
  readonly source: Source;
  readonly tookMs: number;
}

/** `absent` is an optional secret that its provider does not have. */
export type Resolved =
  | (Common & {
      readonly state: 'set';
      readonly secret: Secret;
      readonly from: 'provider' | 'default';
      /** Of the provider, when the value ends by itself. */
      readonly lease?: Lease | undefined;
    })
  | (Common & { readonly state: 'absent' })
  | (Common & { readonly state: 'failed'; readonly error: KzError });

export type SetSecret = Extract<Resolved, { state: 'set' }>;

export interface Selection {
  /** Only these names; left out: every declared one. */
  readonly only?: readonly string[] | undefined;
}

export interface Resolution {
  /** One result per secret that was asked for, declared ones first, then those that documents gave. */
  readonly secrets: readonly Resolved[];
  /** Every name that the config declares, and that the documents gave which were read: also those that were not asked for. */
  readonly names: readonly string[];
}

/** Throws `secret-undeclared` for a name in `only` that nothing declares. */
export async function resolveSecrets(config: Config, selection: Selection, access: Access, signal: AbortSignal): Promise<Resolution> {
  const wanted = selection.only === undefined ? undefined : new Set(selection.only);
  const declarations = [...config.secrets.values()].filter(({ name }) => wanted?.has(name) ?? true);
  const documents = config.documents.filter((document) => mayGive(document, wanted, config));
  const lookups = [...declarations, ...documents].map(({ provider, ref, origin }) => ({ provider, ref: refOf(ref, origin) }));
  const answers = await resolveRefs(lookups, access, signal);
  const results = new Map<string, Resolved>();
  for (const [index, declaration] of declarations.entries()) {
    const answer = answers[index];
    if (answer !== undefined) results.set(declaration.name, await fromDeclaration(declaration, answer));
  }
  for (const [index, document] of documents.entries()) {
    const answer = answers[declarations.length + index];
    if (answer === undefined) continue;
    for (const result of await fromDocument(document, answer)) if (!config.secrets.has(result.name)) results.set(result.name, result);
  }
  const names = [...new Set([...config.secrets.keys(), ...config.documents.flatMap(documentNames), ...results.keys()])];
  if (wanted === undefined) return { secrets: [...results.values()], names };
  return { secrets: chosenFrom(results, wanted, names), names };
}

export function refOf(text: string, origin: Origin): Ref {
  return { text, directory: dirname(origin.file.path) };
}

/** What `--only` and `kz get` say about a name that no file declares. */
export function undeclared(name: string, known: readonly string[]): KzError {
  const typed = typedName(name);
  if (typed === undefined) {
    const hint = 'name it as the config does; a value does not go on the command line (`kz put NAME` asks for it)';
    return new KzError('usage', 'that is not the name of a secret', { hint });
  }
  const near = suggest(typed, known);
  const list = known.length === 0 ? 'run `kz add` to declare it' : `declared: ${known.join(', ')}`;
  return new KzError('secret-undeclared', `${typed} is not declared in the configuration`, {
    hint: near === undefined ? list : `did you mean ${near}?`,
  });
}

/** The wanted ones. What a document that could not be read would have given nobody knows, so its failure stands for them. */
function chosenFrom(results: ReadonlyMap<string, Resolved>, wanted: ReadonlySet<string>, names: readonly string[]): Resolved[] {
  const unknown = [...wanted].filter((name) => !results.has(name));
  const unread = [...results.values()].filter((result) => result.state === 'failed' && !isTypable(result.name));
  if (unknown.length > 0 && unread.length === 0) throw KzError.all(unknown.map((name) => undeclared(name, names)));
  return [...results.values()].filter(({ name }) => wanted.has(name)).concat(unknown.length > 0 ? unread : []);
}

function mayGive(document: DocumentDeclaration, wanted: ReadonlySet<string> | undefined, config: Config): boolean {
  if (wanted === undefined) return true;
  const open = [...wanted].filter((name) => !config.secrets.has(name));
  return document.keys === undefined ? open.length > 0 : documentNames(document).some((name) => open.includes(name));
}

async function fromDeclaration(declaration: Declaration, { outcome, tookMs }: Answer): Promise<Resolved> {
  const { name, provider, ref, origin } = declaration;
  const common = { name, source: { provider, ref, origin }, tookMs };
  try {
    const value = await valueOf(declaration, outcome);
    if (value !== undefined && value !== '') {
      return { ...common, state: 'set', secret: checked(declaration, value), from: 'provider', ...leaseOf(outcome) };
    }
    if (declaration.default !== undefined && declaration.default !== '') {
      return { ...common, state: 'set', secret: checked(declaration, declaration.default), from: 'default' };
    }
    if (declaration.required === false) return { ...common, state: 'absent' };
    throw value === '' ? empty(declaration) : await absent(declaration, outcome);
  } catch (error) {
    if (error instanceof KzError) return { ...common, state: 'failed', error: named(name, error) };
    throw error;
  }
}

function leaseOf(outcome: Outcome): { lease?: Lease } {
  return outcome.ok && outcome.lease !== undefined ? { lease: outcome.lease } : {};
}

/** Undefined when the provider says that it has no such value; any other failure stays one, also for an optional secret. */
async function valueOf(declaration: Declaration, outcome: Outcome): Promise<string | undefined> {
  if (outcome.ok && outcome.isFolder === true) refuseFolder(declaration);
  if (outcome.ok) return decode(declaration, outcome.secret.reveal());
  if (outcome.error.code !== 'secret-missing') throw outcome.error;
  return undefined;
}

function refuseFolder({ provider, ref, json_key: key, template }: Declaration): void {
  if (key !== undefined || template !== undefined) return;
  const hint = `name a file in it, as \`${ref.replace(/\/+$/, '')}#NAME\`, or use it in [[secrets_from]]`;
  throw new KzError('ref-invalid', `${provider} ${JSON.stringify(ref)} is a folder`, { hint });
}

async function absent(declaration: Declaration, outcome: Outcome): Promise<KzError> {
  const { name, provider, ref, json_key: key } = declaration;
  const message = `${name} is missing (provider: ${provider}, ref: ${ref})`;
  if (!outcome.ok || key === undefined) return new KzError('secret-missing', message, { hint: howToMend(declaration, outcome) });
  const near = await nearestField(declaration, outcome.secret.reveal());
  const hint = near === undefined ? howToMend(declaration, outcome) : `did you mean ${JSON.stringify(near)}?`;
  return new KzError('secret-missing', `${message}, which has no ${JSON.stringify(key)}`, { hint });
}

/** What a provider says for one case (`if …`) comes behind the usual way; anything else that it says is the way. */
function howToMend({ name, provider, ref, json_key: key, template }: Declaration, outcome: Outcome): string {
  if (provider === 'env') return `set ${ref} in the environment that starts kz`;
  const own = outcome.ok ? undefined : outcome.error.hint;
  if (own?.startsWith('if ') === false) return own;
  // What `kz put` would refuse. Vault's secrets are documents, too.
  const isDocument = key !== undefined || template !== undefined || (provider === 'vault' && !ref.includes('#'));
  const usual = isDocument ? storeWhole(provider, ref) : `run \`kz put ${name}\``;
  return own === undefined ? usual : `${usual}; ${own}`;
}

function storeWhole(provider: ProviderName, ref: string): string {
  return `store the whole document as ${provider} ${ref}`;
}

function empty({ name, provider, ref }: Declaration): KzError {
  const hint = 'store a value, or declare it with `required = false`';
  return new KzError('secret-empty', `${name} is empty (provider: ${provider}, ref: ${ref})`, { hint });
}

/** Say which secret an error of a provider concerns. */
function named(name: string, error: KzError): KzError {
  if (error.message.startsWith(`${name} `)) return error;
  return new KzError(error.code, `${name}: ${error.message}`, { hint: error.hint, cause: error });
}

function checked(declaration: Declaration, value: string): Secret {
  const { name, provider, ref } = declaration;
  const problems = valueProblems(value, declaration);
  if (value.includes('\0')) problems.push('holds a NUL character, which no environment variable can');
  if (provider === 'env' && /^\$\{\w+(:-[^}]*)?\}$/.test(value))
    problems.push('is an unexpanded ${…} reference: what started kz did not know the variable');
  if (problems.length === 0) return new Secret(value);
  throw new KzError('secret-invalid', `${name} ${problems.join(', ')} (provider: ${provider}, ref: ${ref})`, {
    hint: provider === 'env' ? `correct ${ref} in the environment that starts kz` : `run \`kz put ${name}\` to replace it`,
  });
}

async function fromDocument(declaration: DocumentDeclaration, { outcome, tookMs }: Answer): Promise<Resolved[]> {
  const { provider, ref, origin, keys, required } = declaration;
  const common = { source: { provider, ref, origin }, tookMs };
  const label = `${provider} ${ref}`;
  try {
    if (!outcome.ok) {
      if (outcome.error.code === 'secret-missing' && required === false) {
        return documentNames(declaration).map((name) => ({ ...common, name, state: 'absent' }));
      }
      throw outcome.error.code === 'secret-missing' ? withHint(outcome.error, storeWhole(provider, ref)) : outcome.error;
    }
    const text = outcome.secret.reveal();
    // JSON unless its name says otherwise: guessed to be dotenv, a lone token that ends in `=` would pass for a name, and be printed.
    const named = outcome.isFolder === true ? undefined : namedFormat(fileOf(declaration));
    const document = await parseDocument(text, named ?? 'json', label);
    return chosen(keys, document).map(([name, key]) => {
      return { ...common, name, ...documentValue({ name, key, document, label, isNamed: keys !== undefined }), ...leaseOf(outcome) };
    });
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    const names = documentNames(declaration);
    return (names.length === 0 ? [label] : names).map((name) => ({ ...common, name, state: 'failed', error: named(name, error) }));
  }
}

function withHint(error: KzError, hint: string): KzError {
  return error.hint === undefined ? new KzError(error.code, error.message, { hint, cause: error }) : error;
}

/** Only a ref that is a path says something about the format. */
function fileOf({ provider, ref }: DocumentDeclaration): string {
  return provider === 'file' || provider === 'age' ? ref.replace(/\.age$/, '') : '';
}

function chosen(keys: DocumentDeclaration['keys'], document: Document): [string, string][] {
  if (keys === undefined) return [...document.keys()].map((key) => [key, key]);
  return Array.isArray(keys) ? keys.map((key) => [key, key]) : Object.entries(keys);
}

type DocumentValue =
  { readonly state: 'set'; readonly secret: Secret; readonly from: 'provider' } | { readonly state: 'failed'; readonly error: KzError };

interface Member {
  readonly name: string;
  readonly key: string;
  readonly document: Document;
  /** Of the document. */
  readonly label: string;
  /** By `keys`. */
  readonly isNamed: boolean;
}

function documentValue(member: Member): DocumentValue {
  const { name, label } = member;
  const invalid = (problem: string, hint?: string): DocumentValue => ({
    state: 'failed',
    error: new KzError('secret-invalid', `${name} ${problem}`, { hint }),
  });
  const problem = nameProblem(name);
  if (problem !== undefined) return invalid(`${problem} (from ${label})`, NAME_KEYS);
  try {
    const value = selectKey(member.document, member.key);
    if (value === undefined || value === '') return { state: 'failed', error: withoutValue(member, value) };
    if (value.includes('\0')) return invalid('holds a NUL character, which no environment variable can');
    return { state: 'set', secret: new Secret(value), from: 'provider' };
  } catch (error) {
    if (error instanceof KzError) return { state: 'failed', error: named(name, error) };
    throw error;
  }
}

const NAME_KEYS = 'name the wanted keys: `keys = ["A", "B"]` or `keys = { A = "key" }`';

function withoutValue({ name, key, document, label, isNamed }: Member, value: string | undefined): KzError {
  const near =
    value === undefined
      ? suggest(
          key,
          [...document.keys()].filter((each) => each !== key),
        )
      : undefined;
  const usual = isNamed ? 'give it a value in the document, or correct `keys`' : NAME_KEYS;
  const hint = near === undefined ? usual : `did you mean ${JSON.stringify(near)}?`;
  if (value === '') return new KzError('secret-empty', `${name} is empty (from ${label})`, { hint });
  return new KzError('secret-missing', `${name} is missing: ${label} has no key ${JSON.stringify(key)}`, { hint });
}
