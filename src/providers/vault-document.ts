// What is at one path of Vault: the fields of a kv secret, or of credentials that an engine has just made. Reading from most engines makes
// something, so nothing is read twice.
import { KzError } from '../core/errors.ts';
import { isRecord } from '../core/record.ts';
import { suggest } from '../core/suggest.ts';
import { at } from './ask-json.ts';
import { selectKey } from './document.ts';
import type { Lease } from './provider.ts';
import { placeIn, type Place } from './vault-mounts.ts';
import { encodePath } from './vault-ref.ts';
import type { VaultAnswer } from './vault-server.ts';
import type { VaultSession } from './vault-session.ts';
import { joinWords } from './words.ts';

export type Fields = Readonly<Record<string, unknown>>;

export interface VaultDocument {
  readonly place: Place;
  readonly fields: Fields;
  readonly lease?: Lease | undefined;
  /** Of kv version 2. */
  readonly version?: string | undefined;
}

/** Throws an error for this path, in the words of the place. */
export async function readDocument(place: Place, session: VaultSession, signal: AbortSignal): Promise<VaultDocument> {
  const askedAt = Date.now();
  const answer = await askFor(place, session, signal);
  if (answer.status === 404 && place.mount.engine === 'hidden' && saysVersioned(answer)) {
    const { label, version } = place;
    return readDocument(placeIn({ ...place.mount, engine: 'kv2' }, { path: label, version }), session, signal);
  }
  if (answer.status !== 200) throw readError(answer, place, session);
  const data = at(answer.body, 'data');
  const versioned = versionedFields(place, data);
  if (versioned !== undefined) return { place, ...versioned };
  if (place.version !== undefined) throw new KzError('ref-invalid', `${JSON.stringify(place.label)} has no versions`);
  if (!isRecord(data)) throw missing(place, session);
  refuseLogin(data, place, session);
  return { place, fields: data, lease: leaseOf(answer.body, askedAt, session) };
}

/** The whole secret as JSON without a field. Throws `secret-missing` with the nearest field, `secret-invalid` for what cannot be kept exact. */
export function fieldText({ place, fields }: VaultDocument, field: string | undefined, who: string): string {
  const problem = problemOf(field !== undefined && Object.hasOwn(fields, field) ? fields[field] : fields);
  if (problem !== undefined) throw new KzError('secret-invalid', `${JSON.stringify(place.label)} in ${who} ${problem}`);
  if (field === undefined) return JSON.stringify(fields);
  const text = selectKey(new Map(Object.entries(fields)), field);
  if (text !== undefined) return text;
  const near = suggest(field, Object.keys(fields));
  const message = `${JSON.stringify(place.label)} in ${who} has no field ${JSON.stringify(field)}`;
  const hint =
    near === undefined
      ? `to see its fields, run \`${joinWords(['vault', 'kv', 'get', place.label])}\``
      : `did you mean ${JSON.stringify(near)}?`;
  throw new KzError('secret-missing', message, { hint });
}

/** A path may start with a namespace (`team/auth/token/lookup-self`), so that Vault's own paths do not show by how they begin. */
function refuseLogin(fields: Fields, { label, mount }: Place, session: VaultSession): void {
  const isKv = mount.engine === 'kv1' || mount.engine === 'kv2';
  if (isKv || !Object.values(fields).some((value) => session.isLogin(value))) return;
  throw new KzError('ref-invalid', `${JSON.stringify(label)} in ${session.server.who} holds the token that kz is logged in with`);
}

export function askFor({ path, version, mount }: Place, session: VaultSession, signal: AbortSignal): Promise<VaultAnswer> {
  const query = version === undefined ? '' : `?version=${String(version)}`;
  // An engine makes a credential for each request.
  const isKv = mount.engine === 'kv1' || mount.engine === 'kv2';
  return session.ask({ path: `${encodePath(path)}${query}`, mayRepeat: isKv }, signal);
}

export function readError({ status, errors, body }: VaultAnswer, place: Place, session: VaultSession): KzError {
  const { who, namespaceHint } = session.server;
  const quoted = JSON.stringify(place.label);
  if (errors.includes('no handler for route')) {
    return new KzError('ref-invalid', `${who} has no secrets engine at ${quoted}`, {
      hint: `run \`vault secrets list\`; ${namespaceHint}`,
    });
  }
  switch (status) {
    case 403:
      return denied(place, session, 'read');
    case 404:
      if (errors !== '' || !isVaults(body)) return failed(status, place, session);
      return gone(place, at(body, 'data', 'metadata'), session) ?? missing(place, session);
    case 405:
      return new KzError('ref-invalid', `${quoted} in ${who} is nothing that can be read`, {
        hint: 'kz reads with GET; what takes POST it does not',
      });
    default:
      return failed(status, place, session);
  }
}

