// The bundle from its YAML: every part is read whatever is wrong with the others.
import * as z from 'zod/mini';
import type { BackendEntry, Bundle, PolicyEntry, ResourceEntry } from './bundle.ts';
import { readBackend } from './bundle-backends.ts';
import { readIssuer } from './bundle-issuers.ts';
import { has, isMapping, named, nameOf, readKeys, unknownKey } from './bundle-keys.ts';
import type { BundleProblem, Mapping, Reading, Report } from './bundle-keys.ts';
import { withoutOldKeys, withoutOldPolicyKeys, withoutOldResourceKeys } from './bundle-migration.ts';
import { checkResolver, readResource } from './bundle-resources.ts';
import { POLICY_KEYS, VERSION } from './bundle-schema.ts';
import type { Path } from './bundle-yaml.ts';
import type { Place } from '../core/errors.ts';

export interface Source extends Omit<Reading, 'report'> {
  readonly file: string;
  readonly textPlace: (path: Path) => Place;
}

const KEYS = ['version', 'issuers', 'policies', 'resources', 'backends'];

/** The bundle is complete only without problems. */
export function readBundle(
  content: unknown,
  source: Source,
): { readonly bundle: Omit<Bundle, 'sha256'>; readonly problems: readonly BundleProblem[] } {
  const problems: BundleProblem[] = [];
  const reading: Reading = { ...source, report: (problem) => problems.push(problem) };
  const top = withoutOldKeys(topOf(content, reading.report), reading.report);
  for (const key of Object.keys(top)) if (!KEYS.includes(key)) reading.report(unknownKey(key, KEYS, { path: [], what: 'the bundle' }));
  checkVersion(top, reading.report);
  const backends = readBackends(top, reading);
  const issuers = elements(top, 'issuers', reading.report).flatMap(({ mapping, path }) => readIssuer(mapping, path, reading) ?? []);
  const bundle: Omit<Bundle, 'sha256'> = {
    ...{ file: source.file, version: '1', issuers, backends: backends.entries },
    policies: readPolicies(top, source, reading.report),
    resources: readResources(top, backends.names, reading),
  };
  for (const { key, word } of [
    { key: 'issuers', word: 'name' },
    { key: 'issuers', word: 'issuer_url' },
    { key: 'policies', word: 'name' },
    { key: 'resources', word: 'ref' },
  ]) {
    checkUnique(top[key], { key, word }, reading);
  }
  return { bundle, problems };
}

function topOf(content: unknown, report: Report): Mapping {
  if (isMapping(content)) return content;
  const hint = 'a bundle starts with `version: "1"`';
  report({ path: [], message: content === null ? 'the bundle is empty' : 'the bundle is not a mapping', hint });
  // One problem is enough.
  return { version: '1' };
}

function checkVersion(top: Mapping, report: Report): void {
  const { version } = top;
  if (!has(top, 'version')) report({ path: [], message: 'the bundle has no version', hint: 'add `version: "1"`' });
  else if (!z.safeParse(VERSION, version).success) {
    report({ path: ['version'], message: `${named('version', version)} is not known`, hint: 'write `version: "1"`' });
  }
}

interface Element {
  readonly mapping: Mapping;
  readonly path: Path;
}

/** Nothing at all is an empty list. */
function elements(top: Mapping, key: string, report: Report): readonly Element[] {
  const value = top[key] ?? [];
  if (!Array.isArray(value)) {
    report({ path: [key], message: `${key} is not a list`, hint: 'start each of them with `- `' });
    return [];
  }
  return (value as unknown[]).flatMap((mapping, index) => {
    const path = [key, index];
    if (isMapping(mapping)) return [{ mapping, path }];
    report({ path, message: `${key} number ${String(index + 1)} is not a mapping` });
    return [];
  });
}

function readPolicies(top: Mapping, { textPlace }: Source, report: Report): readonly PolicyEntry[] {
  return elements(top, 'policies', report).flatMap(({ mapping, path }) => {
    const policy = withoutOldPolicyKeys(mapping, path, report);
    const what = nameOf('policy', policy.name, Number(path.at(-1)));
    const { name, rule, effect } = readKeys(POLICY_KEYS, policy, { path, what, additions: RULE }, report);
    if (name === DEFAULT_DENY) {
      report({
        path: [...path, 'name'],
        message: `a policy cannot be called ${DEFAULT_DENY}: that is what decides when none does`,
        hint: 'give it another name; a rule that denies all the rest is not needed',
      });
    }
    if (name === undefined || rule === undefined || effect === undefined) return [];
    return [{ name, rule, effect, at: textPlace([...path, 'rule']) }];
  });
}

const DEFAULT_DENY = 'default-deny';

const RULE = { rule: "add `rule: …`: when it applies, such as org == 'acme' && ref.matches('github/**')" };

function readResources(top: Mapping, backends: Backends['names'], reading: Reading): readonly ResourceEntry[] {
  return elements(top, 'resources', reading.report).flatMap(({ mapping, path }) => {
    const resource = withoutOldResourceKeys(mapping, path, reading.report);
    if (resource === undefined) return [];
    if (backends !== undefined) checkResolver(resource, path, backends, reading.report);
    return readResource(resource, path, reading) ?? [];
  });
}

interface Backends {
  readonly entries: ReadonlyMap<string, BackendEntry>;
  /** Also of those that are wrong. Undefined: nobody can say which there are. */
  readonly names: ReadonlySet<string> | undefined;
}

function readBackends(top: Mapping, reading: Reading): Backends {
  const value = top.backends ?? {};
  if (!isMapping(value)) {
    reading.report({
      path: ['backends'],
      message: 'backends is not a mapping',
      hint: 'write each as `NAME: { type: env_file, path: ./secrets.env }`',
    });
    return { entries: new Map(), names: undefined };
  }
  const entries = new Map<string, BackendEntry>();
  for (const [name, written] of Object.entries(value)) {
    const backend = readBackend(name, written, ['backends', name], reading);
    if (backend !== undefined) entries.set(name, backend);
  }
  return { entries, names: new Set(Object.keys(value)) };
}

function checkUnique(list: unknown, { key, word }: { key: string; word: string }, { report, place }: Reading): void {
  const seen = new Map<string, Path>();
  for (const [index, element] of (Array.isArray(list) ? (list as unknown[]) : []).entries()) {
    const value = isMapping(element) ? element[word] : undefined;
    if (typeof value !== 'string') continue;
    const path = [key, index, word];
    const first = seen.get(value);
    if (first === undefined) seen.set(value, path);
    else report({ path, message: `${named(word, value)} is here twice (first in line ${String(place(first).line)})` });
  }
}
