// Many values in few requests: lists where AWS takes lists, one by one what a list could not tell, all of it in parallel.
import { KzError } from '../core/errors.ts';
import { faultOf } from './aws-errors.ts';
import { sourceOf, type AwsRef } from './aws-ref.ts';
import { batches, wide } from './wide.ts';

/** What one secret or parameter holds. */
export interface Stored {
  readonly text?: string | undefined;
  /** Instead of a text. */
  readonly bytes?: Uint8Array | undefined;
  readonly version?: string | undefined;
}

/** By `sourceOf` of the ref. */
export type Found = Map<string, Stored | KzError>;

export interface Asking<T extends AwsRef> {
  readonly batchSize: number;
  /** May it be asked for together with others of its region? */
  readonly isForBatch: (ref: T) => boolean;
  /** Of one region. What it leaves out is asked for alone. */
  readonly askMany: (refs: readonly T[]) => Promise<Found>;
  readonly askOne: (ref: T) => Promise<Stored>;
}

/** The refs differ in `sourceOf`. A KzError is an answer; throws nothing else than what is no KzError. */
export async function readAll<T extends AwsRef>(refs: readonly T[], asking: Asking<T>): Promise<Found> {
  const found: Found = new Map();
  const one = async (ref: T): Promise<void> => {
    found.set(sourceOf(ref), await asking.askOne(ref).catch(asAnswer));
  };
  const regions = [...new Set(refs.map(({ region }) => region))];
  const together = regions.flatMap((region) => {
    const list = refs.filter((ref) => ref.region === region && asking.isForBatch(ref));
    return batches(list, asking.batchSize).filter(({ length }) => length > 1);
  });
  const inBatches = new Set(together.flat());
  const many = async (list: readonly T[]): Promise<void> => {
    const answer = await asking.askMany(list).catch(asAnswer);
    if (answer instanceof Map) for (const [source, stored] of answer) found.set(source, stored);
    else if (!concernsOne(answer)) for (const ref of list) found.set(sourceOf(ref), answer);
  };
  const alone = refs.filter((ref) => !inBatches.has(ref));
  await Promise.all([wide(together, many), wide(alone, one)]);
  const leftOut = refs.filter((ref) => !found.has(sourceOf(ref)));
  await wide(leftOut, one);
  return found;
}

/** A list is refused as a whole for one of its items, or because lists need a permission of their own. */
function concernsOne({ code, cause }: KzError): boolean {
  if (code === 'provider-denied' || code === 'ref-invalid' || code === 'secret-missing') return true;
  return code === 'provider-failed' && (faultOf(cause).status ?? 500) < 500;
}

function asAnswer(error: unknown): KzError {
  if (error instanceof KzError) return error;
  throw error;
}
