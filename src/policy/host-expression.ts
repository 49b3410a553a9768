// `re:` hosts: a regular expression, held against whole canonical hosts and never for long. The config chooses the expression, but the
// program that kz does not trust chooses the hosts.
import { createContext, Script } from 'node:vm';

export interface HostExpression {
  /** Does it tell hosts apart? Not when it matches hosts that nobody can have meant, such as everything under `.com`. */
  readonly names: boolean;
  /** Canonical host. Undefined when the expression takes too long for it. */
  readonly covers: (host: string) => boolean | undefined;
}

/** Hosts that no config has in mind, of each form that a host can have. */
const STRANGERS = [
  ...['qzxvkw', 'qzxvkw.com', 'qzxvkw.net', 'qz-3x7.org', 'q7.qzxvkw.io', 'a.q7.qz-3x7.dev', 'a.b.c.qzxvkw.invalid'],
  ...['203.0.113.77', '198.51.100.23', '192.0.2.9', '[2001:db8::77]'],
];

/** As long as a host can be, and each wrong only at its end for some expression that goes wrong. */
const LONG = Array.from('abcdefghijklmnopqrstuvwxyz0123456789-_.')
  .concat('a.', 'a0', 'a-', 'ab', 'aab')
  .map((part) => part.repeat(253 / part.length));

/** Hosts whose answers are remembered, for each expression. */
const MOST_REMEMBERED = 1000;

/** The compiled expression, or a sentence that says what is wrong with it. Case never matters, as in every host. */
export function compileHostExpression(source: string): HostExpression | { readonly problem: string } {
  const expression = anchored(source);
  if (expression === undefined) return { problem: 'is not a valid regular expression' };
  const matchesAny = withinTime(expression);
  const matchesStranger = matchesAny(STRANGERS);
  if (matchesStranger === undefined || matchesAny(LONG) === undefined) return { problem: 'takes too long to match' };
  const known = new Map<string, boolean>();
  return { names: !matchesStranger, covers };

  function covers(host: string): boolean | undefined {
    const before = known.get(host);
    if (before !== undefined) return before;
    const answer = matchesAny([host]);
    if (known.size >= MOST_REMEMBERED) known.clear();
    if (answer !== undefined) known.set(host, answer);
    return answer;
  }
}

/** Alone first: `a)|(?:b` is an expression only between the anchors, and would undo them. */
function anchored(source: string): RegExp | undefined {
  try {
    new RegExp(source, 'u');
    return new RegExp(`^(?:${source})$`, 'iu');
  } catch {
    return undefined;
  }
}

/** `(a+)+b` can take years to fail, and nothing but V8 itself can stop it. Asking costs 0.1 ms, so answers are remembered. */
const TIMEOUT_MS = 250;

function withinTime(expression: RegExp): (hosts: readonly string[]) => boolean | undefined {
  const facts = { expression, hosts: [] as readonly string[] };
  const context = createContext(facts);
  const script = new Script('hosts.filter((host) => expression.test(host)).length > 0');
  return (hosts) => {
    facts.hosts = hosts;
    try {
      return script.runInContext(context, { timeout: TIMEOUT_MS }) === true;
    } catch (error) {
      // Thrown by another context, so it is no instance of this one’s Error.
      const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
      if (code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      return undefined;
    }
  };
}
