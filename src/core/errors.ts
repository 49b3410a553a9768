// The one error class and the closed table of its codes. A message is lower case, has no final period, says what was attempted on
// what, and never holds a value or an upstream body; a hint is a command to type or the line to change.

/** Code → exit status. `kz run` maps everything before the child's start to 125, except the two codes of execvp(3). */
const EXIT_STATUS = {
  usage: 2,
  'config-not-found': 1,
  'config-unreadable': 1,
  'config-syntax': 1,
  'config-invalid': 1,
  'config-untrusted': 1,
  'environment-unknown': 1,
  'secret-undeclared': 1,
  'secret-missing': 1,
  'secret-empty': 1,
  'secret-invalid': 1,
  'ref-invalid': 1,
  'provider-unavailable': 1,
  'provider-locked': 1,
  'provider-denied': 1,
  'provider-corrupt': 1,
  'provider-failed': 1,
  'provider-timeout': 1,
  'provider-read-only': 1,
  'lease-ended': 1,
  'write-failed': 1,
  'no-terminal': 1,
  'sandbox-unavailable': 1,
  'sandbox-failed': 1,
  'not-built': 1,
  cancelled: 130,
  several: 1,
  internal: 1,
  'start-failed': 1,
  'command-not-executable': 126,
  'command-not-found': 127,
} as const;

export type ErrorCode = keyof typeof EXIT_STATUS;

/** A place in a file the user wrote. Lines and columns count from 1. */
export interface Place {
  readonly file: string;
  readonly line?: number;
  readonly column?: number;
}

export interface ErrorFacts {
  readonly hint?: string | undefined;
  readonly at?: Place | undefined;
  readonly cause?: unknown;
  /** What went wrong one by one, when `code` is `several`. */
  readonly problems?: readonly KzError[];
}

export class KzError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly at: Place | undefined;
  readonly problems: readonly KzError[];

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = 'KzError';
    this.code = code;
    this.hint = facts.hint;
    this.at = facts.at;
    this.problems = facts.problems ?? [];
  }

  get exitStatus(): number {
    return EXIT_STATUS[this.code];
  }

  /** One error from many: the only one itself, or a `several` that holds them all. */
  static all(problems: readonly KzError[]): KzError {
    const [first] = problems;
    if (first !== undefined && problems.length === 1) return first;
    return new KzError('several', `${String(problems.length)} problems`, { problems });
  }
}

/** `.keyzero.toml:3:5`, as much of it as is known. */
export function formatPlace(place: Place): string {
  return [place.file, place.line, place.column].filter((part) => part !== undefined).join(':');
}

/** The `code` of a Node system error (`ENOENT`, `EACCES`, …), or undefined for anything else, a KzError too. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || error instanceof KzError || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
