// `issuers`: whose tokens are believed, and with which keys. Where a key could stand for two things, it is refused.
import type { IssuerEntry, StaticKey } from './bundle.ts';
import { defined, has, isMapping, named, nameOf, readKeys } from './bundle-keys.ts';
import type { BundleProblem, Found, Mapping, Reading, Report } from './bundle-keys.ts';
import { HMAC_ALGORITHMS, ISSUER_KEYS, MAP_KEYS, STATIC_KEY_KEYS } from './bundle-schema.ts';
import type { Path } from './bundle-yaml.ts';
import { parseDuration } from '../core/duration.ts';

type FoundIssuer = Found<typeof ISSUER_KEYS>;
type FoundKey = Found<typeof STATIC_KEY_KEYS>;

const AUDIENCE = 'add `audience: …`: the word that its tokens carry in aud for this server (`audience: any` takes every token)';

/** Undefined when it is wrong, after reporting everything that is. */
export function readIssuer(mapping: Mapping, path: Path, reading: Reading): IssuerEntry | undefined {
  const what = nameOf('issuer', mapping.name, Number(path.at(-1)));
  const found = readKeys(ISSUER_KEYS, mapping, { path, what, additions: { audience: AUDIENCE } }, reading.report);
  checkSources(mapping, { path, what }, reading.report);
  const algorithms = readAlgorithms(found, mapping, path, reading.report);
  const audience = audienceOf(found.audience, [...path, 'audience'], reading.report);
  const staticKeys = (found.static_keys ?? []).map((key, index) => readStaticKey(key, [...path, 'static_keys', index], reading));
  checkKids(found.static_keys ?? [], path, reading.report);
  const map = readMap(found.map, [...path, 'map'], reading.report);
  const { name, issuer_url: issuerUrl, type } = found;
  if (name === undefined || issuerUrl === undefined || type === undefined) return undefined;
  const known = staticKeys.filter((key) => key !== undefined);
  // What is left has been told of, and whoever opens it must not tell it again in other words.
  const isWhole = known.length === staticKeys.length;
  if (!isWhole && known.length === 0) return undefined;
  return {
    ...{ name, issuerUrl, type, audience, map },
    ...defined({
      jwksUrl: found.jwks_url,
      jwksFile: absoluteOf(found.jwks_file, reading),
      jwksFileAt: found.jwks_file === undefined ? undefined : reading.place([...path, 'jwks_file']),
      ca: absoluteOf(found.ca, reading),
      tokenFile: absoluteOf(found.token_file, reading),
      algorithms: isWhole ? algorithms : undefined,
      maxAgeMs: found.max_age === undefined ? undefined : parseDuration(found.max_age),
    }),
    staticKeys: known,
    at: reading.place(path),
  };
}

function absoluteOf(path: string | undefined, { absolute }: Reading): string | undefined {
  return path === undefined ? undefined : absolute(path);
}

function audienceOf(written: FoundIssuer['audience'], path: Path, report: Report): readonly string[] {
  if (written === undefined || written === 'any') return [];
  const audience = typeof written === 'string' ? [written] : written;
  const any = audience.indexOf('any');
  if (any !== -1) report({ path: [...path, any], message: 'any is no word for a list', hint: 'write `audience: any`, or the words alone' });
  return audience;
}

function checkSources(mapping: Mapping, { path, what }: { path: Path; what: string }, report: Report): void {
  const isStatic = has(mapping, 'static_keys');
  if (has(mapping, 'jwks_url') && has(mapping, 'jwks_file')) {
    report({ path: [...path, 'jwks_file'], message: `${what} has jwks_url and jwks_file`, hint: 'keep one of them' });
  }
  const asksNobody = !has(mapping, 'jwks_url') && (isStatic || has(mapping, 'jwks_file'));
  for (const key of ['ca', 'token_file'].filter((key) => asksNobody && has(mapping, key))) {
    report({ path: [...path, key], message: `${what} has no use for ${key}: its keys are not asked for over the network` });
  }
}

