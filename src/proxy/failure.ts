// From whatever was thrown on the way to the upstream to what the child is told.
import { systemCode } from '../core/errors.ts';
import type { CodingError } from './coding.ts';
import { DialError } from './dial.ts';
import type { Exchange } from './exchange.ts';
import { malformedBody, notDialled, upstreamFailed, type Refusal } from './refusal.ts';

/** What the child sends is not in the coding that it names. */
export class BadUpload extends Error {
  constructor(cause: CodingError) {
    super(cause.message, { cause });
  }
}

/** Only codes are repeated: a message could quote what was sent. */
export function refusalOf(error: unknown, exchange: Exchange): Refusal {
  if (error instanceof DialError) return notDialled(error, exchange);
  if (error instanceof BadUpload) return malformedBody(error.message);
  return upstreamFailed(systemCode(error) ?? 'unknown error', exchange);
}
