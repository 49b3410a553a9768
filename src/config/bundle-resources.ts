// `resources`: what may be asked for, where its value may go, and how long what stands for it lives.
import { parseDuration } from '../core/duration.ts';
import { suggest } from '../core/suggest.ts';
import type { ResourceEntry } from './bundle.ts';
import { defined, has, named, nameOf, quotable, readKeys, type Found, type Mapping, type Reading, type Report } from './bundle-keys.ts';
import { DEFAULT_LOCATION, parseLocation } from './bundle-location.ts';
import { covers, parseCheck, RESOURCE_KEYS } from './bundle-schema.ts';
import type { Path } from './bundle-yaml.ts';

type FoundResource = Found<typeof RESOURCE_KEYS>;

const MINUTE_MS = 60_000;
const DEFAULT_TTL_MS = { masked: 15 * MINUTE_MS, direct: 15 * MINUTE_MS, short_lived: 5 * MINUTE_MS } as const;
/** What is handed out works until then, whatever happens to whoever asked for it. */
const LONGEST_TTL_MS = 60 * MINUTE_MS;

const MISSING = {
  hosts: 'add `hosts: [api.example.com]`: the only hosts that its value may be sent to (or `mode: direct`, which hands the value out)',
  methods: 'add `methods: [GET]`: the only methods that its value may be sent with (or `mode: direct`, which hands the value out)',
} as const;

/** Undefined when it is wrong, after reporting everything that is. */
export function readResource(mapping: Mapping, path: Path, { report, place }: Reading): ResourceEntry | undefined {
  const what = nameOf('resource', mapping.ref, Number(path.at(-1)));
  const found = readKeys(
    RESOURCE_KEYS,
    mapping,
    { path, what, additions: { resolver: 'add `resolver: …`: the name of a backend' } },
    report,
  );
  checkReach(mapping, { path, what }, report);
  const check = readCheck(found, mapping, path, report);
  checkFrom(found, path, report);
  const ttlMs = ttlOf(found, path, report);
  const { ref, resolver, mode = 'masked', from, field, paths, description } = found;
  if (ref === undefined || resolver === undefined || isAddress(ref, path, report)) return undefined;
  const location = found.credential_location === undefined ? DEFAULT_LOCATION : parseLocation(found.credential_location);
  return {
    ...{ ref, resolver, mode, ttlMs, location: 'problem' in location ? DEFAULT_LOCATION : location },
    ...{ hosts: found.hosts ?? [], methods: found.methods ?? [] },
    ...defined({ from, field, paths, description, check }),
    at: place(path),
    places: {
      ref: place([...path, 'ref']),
      hosts: (found.hosts ?? []).map((_, index) => place([...path, 'hosts', index])),
      paths: (paths ?? []).map((_, index) => place([...path, 'paths', index])),
      check: place([...path, 'check']),
    },
  };
}

/** What the backend calls it, in the place of its name. */
function isAddress(ref: string, path: Path, report: Report): boolean {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(ref)) return false;
  const message = `${named('ref', ref)} is an address: a ref is the name that callers use`;
  report({ path: [...path, 'ref'], message, hint: `write a name, and \`from: ${quotable(ref) ? JSON.stringify(ref) : '…'}\` beside it` });
  return true;
}

/** More than these are not looked through for what was meant. */
const MOST_NAMES = 50;

export function checkResolver(mapping: Mapping, path: Path, backends: ReadonlySet<string>, report: Report): void {
  const { resolver } = mapping;
  if (typeof resolver !== 'string' || resolver === '' || backends.has(resolver)) return;
  const names = [...backends].slice(0, MOST_NAMES);
  const near = suggest(resolver.slice(0, 60), names);
  const known = backends.size === 0 ? 'there are none: add `backends:`' : `backends: ${names.join(', ')}`;
  report({
    path: [...path, 'resolver'],
    message: `${named('resolver', resolver)} is not the name of a backend`,
    hint: near === undefined ? known : `did you mean ${JSON.stringify(near)}?`,
  });
}

function checkReach(mapping: Mapping, { path, what }: { path: Path; what: string }, report: Report): void {
  const keys = ['hosts', 'methods'] as const;
  const isNeeded = mapping.mode !== 'direct' || [...keys, 'paths'].some((key) => has(mapping, key));
  for (const key of keys) if (isNeeded && !has(mapping, key)) report({ path, message: `${what} has no ${key}`, hint: MISSING[key] });
}

/** It is sent as `fetch` would send it. A list with a mistake in it says too little. Undefined when nothing more can be said of it. */
function readCheck({ check, hosts, methods }: FoundResource, mapping: Mapping, path: Path, report: Report): ResourceEntry['check'] {
  const request = check === undefined ? undefined : parseCheck(check);
  if (request === undefined) return undefined;
  const isNamed = methods?.includes(request.method) === true;
  if (methods !== undefined && !isNamed) {
    const hint = `add ${request.method} to methods`;
    report({ path: [...path, 'check'], message: `check uses ${request.method}, which methods does not name`, hint });
  }
  if (has(mapping, 'hosts') && hosts === undefined) return undefined;
  if (hosts?.some((pattern) => covers(pattern, request.url)) === true) return isNamed ? request : undefined;
  const { host } = new URL(request.url);
  report({
    path: [...path, 'check'],
    message: `check goes to ${host}, which hosts does not cover`,
    hint: `add ${JSON.stringify(host)} to hosts`,
  });
  return undefined;
}

/** `{1}` is what the first star matched. */
function checkFrom({ from, ref }: FoundResource, path: Path, report: Report): void {
  if (from === undefined) return;
  const stars = ref?.match(/\*+/g)?.length ?? 0;
  const wrong = from.match(/\{[^{}]*\}?|\}/g)?.find((part) => part !== '{ref}' && !isStar(part, ref === undefined ? 9 : stars));
  if (wrong === undefined) return;
  const choices = ['{ref}', ...Array.from({ length: Math.min(stars, 3) }, (_, index) => `{${String(index + 1)}}`)];
  const number = /^\{[1-9]\}$/.test(wrong);
  report({
    path: [...path, 'from'],
    message: number
      ? `from has ${wrong}, and ref has ${stars === 0 ? 'no star' : `only ${String(stars)}`}`
      : `from has ${quotable(wrong) ? wrong : 'a brace'}, which stands for nothing`,
    hint: `what may stand in braces: ${choices.join(', ')}`,
  });
}

function isStar(part: string, stars: number): boolean {
  const [, digit] = /^\{([1-9])\}$/.exec(part) ?? [];
  return digit !== undefined && Number(digit) <= stars;
}

function ttlOf({ ttl, mode = 'masked' }: FoundResource, path: Path, report: Report): number {
  if (ttl === undefined) return DEFAULT_TTL_MS[mode];
  const ms = typeof ttl === 'number' ? ttl * 1000 : (parseDuration(ttl) ?? 0);
  if (mode !== 'direct' && ms > LONGEST_TTL_MS) report({ path: [...path, 'ttl'], message: `${named('ttl', ttl)} is longer than 1h` });
  if (ms > 0 && ms < 1000) report({ path: [...path, 'ttl'], message: `${named('ttl', ttl)} is shorter than 1s` });
  return ms;
}
