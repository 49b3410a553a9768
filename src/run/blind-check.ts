// What `kz validate` says of blind mode: everything in the config that a blind run would refuse, what never takes effect, and where each
// secret may go as far as that is known without its value. Asks no provider.
import { documentNames, type Config, type Declaration, type SourceFile } from '../config/load.ts';
import { lazyLocator, placeText, type Locate } from '../config/places.ts';
import { formatPlace, KzError, type Place } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { scopeOf } from '../mask/scope.ts';
import { slotsOf } from '../mask/slot.ts';
import type { Rule } from '../policy/rule.ts';
import { hiddenRules, unreachable } from '../policy/reach.ts';
import { upstreamAuthorities } from '../proxy/roots.ts';
import { placesOfRules, rulesOf } from './blind-rules.ts';
import { databaseKey, FOR_DATABASE } from './database.ts';
import { idleRotations } from './idle-rotation.ts';
import { sandboxWarnings } from './sandbox-check.ts';

export interface BlindCheck {
  /** The config says something about blind mode. */
  readonly isUsed: boolean;
  readonly rules: number;
  readonly warnings: readonly string[];
  readonly scopes: readonly KnownScope[];
}

export interface KnownScope {
  readonly name: string;
  /** `value`: nobody knows before the value is read. */
  readonly from: 'hosts' | 'starts_with' | 'template' | 'value';
  readonly hosts: readonly string[];
  readonly exposed: boolean;
}

/** Throws one error that holds everything that a blind run would refuse, each with its place. */
export async function checkBlind(config: Config): Promise<BlindCheck> {
  const locate = await lazyLocator();
  const problems: KzError[] = [];
  const rules = await collected(problems, () => rulesOf(config));
  for (const declaration of config.secrets.values()) problems.push(...swapProblems(declaration, locate));
  problems.push(...authorityProblems(config, locate));
  if (problems.length > 0) throw KzError.all(problems);
  const places = await placesOfRules(config);
  const isUsed = config.blind !== undefined || [...config.secrets.values()].some(mentionsBlind);
  return {
    isUsed,
    rules: rules?.length ?? 0,
    warnings: [
      ...ruleWarnings(rules ?? [], places),
      ...secretWarnings(config, { isUsed, rules: rules ?? [], places, locate }),
      ...idleRotations(config, isUsed, locate),
      ...sandboxWarnings(config, locate),
    ],
    scopes: knownScopes(config),
  };
}

async function collected<T>(problems: KzError[], action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    problems.push(...(error.code === 'several' ? error.problems : [error]));
    return undefined;
  }
}

function mentionsBlind({ hosts, swap, shape, expose }: Declaration): boolean {
  return [hosts, swap, shape, expose].some((key) => key !== undefined);
}

/** One by one, so that each has its own place. */
function swapProblems({ name, swap = [], origin }: Declaration, locate: Locate): KzError[] {
  return swap.flatMap((entry, index) => {
    try {
      slotsOf([entry]);
      return [];
    } catch (error) {
      if (!(error instanceof KzError)) throw error;
      const at = locate({ ...origin, path: [...origin.path, 'swap', index] });
      return [new KzError(error.code, `${name}: ${error.message}`, { hint: error.hint, at, cause: error })];
    }
  });
}

function authorityProblems({ blind, files }: Config, locate: Locate): KzError[] {
  if (blind?.upstream_ca === undefined) return [];
  try {
    upstreamAuthorities(blind.upstream_ca);
    return [];
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return [new KzError(error.code, error.message, { hint: error.hint, at: placeOfAuthority(files, locate), cause: error })];
  }
}

/** The last file that sets it counts. A locator gives the nearest ancestor of what is not there. */
function placeOfAuthority(files: readonly SourceFile[], locate: Locate): Place | undefined {
  for (const file of files.toReversed()) {
    const table = locate({ file, path: ['blind'] });
    const key = locate({ file, path: ['blind', 'upstream_ca'] });
    if (key.line !== table.line || key.column !== table.column) return key;
  }
  return undefined;
}