/** What is published to prove a signature must never be what it is made with. Undefined: all of them, or one of those that are written is wrong. */
function readAlgorithms({ algorithms }: FoundIssuer, mapping: Mapping, path: Path, report: Report): IssuerEntry['algorithms'] {
  const isStaticOnly = has(mapping, 'static_keys') && !has(mapping, 'jwks_url') && !has(mapping, 'jwks_file');
  if (isStaticOnly || algorithms === undefined) return algorithms;
  for (const [index, algorithm] of algorithms.entries()) {
    if (!isHmac(algorithm)) continue;
    const hint = 'name it in static_keys, in an issuer without a JWKS';
    report({ path: [...path, 'algorithms', index], message: `${algorithm} cannot be used with published keys`, hint });
  }
  return algorithms.some(isHmac) ? undefined : algorithms;
}

function isHmac(algorithm: string): boolean {
  return HMAC_ALGORITHMS.some((name) => name === algorithm);
}

/** Undefined when it is wrong, after reporting everything that is. */
function readStaticKey(value: unknown, path: Path, reading: Reading): StaticKey | undefined {
  const problems: BundleProblem[] = [];
  const report: Report = (problem) => {
    problems.push(problem);
    reading.report(problem);
  };
  const what = `static key number ${String(Number(path.at(-1)) + 1)}`;
  if (!isMapping(value)) {
    report({ path, message: `${what} is not a mapping`, hint: 'write { kid: …, alg: RS256, pem_file: … }' });
    return undefined;
  }
  const found = readKeys(STATIC_KEY_KEYS, value, { path, what }, report);
  const sources = ['pem', 'pem_file', 'secret_env'].filter((key) => has(value, key));
  if (sources.length === 0) report({ path, message: `${what} has no key`, hint: missingKey(found.alg) });
  if (sources.length > 1) report({ path, message: `${what} has ${sources.join(' and ')}`, hint: 'keep one of them' });
  checkMaterial(found, path, report);
  if (found.alg === undefined || problems.length > 0) return undefined;
  const { kid, alg, pem, secret_env: secretEnv } = found;
  return { alg, ...defined({ kid, pem, secretEnv, pemFile: absoluteOf(found.pem_file, reading) }), at: reading.place(path) };
}

function missingKey(alg: string | undefined): string {
  return alg !== undefined && isHmac(alg)
    ? 'add `secret_env: NAME`: the variable that holds it'
    : 'add `pem_file: ./key.pem`, or `pem: |` and the public key';
}

function checkMaterial({ alg, pem, secret_env: variable }: FoundKey, path: Path, report: Report): void {
  if (alg === undefined) return;
  const isPem = pem?.trimStart().startsWith('-----BEGIN ') === true;
  if (!isHmac(alg)) {
    if (variable !== undefined)
      report({ path: [...path, 'secret_env'], message: `${alg} has no shared secret`, hint: 'write pem or pem_file' });
    if (pem === undefined) return;
    if (!isPem) report({ path: [...path, 'pem'], message: 'pem does not start with -----BEGIN' });
    if (/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/.test(pem)) {
      report({
        path: [...path, 'pem'],
        message: 'pem holds a private key: the public one is enough',
        hint: 'that key is known now: make a new one',
      });
    }
    return;
  }
  // Whoever knows the public key could sign: the oldest attack there is on JWTs.
  if (isPem) report({ path: [...path, 'pem'], message: `${alg} needs a shared secret, and pem holds a key pair’s`, hint: missingKey(alg) });
}

function checkKids(keys: readonly unknown[], path: Path, report: Report): void {
  const seen = new Set<string>();
  for (const [index, key] of keys.entries()) {
    const kid = isMapping(key) ? key.kid : undefined;
    if (typeof kid !== 'string') continue;
    if (seen.has(kid)) report({ path: [...path, 'static_keys', index], message: `${named('kid', kid)} is here twice` });
    seen.add(kid);
  }
}

function readMap(value: unknown, path: Path, report: Report): ReadonlyMap<string, readonly string[]> {
  if (value === undefined) return new Map();
  if (!isMapping(value)) {
    report({ path, message: 'map is not a mapping', hint: 'write `map: { org: claims.tenant_id }`' });
    return new Map();
  }
  const found = readKeys(MAP_KEYS, value, { path, what: 'map' }, report);
  return new Map(Object.entries(found).flatMap(([field, keys]) => (keys === undefined ? [] : [[field, claimKeys(keys)] as const])));
}

function claimKeys(written: string | readonly string[]): readonly string[] {
  return typeof written === 'string' ? written.replace(/^claims\./, '').split('.') : written;
}
