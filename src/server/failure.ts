// What a caller of the server is told when it does not get what it asked for: a closed list of codes, the same through HTTP, MCP and the proxy.
// No message holds a value, a JWT, or the words of an upstream or of a provider.

/** Code → HTTP status. */
const STATUS = {
  'jwt-missing': 401,
  'jwt-invalid': 401,
  'jwt-expired': 401,
  'issuer-unknown': 401,
  /** The issuer's keys cannot be had: nobody can say whether the token is good. */
  'keys-unavailable': 503,
  'request-invalid': 400,
  'ref-invalid': 400,
  denied: 403,
  /** After the policy has allowed the ref, so that nobody learns which refs there are by asking. */
  'ref-unknown': 404,
  'resolver-mismatch': 400,
  'mode-forbidden': 403,
  'url-forbidden': 403,
  'header-forbidden': 400,
  'address-forbidden': 403,
  'secret-unavailable': 502,
  'secret-timeout': 504,
  'upstream-failed': 502,
  'upstream-timeout': 504,
  'token-invalid': 403,
  'token-expired': 403,
  'too-large': 413,
  'rate-limited': 429,
  overloaded: 503,
  cancelled: 499,
  internal: 500,
} as const;

export type FailureCode = keyof typeof STATUS;

/** Nobody was let in: it was not proven who calls. */
export const JWT_FAILURES: readonly FailureCode[] = ['jwt-missing', 'jwt-invalid', 'jwt-expired', 'issuer-unknown', 'keys-unavailable'];

interface FailureFacts {
  /** What a caller can do about it. */
  readonly hint?: string | undefined;
  /** For `rate-limited` and `overloaded`. */
  readonly retryAfterMs?: number | undefined;
  /** For `denied`: the policy that decided. */
  readonly policy?: string | undefined;
  readonly cause?: unknown;
}

export class ServerFailure extends Error {
  readonly code: FailureCode;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly policy: string | undefined;

  constructor(code: FailureCode, message: string, facts: FailureFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = 'ServerFailure';
    this.code = code;
    this.hint = facts.hint;
    this.retryAfterMs = facts.retryAfterMs;
    this.policy = facts.policy;
  }

  get status(): number {
    return STATUS[this.code];
  }
}