function failed(status: number, { label, path }: Place, { server }: VaultSession): KzError {
  const hint = `to see why, run \`${joinWords(['vault', 'read', path])}\``;
  return new KzError('provider-failed', `${server.who} answered ${String(status)} for ${JSON.stringify(label)}`, { hint });
}

/** Also a proxy and any web server answer 404, and an optional secret must not be absent because of that. */
function isVaults(body: unknown): boolean {
  return Array.isArray(at(body, 'errors')) || (isRecord(body) && Object.hasOwn(body, 'data'));
}

export function denied({ label, path, mount }: Place, session: VaultSession, doing: 'read' | 'write'): KzError {
  const { who, namespaceHint, namespace } = session.server;
  const wanted = doing === 'read' ? '`read`' : '`create`, `read` and `update`';
  const data = mount.engine === 'hidden' ? ' (for kv version 2 with `data/` after the mount)' : '';
  const where = namespace === undefined ? '' : `; ${namespaceHint}`;
  const verb = doing === 'read' ? 'reading' : 'writing';
  return new KzError('provider-denied', `${who} denies ${verb} ${JSON.stringify(label)}`, {
    hint: `the policy needs ${wanted} on ${JSON.stringify(path)}${data}${where}`,
  });
}

/** Version 2 keeps what it knows of a version that it does not give any more. */
function gone({ label, version }: Place, metadata: unknown, { server }: VaultSession): KzError | undefined {
  if (!isRecord(metadata)) return undefined;
  const number = String(version ?? metadata.version);
  const which = `version ${number} of ${JSON.stringify(label)} in ${server.who}`;
  if (metadata.destroyed === true)
    return new KzError('secret-missing', `${which} was destroyed`, { hint: 'it cannot come back: write it again' });
  return new KzError('secret-missing', `${which} was deleted`, {
    hint: `run \`${joinWords(['vault', 'kv', 'undelete', `-versions=${number}`, label])}\``,
  });
}

function missing(place: Place, { server }: VaultSession): KzError {
  const { label, version } = place;
  const what = version === undefined ? JSON.stringify(label) : `version ${String(version)} of ${JSON.stringify(label)}`;
  return new KzError('secret-missing', `${what} is not in ${server.who}`, { hint: howToLook(place) });
}

/** Starts with `if` where it may also be that nobody has stored it yet. */
function howToLook({ label, version, mount, path }: Place): string {
  const { prefix, engine } = mount;
  if (engine === 'kv1' && path.startsWith(`${prefix}/data/`))
    return `${JSON.stringify(prefix)} is kv version 1, whose paths have no \`data/\``;
  if (version !== undefined) return `to see its versions, run \`${joinWords(['vault', 'kv', 'metadata', 'get', label])}\``;
  const folder = label.slice(0, label.lastIndexOf('/'));
  if (engine !== 'kv1' && engine !== 'kv2') return `to see what is there, run \`${joinWords(['vault', 'list', folder])}\``;
  return `if it should be there, run \`${joinWords(['vault', 'kv', 'list', folder])}\``;
}

function saysVersioned({ body }: VaultAnswer): boolean {
  const warnings = at(body, 'warnings');
  return Array.isArray(warnings) && warnings.some((warning) => /versioned k\/v/i.test(String(warning)));
}

/** Undefined when this is not an answer of kv version 2. */
function versionedFields({ mount, path }: Place, data: unknown): { fields: Fields; version: string } | undefined {
  const mayBe = mount.engine === 'kv2' || (mount.engine === 'hidden' && path.includes('/data/'));
  const [fields, version] = [at(data, 'data'), at(data, 'metadata', 'version')];
  if (!mayBe || !isRecord(fields) || typeof version !== 'number') return undefined;
  return { fields, version: String(version) };
}

/** Version 1 of kv gives a duration, and no lease. */
function leaseOf(body: unknown, askedAt: number, session: VaultSession): Lease | undefined {
  const [id, duration] = [at(body, 'lease_id'), at(body, 'lease_duration')];
  if (typeof id !== 'string' || id === '') return undefined;
  session.issued(id);
  if (typeof duration !== 'number' || duration <= 0) return undefined;
  const durationMs = duration * 1000;
  return { id, expiresAt: askedAt + durationMs, durationMs, renewable: at(body, 'renewable') === true };
}

const MAX_DEPTH = 100;

/** Level by level, without recursion: what is nested deeply enough would end the process. */
export function problemOf(value: unknown): string | undefined {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return 'is nested too deeply';
    if (level.some((each) => typeof each === 'number' && (Number.isInteger(each) ? !Number.isSafeInteger(each) : !Number.isFinite(each)))) {
      return 'has a number with more digits than kz can keep: store it as text';
    }
    level = level.flatMap((each) => (typeof each === 'object' && each !== null ? (Object.values(each) as unknown[]) : []));
  }
  return undefined;
}
