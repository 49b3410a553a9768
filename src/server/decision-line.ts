// A line of the decision log in the making: what is known is filled in as the call goes on, and it is written at its end.
import { decisionId } from '../audit/decision-log.ts';
import type { Decision } from '../audit/decision.ts';
import type { ServerFailure } from './failure.ts';
import type { Caller } from './identity/verify.ts';

export type Facts = { -readonly [Key in keyof Decision]: Decision[Key] };

/** Of a call that has not begun. */
export const NOTHING_KNOWN: Omit<Decision, 'time' | 'id' | 'face'> = {
  ...({ type: 'decision', outcome: 'failed', ms: 0 } as const),
  ...{ tool: null, issuer: null, iss: null, sub: null, jti: null, ref: null, resolver: null, mode: null },
  ...{ host: null, method: null, path: null, policy: null, why: null, code: null, status: null },
};

export class Line {
  readonly facts: Facts;
  readonly #startedAt: number;

  /** `startedAt`: of `performance.now()`. */
  constructor(known: Partial<Facts> & Pick<Facts, 'face'>, startedAt = performance.now()) {
    this.#startedAt = startedAt;
    const time = new Date(Date.now() - (performance.now() - startedAt)).toISOString();
    this.facts = { ...NOTHING_KNOWN, time, id: decisionId(), ...known };
  }

  set(known: Partial<Facts>): void {
    Object.assign(this.facts, known);
  }

  end(outcome: Decision['outcome'], code: string | null = null): void {
    this.set({ outcome, code, ms: Math.round((performance.now() - this.#startedAt) * 100) / 100 });
  }

  /** Who goes away was not refused. */
  fail({ code, status }: ServerFailure): void {
    this.end(status < 500 && code !== 'cancelled' ? 'denied' : 'failed', code);
  }
}

export function whoIs({ issuer, iss, sub, id: jti }: Caller): Pick<Decision, 'issuer' | 'iss' | 'sub' | 'jti'> {
  return { issuer, iss, sub, jti };
}
