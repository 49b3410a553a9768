// A dry run of blind mode for one request: which rule decides, what kind of address it goes to, and which tokens would be swapped. Sends
// nothing and looks no name up; asks providers only for secrets whose scope has to be inferred from the value.
import type { Config, Declaration } from '../config/load.ts';
import { tomlString } from '../config/toml-text.ts';
import { addressKind, type AddressKind } from '../core/address.ts';
import { KzError, type Place } from '../core/errors.ts';
import { isAddress, parseAuthority } from '../core/host-name.ts';
import { Secret } from '../core/secret.ts';
import { Guard, type Guarded } from '../mask/guard.ts';
import { mint } from '../mask/mint.ts';
import { scopeOf, type Scope } from '../mask/scope.ts';
import { decide, type Decision } from '../policy/decide.ts';
import { parsePathPattern, readings } from '../policy/request-path.ts';
import type { Rule } from '../policy/rule.ts';
import type { Resolution, Resolved } from '../providers/secrets.ts';
import { placesOfRules, rulesOf } from './blind-rules.ts';
import { blindSecrets, type BlindSecrets } from './blind-secrets.ts';

export interface Question {
  readonly method: string;
  readonly scheme: string;
  readonly tls: boolean;
  /** Canonical. */
  readonly host: string;
  readonly port: number;
  /** As clients send it, without the query. */
  readonly path: string;
  /** How the host was written, when kz reads it in another spelling. */
  readonly written: string | undefined;
}

export interface Explanation {
  readonly question: Question;
  readonly decision: Decision;
  /** Of the rule that decides. */
  readonly place: Place | undefined;
  readonly address: AddressFacts | undefined;
  /** Rule and address taken together. */
  readonly allowed: boolean;
  /** Servers may read the path in different ways, so no rule with a path can allow it. */
  readonly isPathAmbiguous: boolean;
  readonly secrets: readonly SecretAnswer[];
  /** Without user, query, and what in its path is a value or looks like one. */
  readonly url: string;
  /** TOML that would allow the request; nothing when it is allowed. */
  readonly missing: MissingRule | undefined;
}

export interface AddressFacts {
  /** What is known without looking a name up; undefined for most names. */
  readonly kind: AddressKind | undefined;
  /** A rule names the host, so it may be at any address. */
  readonly named: boolean;
}

export interface MissingRule {
  readonly lines: readonly string[];
  /** Where they belong: above this rule, or anywhere in this file. */
  readonly above: Place | undefined;
  readonly file: string;
  /** There were no rules: with the first one, what no rule matches is denied. */
  readonly isFirst: boolean;
}

interface Common {
  readonly name: string;
  /** What `hosts` would have to say for the token to be swapped there; undefined when it is, or when the rule that is missing is enough. */
  readonly hosts?: readonly string[];
}

export type SecretAnswer =
  /** `swap`: the places that are its own; undefined for the default ones. */
  | (Common & { readonly state: 'masked'; readonly scope: Scope; readonly covered: boolean; readonly swap: readonly string[] | undefined })
  | (Common & { readonly state: 'exposed'; readonly scope: Scope; readonly covered: boolean })
  /** Optional, and its provider does not have it. */
  | (Common & { readonly state: 'absent' })
  /** Its value is needed to tell, and is not there. */
  | (Common & { readonly state: 'unknown'; readonly problem: KzError })
  /** A blind run would not start with it. */
  | (Common & { readonly state: 'refused'; readonly problem: KzError });

const SCHEMES: Readonly<Record<string, { readonly tls: boolean; readonly port: number }>> = {
  http: { tls: false, port: 80 },
  ws: { tls: false, port: 80 },
  https: { tls: true, port: 443 },
  wss: { tls: true, port: 443 },
};

const EXAMPLE = 'kz explain https://api.github.com/user';

