// What the child is told when kz does not forward a request: a status, a code in `x-kz-error`, and a body that a person or an agent can act on.
// No message holds a value, an upstream's words or anything of the run that the child does not know.
import { STATUS_CODES } from 'node:http';
import type { ExchangeError, ExchangeWhy } from '../audit/event.ts';
import { systemCode } from '../core/errors.ts';
import type { DialError } from './dial.ts';
import { hostsLine, type Exchange, type Target } from './exchange.ts';

export interface Refusal {
  readonly status: number;
  /** Goes into `x-kz-error`. */
  readonly code: string;
  readonly message: string;
  /** Lines for whoever may change the config, or else for who asked. */
  readonly remedy?: readonly string[];
  readonly isRemedyForAsker?: boolean;
  /** Where the rule stands: `.keyzero.toml:12`. */
  readonly rule?: string | null;
  /** It has its line in the audit log already. */
  readonly isAudited?: boolean;
  /** For the audit log: a blocked exchange has a reason, a failed one an error. */
  readonly end: { readonly why: ExchangeWhy } | { readonly error: ExchangeError };
}

export interface RefusalBody {
  readonly contentType: string;
  readonly body: string;
}

const ASK = 'Only a person can change that: ask for it, and do not try to go around the proxy.';

export function deniedByRule(exchange: Exchange): Refusal {
  const { decision, request, session } = exchange;
  const { host } = request.target;
  const { rule } = decision;
  const at = rule === undefined ? null : session.ruleAt(rule.index);
  const message =
    rule === undefined
      ? `no rule of ${session.configFile} allows ${request.method} to ${host}`
      : `${at ?? session.configFile} denies ${request.method} to ${host} (host = ${JSON.stringify(rule.entry.host)})`;
  return {
    status: 403,
    code: 'denied',
    end: { why: decision.why },
    message,
    rule: at,
    remedy: allowing(exchange),
  };
}

export function valueOutOfScope(name: string, { request, session }: Exchange): Refusal {
  const { host } = request.target;
  return {
    status: 403,
    code: 'secret-out-of-scope',
    end: { why: 'secret-out-of-scope' },
    message: `the request holds the value of ${name}, which may not go to ${host}`,
    remedy: [`in ${session.configFile}, if it may: ${name} = { …, ${hostsLine(session.guard.scopeOf(name), request.target)} }`],
  };
}

export function hostMismatch(named: string, { host, port }: Target): Refusal {
  return {
    status: 421,
    code: 'host-mismatch',
    end: { why: 'host-mismatch' },
    message: `the request names ${JSON.stringify(named)}, the connection was opened to ${host}:${String(port)}`,
  };
}

export function malformed(message: string): Refusal {
  return { status: 400, code: 'malformed', end: { why: 'malformed' }, message };
}

export function notDialled(error: DialError, exchange: Exchange): Refusal {
  const { request, session } = exchange;
  const { host, port } = request.target;
  if (error.code === 'address-forbidden') {
    return {
      status: 403,
      code: 'address-forbidden',
      end: { why: 'address-forbidden' },
      message: `${error.detail}, and no rule of ${session.configFile} names it`,
      remedy: allowing(exchange),
    };
  }
  const status = error.code === 'timeout' ? 504 : 502;
  const { meaning, remedy } = unreachable(error, session.configFile);
  return {
    status,
    code: `upstream-${error.code}`,
    end: { error: error.code },
    message: `cannot reach ${host}:${String(port)}: ${error.detail}${meaning === undefined ? '' : `: ${meaning}`}`,
    ...(remedy === undefined || session.remedies === 'none' ? {} : { remedy }),
  };
}

interface Unreachable {
  readonly meaning?: string;
  readonly remedy?: readonly string[];
}

const UNKNOWN_AUTHORITY: readonly string[] = [
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
];

const MEANINGS: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the name does not exist, or not here',
  EAI_AGAIN: 'the name server does not answer',
  ECONNREFUSED: 'nothing listens there',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for other names',
  ERR_SSL_WRONG_VERSION_NUMBER: 'what answers there is not TLS: is it http:// instead of https://?',
};

/** What the code means, for those who do not know it by heart. */
function unreachable({ cause }: DialError, configFile: string): Unreachable {
  const code = systemCode(cause) ?? '';
  if (UNKNOWN_AUTHORITY.includes(code)) {
    return {
      meaning: 'its certificate is signed by nobody that kz trusts',
      remedy: [`if you know who signed it, add their certificate to ${configFile}:`, '  [blind]', '  upstream_ca = "their-ca.pem"'],
    };
  }
  const meaning = Object.hasOwn(MEANINGS, code) ? MEANINGS[code] : undefined;
  return meaning === undefined ? {} : { meaning };
}

/** The upstream was reached and then failed. `code` is an errno or one of Node's parser codes. */
export function upstreamFailed(code: string, { request }: Exchange): Refusal {
  return {
    status: 502,
    code: 'upstream-failed',
    end: { error: code === 'ECONNRESET' || code === 'EPIPE' ? 'reset' : 'protocol' },
    message: `${request.target.host} failed before it had answered (${code})`,
  };
}

export function cannotRewrite(message: string): Refusal {
  return { status: 415, code: 'body-encoding', end: { why: 'encoding' }, message };
}

export function malformedBody(message: string): Refusal {
  return { status: 400, code: 'body-encoding', end: { why: 'encoding' }, message };
}

/** JSON for those who ask for it, text for the rest. */
export function refusalBody(refusal: Refusal, accept: string | undefined): RefusalBody {
  const { status, code, message, remedy = [], isRemedyForAsker = false, rule } = refusal;
  const advice = remedy.length === 0 || isRemedyForAsker ? remedy : [...remedy, ASK];
  if (accept !== undefined && /\bjson\b/i.test(accept)) {
    // Some programs show `error`, others `message`.
    const about = { error: message, message: [message, ...advice].join('\n'), code, rule: rule ?? null, remedy: advice };
    return { contentType: 'application/json', body: `${JSON.stringify(about)}\n` };
  }
  const title = `kz: ${String(status)} ${STATUS_CODES[status] ?? ''}: ${message}`;
  return { contentType: 'text/plain; charset=utf-8', body: `${[title, ...advice].join('\n')}\n` };
}

/** What to add, and where: first match wins. A config without rules allows everything, which its first rule would end. */
function allowing({ request, decision, session }: Exchange): string[] {
  if (session.remedies === 'none') return [];
  const { host, port, tls } = request.target;
  const isUsual = port === (tls ? 443 : 80);
  const rule = ['[[blind.connections]]', 'allow = true', `host = ${JSON.stringify(host)}`, ...(isUsual ? [] : [`port = ${String(port)}`])];
  const above = decision.rule === undefined ? '' : ` above ${session.ruleAt(decision.rule.index) ?? 'the rule that decided'}`;
  const isFirst = session.rules.length === 0;
  return [`to allow it, add${above}:`, ...rule.map(indented), ...(isFirst ? [FIRST_RULE, ...ALLOW_ALL.map(indented)] : [])];
}

const FIRST_RULE = 'it is the first rule, and what no rule matches is denied; to go on allowing all else, add last:';
const ALLOW_ALL = ['[[blind.connections]]', 'allow = true', 'host = "*"'];

function indented(line: string): string {
  return `  ${line}`;
}
