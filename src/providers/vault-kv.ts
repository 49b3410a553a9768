// Writing one field of a kv secret, so that the others stay: version 2 says which version it replaces, and is asked again when somebody
// else was faster. Version 1 knows no such thing: of two who write at once, one loses.
import { KzError } from '../core/errors.ts';
import { isRecord } from '../core/record.ts';
import { at } from './ask-json.ts';
import type { Ref } from './provider.ts';
import { askFor, denied, problemOf, readError, type Fields } from './vault-document.ts';
import type { Place, VaultMounts } from './vault-mounts.ts';
import { encodePath, parseVaultRef } from './vault-ref.ts';
import type { VaultAnswer } from './vault-server.ts';
import type { VaultSession } from './vault-session.ts';

const ATTEMPTS = 20;

export interface FieldPlace {
  readonly place: Place;
  readonly field: string;
}

/** Throws `ref-invalid` for what names no field of the newest version, `provider-read-only` for what is no kv. */
export async function locateField(ref: Ref, mounts: VaultMounts, server: { who: string }, signal: AbortSignal): Promise<FieldPlace> {
  const { path, field } = writableRef(ref);
  const place = await mounts.find({ path }, signal);
  const { prefix, engine } = place.mount;
  if (engine === 'kv1' || engine === 'kv2') return { place, field };
  const quoted = JSON.stringify(place.label);
  if (engine === 'other')
    throw new KzError('provider-read-only', `${quoted} in ${server.who} is no kv secret: its engine makes the values`);
  throw new KzError(
    'provider-denied',
    `${server.who} does not say what is mounted at ${JSON.stringify(prefix)}, so kz writes nothing to ${quoted}`,
    {
      hint: `the policy has to allow something below it; run \`vault secrets list\``,
    },
  );
}

/** Throws `ref-invalid`. */
export function writableRef(ref: Ref): { path: string; field: string } {
  const { path, field, version } = parseVaultRef(ref);
  const quoted = JSON.stringify(ref.text);
  if (field === undefined) {
    throw new KzError('ref-invalid', `vault ref ${quoted} names no field to write`, { hint: `name a field: \`${ref.text}#value\`` });
  }
  if (version !== undefined) {
    throw new KzError('ref-invalid', `vault ref ${quoted} names a version, and only the newest can be written`, {
      hint: 'leave out `?version=`',
    });
  }
  return { path, field };
}

/** Gives the new fields, or undefined to leave all as it is. */
type Change = (fields: Fields) => Fields | undefined;

/** False when `change` wanted nothing. A secret without fields is deleted; version 2 keeps its older versions. */
export async function changeFields(place: Place, change: Change, session: VaultSession, signal: AbortSignal): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    const { fields, version } = await readFields(place, session, signal);
    const changed = change(fields);
    if (changed === undefined) return false;
    const answer = await session.ask({ ...writeRequest(place, changed, version), path: encodePath(place.path) }, signal);
    if (answer.status < 300) return true;
    if (!isOutrun(answer)) throw writeError(answer, place, session);
    if (attempt === ATTEMPTS)
      throw new KzError('provider-failed', `${JSON.stringify(place.label)} in ${session.server.who} changes all the time`);
  }
}

async function readFields(place: Place, session: VaultSession, signal: AbortSignal): Promise<{ fields: Fields; version: number }> {
  const answer = await askFor(place, session, signal);
  const isVersioned = place.mount.engine === 'kv2';
  const version = isVersioned ? at(answer.body, 'data', 'metadata', 'version') : 0;
  if (answer.status === 404 && answer.errors === '') return { fields: {}, version: typeof version === 'number' ? version : 0 };
  if (answer.status === 403) throw denied(place, session, 'write');
  const fields = isVersioned ? at(answer.body, 'data', 'data') : at(answer.body, 'data');
  if (answer.status !== 200 || !isRecord(fields) || typeof version !== 'number') throw readError(answer, place, session);
  const problem = problemOf(fields);
  if (problem !== undefined) throw new KzError('secret-invalid', `${JSON.stringify(place.label)} in ${session.server.who} ${problem}`);
  return { fields, version };
}

function writeRequest({ mount }: Place, fields: Fields, version: number): { method: 'POST' | 'DELETE'; body?: unknown } {
  if (Object.keys(fields).length === 0) return { method: 'DELETE' };
  return { method: 'POST', body: mount.engine === 'kv2' ? { data: fields, options: { cas: version } } : fields };
}

function isOutrun({ status, errors }: VaultAnswer): boolean {
  return status === 400 && errors.includes('check-and-set parameter did not match');
}

function writeError({ status }: VaultAnswer, place: Place, session: VaultSession): KzError {
  if (status === 403) return denied(place, session, 'write');
  return new KzError('provider-failed', `${session.server.who} answered ${String(status)} when ${JSON.stringify(place.label)} was written`);
}
