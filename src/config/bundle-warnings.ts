// What a bundle may say, and whoever wrote it should know that it does.
import type { Place } from '../core/errors.ts';
import type { BackendEntry, Bundle, IssuerEntry, PolicyEntry, ResourceEntry } from './bundle.ts';

export interface BundleWarning {
  readonly text: string;
  readonly at: Place;
}

export function bundleWarnings(bundle: Bundle): readonly BundleWarning[] {
  return [
    ...bundle.issuers.flatMap(ofIssuer),
    ...bundle.policies.flatMap(ofPolicy),
    ...bundle.resources.flatMap((resource) => ofResource(resource, bundle.backends.get(resource.resolver))),
    ...nothingToDo(bundle),
  ];
}

function ofIssuer(issuer: IssuerEntry): readonly BundleWarning[] {
  const { name, at } = issuer;
  const warnings: BundleWarning[] = [];
  if (issuer.audience.length === 0) {
    warnings.push({ text: `issuer ${JSON.stringify(name)} takes tokens that were made for other services (audience: any)`, at });
  }
  if (issuer.type === 'custom' && issuer.map.size === 0) {
    warnings.push({ text: `issuer ${JSON.stringify(name)} is custom and has no map: org, service and the others are empty`, at });
  }
  for (const key of issuer.staticKeys) {
    if (!key.alg.startsWith('HS') || key.pem === undefined) continue;
    warnings.push({
      text: `a shared secret of issuer ${JSON.stringify(name)} is written in the bundle: name a variable, secret_env`,
      at: key.at,
    });
  }
  return warnings;
}

function ofPolicy({ name, rule, at }: PolicyEntry): readonly BundleWarning[] {
  const what = `the rule of policy ${JSON.stringify(name)}`;
  const warnings: BundleWarning[] = [];
  // In a review nobody tells a Cyrillic letter from a Latin one.
  const [strange] = /[^\p{ASCII}]/u.exec(rule) ?? [];
  if (strange !== undefined) {
    const code = strange.codePointAt(0)?.toString(16).padStart(4, '0') ?? '';
    warnings.push({ text: `${what} has ${strange}, which may look like another character: \\u${code} cannot`, at });
  }
  // Elsewhere `matches` takes regular expressions. Such a rule is true of nothing, and one that denies, denies nothing.
  if (/(?<![\w.])ref\s*\.\s*matches\s*\(\s*[rR]?(["'])(?:(?!\1).)*?(?<=[/"'])\.[*+]/.test(rule)) {
    warnings.push({ text: `${what} has \`.*\` in ref.matches, which takes globs, where a dot is a dot: write \`**\``, at });
  }
  return warnings;
}

/** Backends whose refs name whatever is on this machine. */
const WIDE_OPEN: ReadonlyMap<string, string> = new Map([
  ['env', 'any variable of the server'],
  ['exec', 'the arguments of a program'],
  ['file', 'any file below the bundle’s folder, and with ~/ at home'],
]);

function ofResource(resource: ResourceEntry, backend: BackendEntry | undefined): readonly BundleWarning[] {
  const { ref, mode, hosts, from = '{ref}', at } = resource;
  const what = `resource ${JSON.stringify(ref)}`;
  const warnings: BundleWarning[] = [];
  if (mode === 'direct') warnings.push({ text: `${what} hands its value out (mode: direct)`, at });
  for (const host of hosts.filter((pattern) => pattern.startsWith('*.'))) {
    warnings.push({ text: `${what} may be sent to every host below ${host.slice(2)}`, at });
  }
  // `{ref}` with something in front of it starts where the bundle says.
  if (backend !== undefined && backend.path === undefined && WIDE_OPEN.has(backend.provider) && ref.includes('*') && from.startsWith('{')) {
    warnings.push({
      text: `${what} lets callers choose ${WIDE_OPEN.get(backend.provider) ?? ''}: start \`from\` with words of your own`,
      at,
    });
  }
  return warnings;
}

function nothingToDo({ file, issuers, policies, resources }: Bundle): readonly BundleWarning[] {
  const at = { file };
  if (issuers.length === 0) return [{ text: 'the bundle has no issuers: nobody is let in', at }];
  if (policies.length === 0) return [{ text: 'the bundle has no policies: everything is denied', at }];
  return resources.length === 0 ? [{ text: 'the bundle has no resources: there is nothing to ask for', at }] : [];
}