function ruleWarnings(rules: readonly Rule[], places: readonly Place[]): string[] {
  return hiddenRules(rules).map(({ rule, by }) => {
    return `${ruleText(rule, places)} never applies: ${ruleText(by, places)} comes first and matches all that it would`;
  });
}

function ruleText({ index, entry }: Rule, places: readonly Place[]): string {
  const place = places[index];
  return `the rule${place === undefined ? '' : ` at ${formatPlace(place)}`} (host = ${JSON.stringify(entry.host)})`;
}

interface Facts {
  /** The config says something about blind mode: others never run so. */
  readonly isUsed: boolean;
  readonly rules: readonly Rule[];
  readonly places: readonly Place[];
  readonly locate: Locate;
}

function secretWarnings(config: Config, facts: Facts): string[] {
  return [...config.secrets.values()].flatMap((declaration) => {
    const at = (...path: readonly (string | number)[]): string => placeText(declaration, path, facts.locate);
    const database = facts.isUsed ? databaseWarnings(declaration, at) : [];
    return [...exposeWarnings(declaration, at), ...hostWarnings(declaration, facts, at), ...database];
  });
}

type At = (...path: readonly (string | number)[]) => string;

function exposeWarnings({ name, expose, hosts, swap, shape }: Declaration, at: At): string[] {
  if (expose !== true) return [];
  const idle = Object.entries({ swap, shape }).flatMap(([key, value]) => (value === undefined ? [] : [key]));
  const has = `${name} has expose = true, so the program has its value`;
  return [
    ...idle.map((key) => `${at(key)}: ${has}, and \`${key}\` has no effect`),
    ...(hosts === undefined ? [] : [`${at('hosts')}: ${has}, and \`hosts\` only stops requests in which kz recognises it`]),
  ];
}

function hostWarnings({ name, hosts = [] }: Declaration, { rules, places }: Facts, at: At): string[] {
  return hosts.flatMap((host, index) => {
    const reach = unreachable(host, rules);
    if (reach === undefined) return [];
    const why = reach.by === undefined ? 'no rule allows it' : `${ruleText(reach.by, places)} denies it`;
    return [`${at('hosts', index)}: ${name} may go to ${JSON.stringify(host)}, but nothing can: ${why}`];
  });
}

function databaseWarnings(declaration: Declaration, at: At): string[] {
  const key = declaration.expose === true ? undefined : databaseKey(declaration);
  return key === undefined ? [] : [`${at(key)}: ${declaration.name} ${FOR_DATABASE}`];
}

function knownScopes(config: Config): KnownScope[] {
  const own = [...config.secrets.values()].map((declaration): KnownScope => {
    return { name: declaration.name, ...knownScope(declaration), exposed: declaration.expose === true };
  });
  const names = [...new Set(config.documents.flatMap(documentNames))].filter((name) => !config.secrets.has(name));
  return [...own, ...names.map((name): KnownScope => ({ name, from: 'value', hosts: [], exposed: false }))];
}

/** Stands for the rest of a value, and ends the host of no URL. */
const REST = '~';

function knownScope({ hosts, template, starts_with: start }: Declaration): Pick<KnownScope, 'from' | 'hosts'> {
  if (hosts !== undefined) return { from: 'hosts', hosts };
  const ofTemplate = template === undefined ? [] : inferred(template);
  if (ofTemplate.length > 0) return { from: 'template', hosts: ofTemplate };
  const ofStart = start === undefined ? [] : inferred(start + REST);
  return ofStart.length > 0 ? { from: 'starts_with', hosts: ofStart } : { from: 'value', hosts: [] };
}

function inferred(text: string): readonly string[] {
  const { from, patterns } = scopeOf({ value: new Secret(text), ruleHosts: [] });
  return from === 'any' ? [] : patterns;
}