/** Throws `usage`, without a word of the URL: it may hold a credential. */
export function parseQuestion(text: string, method: string): Question {
  const [, name = '', authority = ''] = /^([a-z]+):\/\/(?:[^/?#@]*@)?([^/?#@]*)(?:[/?#]|$)/i.exec(text) ?? [];
  const scheme = name.toLowerCase();
  const facts = SCHEMES[scheme];
  if (facts === undefined || /[\s\\]/.test(text)) {
    throw new KzError('usage', 'that is not a URL that starts with https://, http://, wss:// or ws://', { hint: EXAMPLE });
  }
  const target = parseAuthority(authority, facts.port);
  if (target === undefined || !URL.canParse(text)) {
    throw new KzError('usage', 'the host of that URL is neither a name nor an address', { hint: EXAMPLE });
  }
  if (!/^[!#$%&'*+.^_`|~\w-]+$/.test(method))
    throw new KzError('usage', 'that is not an HTTP method', { hint: `${EXAMPLE} --method POST` });
  if (scheme.startsWith('ws') && method !== 'GET')
    throw new KzError('usage', 'a WebSocket is opened with GET', { hint: 'leave out --method' });
  const host = authority.replace(/:\d*$/, '');
  const path = new URL(text).pathname;
  return { method, scheme, tls: facts.tls, ...target, path, written: host === target.host ? undefined : host };
}

/** Throws what a blind run would throw for the rules. `resolve` asks the providers of the config that it is given. */
export async function explain(config: Config, question: Question, resolve: (config: Config) => Promise<Resolution>): Promise<Explanation> {
  const rules = await rulesOf(config);
  const places = await placesOfRules(config);
  const decision = decide(question, rules);
  const place = decision.rule === undefined ? undefined : places[decision.rule.index];
  const address = addressFacts(question.host, decision);
  const isRefused = address !== undefined && !address.named && address.kind !== undefined && address.kind !== 'public';
  const allowed = decision.allow && !isRefused;
  const { secrets, guarded } = await secretAnswers({ config, rules, question, allowed }, resolve);
  const url = shownUrl(question, new Guard(guarded));
  const path = url.endsWith(question.path) ? question.path : undefined;
  const missing = allowed ? undefined : missingRule(config, { question, path, rules, decision, place });
  return {
    question,
    decision,
    place,
    address,
    allowed,
    isPathAmbiguous: readings(question.path).length === 0,
    secrets,
    url,
    missing,
  };
}

function addressFacts(host: string, decision: Decision): AddressFacts | undefined {
  if (!decision.allow) return undefined;
  return { kind: knownKind(host), named: decision.rule?.namesHost === true };
}

function knownKind(host: string): AddressKind | undefined {
  if (isAddress(host)) return addressKind(host.replace(/^\[|\]$/g, ''));
  // RFC 6761 leaves no other answer.
  return /(?:^|\.)localhost$/.test(host) ? 'loopback' : undefined;
}

interface Facts {
  readonly config: Config;
  readonly rules: readonly Rule[];
  readonly question: Question;
  readonly allowed: boolean;
}

interface Answers {
  readonly secrets: readonly SecretAnswer[];
  /** What was resolved on the way. */
  readonly guarded: readonly Guarded[];
}

async function secretAnswers(facts: Facts, resolve: (config: Config) => Promise<Resolution>): Promise<Answers> {
  const { config } = facts;
  const inferred = new Map([...config.secrets].filter(([, { hosts }]) => hosts === undefined));
  const needsValues = inferred.size > 0 || config.documents.length > 0;
  const { secrets: resolved } = needsValues ? await resolve({ ...config, secrets: inferred }) : { secrets: [] };
  const guarded: Guarded[] = [];
  const byName = new Map<string, SecretAnswer>();
  for (const each of resolved) {
    // A document gives it too; the config's own entry counts.
    if (config.secrets.has(each.name) && !inferred.has(each.name)) continue;
    byName.set(each.name, answerFor(each, facts, guarded));
  }
  const declared = [...config.secrets.values()].map((declaration) => byName.get(declaration.name) ?? declaredAnswer(declaration, facts));
  const others = [...byName.values()].filter(({ name }) => !config.secrets.has(name));
  return { secrets: [...declared, ...others], guarded };
}

function answerFor(resolved: Resolved, facts: Facts, guarded: Guarded[]): SecretAnswer {
  const { name } = resolved;
  if (resolved.state === 'absent') return { name, state: 'absent' };
  if (resolved.state === 'failed') return { name, state: 'unknown', problem: resolved.error };
  try {
    return given(blindSecrets(facts.config, [resolved], facts.rules), facts, guarded);
  } catch (error) {
    if (error instanceof KzError) return { name, state: 'refused', problem: error };
    throw error;
  }
}

/** Of one secret, as a run would have it. */
function given({ guarded: [own], tokens: [token] }: BlindSecrets, facts: Facts, guarded: Guarded[]): SecretAnswer {
  if (own === undefined) throw new Error('unreachable: a secret that is set is guarded');
  guarded.push(own);
  const { name, scope } = own;
  if (token === undefined) return { name, scope, covered: scope.covers(facts.question.host, facts.question.port), state: 'exposed' };
  const common = { name, scope, ...reach(scope, facts) };
  // Without places of its own, a webhook's URL has `path`, which the default is without.
  return { ...common, state: 'masked', swap: facts.config.secrets.get(name)?.swap ?? (token.slots.path ? ['path'] : undefined) };
}

/** With `hosts`, no value is needed. */
function declaredAnswer({ name, hosts, swap, expose }: Declaration, facts: Facts): SecretAnswer {
  const scope = scopeOf({ hosts, ruleHosts: [] });
  const { host, port } = facts.question;
  if (expose === true) return { name, scope, covered: scope.covers(host, port), state: 'exposed' };
  return { name, scope, ...reach(scope, facts), state: 'masked', swap };
}

function reach(scope: Scope, { question, allowed }: Facts): { readonly covered: boolean; readonly hosts?: readonly string[] } {
  const { host, port, tls } = question;
  const covers = (of: Scope): boolean => (tls ? of.covers(host, port) : of.coversClear(host, port));
  if (covers(scope)) return { covered: true };
  // The rule that is missing names the host, and with that it is in this scope.
  if (scope.from === 'rules' && !allowed) return { covered: false };
  // Without TLS the port has to be named, but for local hosts.
  const needed = covers(scopeOf({ hosts: [host], ruleHosts: [] })) ? host : `${host}:${String(port)}`;
  return { covered: false, hosts: scope.from === 'hosts' ? [...scope.patterns, needed] : [needed] };
}

interface Denied {
  readonly question: Question;
  /** Undefined when it holds a value. */
  readonly path: string | undefined;
  readonly rules: readonly Rule[];
  readonly decision: Decision;
  readonly place: Place | undefined;
}

function missingRule(config: Config, denied: Denied): MissingRule {
  const { host, port, tls } = denied.question;
  const lines = [
    '[[blind.connections]]',
    'allow = true',
    `host = ${tomlString(host)}`,
    ...(port === (tls ? 443 : 80) ? [] : [`port = ${String(port)}`]),
    ...narrowing(denied),
  ];
  const { rules, decision, place } = denied;
  const file = place?.file ?? config.blindOrigin?.file.path ?? projectFile(config);
  return { lines, above: decision.rule === undefined ? undefined : place, file, isFirst: rules.length === 0 };
}

/** Where rules about this host look at methods or paths, one beside them should too: it would open all that they close. */
function narrowing({ question, path, rules, decision }: Denied): string[] {
  const { host, port, method } = question;
  const about = rules.filter((rule) => (rule.namesHost || rule === decision.rule) && rule.covers(host, port) !== false);
  const byMethod = about.some(({ methods }) => methods !== undefined) && /^[A-Z]+$/.test(method);
  const pattern = about.some((rule) => rule.path !== undefined) ? path?.replaceAll('*', '%2A') : undefined;
  const byPath = pattern !== undefined && readings(pattern).length > 0 && 'compiled' in parsePathPattern(pattern);
  return [...(byMethod ? [`methods = [${tomlString(method)}]`] : []), ...(byPath ? [`path = ${tomlString(pattern)}`] : [])];
}

function shownUrl({ scheme, tls, host, port, path }: Question, guard: Guard): string {
  const authority = port === (tls ? 443 : 80) ? host : `${host}:${String(port)}`;
  const url = `${tls ? 'https' : 'http'}://${authority}${guard.masked(path)}`;
  // What a token would take the place of, were the URL itself a secret: the end of a webhook's path, and whatever looks random.
  const { text, parts } = mint(new Secret(url), 'plain');
  const shown = parts.some(({ token }) => token === text) ? url : parts.reduce((masked, { token }) => masked.replace(token, '…'), text);
  return shown.replace(/^\w+/, scheme);
}

function projectFile({ files }: Config): string {
  return (files.find(({ layer }) => layer === 'project') ?? files.at(-1))?.path ?? '.keyzero.toml';
}
