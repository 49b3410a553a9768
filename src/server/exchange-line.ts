// A request through the proxy as a line of the decision log: requests in which no token was used, and those that were refused before one was.
import { decisionId } from '../audit/decision-log.ts';
import type { Decision } from '../audit/decision.ts';
import type { Exchange, Refused } from '../audit/event.ts';
import { NOTHING_KNOWN, whoIs } from './decision-line.ts';
import type { Caller } from './identity/verify.ts';

interface About {
  readonly caller: Caller | undefined;
  readonly code: string | undefined;
}

export function exchangeLine(event: Exchange | Refused, { caller, code }: About): Decision {
  const common = { ...lineOf(caller), time: event.time };
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

function lineOf(caller: Caller | undefined): Decision {
  const who = caller === undefined ? {} : whoIs(caller);
  return { ...NOTHING_KNOWN, time: '', id: decisionId(), face: 'proxy', tool: 'proxy', ...who };
}
