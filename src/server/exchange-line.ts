// A request through the proxy as a line of the decision log: requests in which no token was used, and those that were refused before one was.
import { decisionId } from '../audit/decision-log.ts';
import type { Decision } from '../audit/decision.ts';
import type { Exchange, Refused } from '../audit/event.ts';
import type { Caller } from './verify.ts';

interface About {
  readonly caller: Caller | undefined;
  readonly code: string | undefined;
}

export function exchangeLine(event: Exchange | Refused, { caller, code }: About): Decision {
  const common = { ...lineOf(caller), time: event.time, id: decisionId() };
  if (event.type === 'refused') {
    const { host, why } = event;
    return { ...common, host, why, outcome: 'denied', code: code ?? why };
  }
  const { host, method, path, why, status, ms, error } = event;
  return { ...common, host, method, path, why, outcome: outcomeOf(event), code: code ?? error, status, ms };
}

function outcomeOf({ decision, error }: Exchange): Decision['outcome'] {
  if (decision === 'blocked') return 'denied';
  return error === null ? 'allowed' : 'failed';
}

function lineOf(caller: Caller | undefined): Omit<Decision, 'time' | 'id' | 'outcome' | 'code'> {
  const who = caller === undefined ? NOBODY : { issuer: caller.issuer, iss: caller.iss, sub: caller.sub, jti: caller.id };
  return { type: 'decision', face: 'proxy', tool: 'proxy', ...who, ...NOTHING };
}

const NOBODY = { issuer: null, iss: null, sub: null, jti: null };
const NOTHING = {
  ref: null,
  resolver: null,
  mode: null,
  policy: null,
  host: null,
  method: null,
  path: null,
  why: null,
  status: null,
  ms: 0,
};
