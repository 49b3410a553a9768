// From whatever was thrown on the way to the upstream to what the child is told.
import { systemCode } from '../core/errors.ts';
import { DialError } from './dial.ts';
import type { Exchange } from './exchange.ts';
import { notDialled, upstreamFailed, type Refusal } from './refusal.ts';

/** Only codes are repeated: a message could quote what was sent. */
export function refusalOf(error: unknown, exchange: Exchange): Refusal {
  if (error instanceof DialError) return notDialled(error, exchange);
  return upstreamFailed(systemCode(error) ?? 'unknown error', exchange);
}
