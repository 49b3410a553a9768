// Bundles of KeyZero 0.1 and 0.2, which gave out secrets by tags: what to write instead, made from what is there. The words are only hints;
// nothing is converted without a person who looks at it.
import { has, isMapping, nameOf, quotable, type Mapping, type Report } from './bundle-keys.ts';
import type { Path } from './bundle-yaml.ts';

/** Each part of the bundle without its old keys, after reporting every one of them. */
export function withoutOldKeys(top: Mapping, report: Report): Mapping {
  if (!has(top, 'tag_mappings')) return top;
  const { tag_mappings: mappings, ...rest } = top;
  const list = Array.isArray(mappings) && mappings.length > 0 ? (mappings as unknown[]) : undefined;
  const message = 'tag_mappings are of an older KeyZero: there are no tags any more';
  if (list === undefined) report({ path: ['tag_mappings'], message, hint: 'delete it, and ask for claims in the rules' });
  for (const [index, mapping] of (list ?? []).entries()) {
    const hint = `delete it; where a rule asks for these tags, write: ${condition(mapping)}`;
    report({ path: ['tag_mappings', index], message, hint });
  }
  return rest;
}

export function withoutOldPolicyKeys(policy: Mapping, path: Path, report: Report): Mapping {
  return without(policy, ['tags', 'resource_tags'], (key) => {
    const hint = "delete it; say in the rule which refs are meant: ref.matches('github/**')";
    report({ path: [...path, key], message: `${key} of a policy are of an older KeyZero: resources have no tags any more`, hint });
  });
}

/** Undefined when there is nothing else to say about it: the new resources are not written yet. */
export function withoutOldResourceKeys(resource: Mapping, path: Path, report: Report): Mapping | undefined {
  const rest = without(resource, ['tags'], (key) => {
    const hint = "delete it; rules tell resources apart by their ref: ref.matches('github/**')";
    report({ path: [...path, key], message: 'tags of a resource are of an older KeyZero', hint });
  });
  if (!has(rest, 'resolvers')) return rest;
  const { resolvers } = rest;
  const list = Array.isArray(resolvers) && resolvers.length > 0 ? (resolvers as unknown[]) : [undefined];
  for (const [index, resolver] of list.entries()) {
    report({
      path: [...path, 'resolvers', index],
      message: `resolvers of ${nameOf('resource', rest.ref ?? rest.name, Number(path.at(-1)))} are of an older KeyZero: each is a resource now`,
      hint: `in its place, write under resources: - ${newResource(rest, resolver, list.length > 1)}`,
    });
  }
  return undefined;
}

function without(mapping: Mapping, old: readonly string[], report: (key: string) => void): Mapping {
  const found = old.filter((key) => has(mapping, key));
  found.forEach(report);
  return found.length === 0 ? mapping : Object.fromEntries(Object.entries(mapping).filter(([key]) => !found.includes(key)));
}

/** CEL, from `match: { issuer, claims }`. */
function condition(mapping: unknown): string {
  const match = isMapping(mapping) && isMapping(mapping.match) ? mapping.match : {};
  const claims = isMapping(match.claims) ? Object.entries(match.claims) : [];
  const issuer = text(match.issuer);
  const parts = [
    ...(issuer === undefined ? [] : [`issuer == ${literal(issuer)}`]),
    ...claims.flatMap(([name, value]) => {
      const written = text(value);
      if (written === undefined || !quotable(name)) return [];
      return [/^[A-Za-z_]\w*$/.test(name) ? `claims.${name} == ${literal(written)}` : `claims[${literal(name)}] == ${literal(written)}`];
    }),
  ];
  return parts.length === 0 ? "claims.repository == 'acme/app'" : parts.join(' && ');
}

function newResource(resource: Mapping, value: unknown, isOneOfMany: boolean): string {
  const resolver = isMapping(value) ? value : {};
  const base = text(resource.ref) ?? text(resource.name) ?? 'NAME';
  const own = text(resolver.name);
  const from = text(resolver.path) ?? text(resolver.secret_id);
  const field = text(resolver.field);
  const mode = text(resolver.mode) ?? 'masked';
  const location = text(resolver.credential_location);
  const keys: (readonly [string, string | undefined])[] = [
    ['ref', isOneOfMany && own !== undefined ? `${base}/${own}` : base],
    ['resolver', text(resolver.backend) ?? 'BACKEND'],
    ['from', from],
    ['field', field],
    ['mode', mode === 'masked' ? undefined : mode],
    ['credential_location', location],
  ];
  const written = keys.flatMap(([key, word]) => (word === undefined ? [] : [`${key}: ${scalar(word)}`]));
  return `{ ${[...written, 'hosts: [api.example.com]', 'methods: [GET]'].join(', ')} }`;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && quotable(value) ? value : undefined;
}

function literal(value: string): string {
  return `'${value.replace(/[\\']/g, '\\$&')}'`;
}

function scalar(value: string): string {
  return /^[A-Za-z][\w/.-]*$/.test(value) ? value : JSON.stringify(value);
}
