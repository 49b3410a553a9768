// Rules in CEL, read and type-checked once and evaluated for every question. Refuses what could take forever: the engine's own regular
// expressions are out of reach, patterns go to RE2 or are globs of refs, and what may still take long is stopped.
import { suggest } from '../core/suggest.ts';
import { celInput, type CelInput } from './cel-input.ts';
import type { Environment, RE2JS } from './cel-sdk.ts';
import { searchesOf } from './cel-searches.ts';
import { inspect, marksIn, SyntaxProblem, TEXT_VARIABLES, VARIABLES, type MatchCall, type Usage } from './cel-syntax.ts';
import { wordsFor } from './cel-words.ts';
import type { PolicyInput } from './permit.ts';
import { compileRefGlob, LONGEST_REF, type RefGlob } from './ref.ts';
import { engineFacts, RuleFault, ruleFault } from './rule-fault.ts';
import { withinTime } from './within-time.ts';

export interface CelRule {
  /** Throws `RuleFault`, whose message quotes the rule and never a value. */
  evaluate(input: PolicyInput): boolean;
  /** Regular expressions that are written in it and that neither `^` nor `$` holds: it is true of any text that one of them is found in. */
  readonly searches?: readonly string[];
}

export interface CelProblem {
  readonly problem: string;
  readonly hint?: string;
  /** In the source, from 1. */
  readonly line: number;
  readonly column: number;
}

export interface CelEngine {
  compile(source: string): CelRule | CelProblem;
}

const LONGEST_RULE = 8192;
/** Whoever reviews a rule must see all of it: also where a line ends, and where a text does. */
const UNSEEN = /(?![\t\n ])[\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/u;
const COMMENT_HINT = 'write it as one of YAML, `# …`, in a line above the rule';
/** Of what one rule may hold; the engine allows more. */
const LIMITS = { maxAstNodes: 4000, maxDepth: 64, maxListElements: 1000, maxMapEntries: 100, maxCallArguments: 8 };

/** Loads the libraries. One for each bundle: what its rules define lives as long as they do. */
export async function openCel(): Promise<CelEngine> {
  const sdk = await import('./cel-sdk.ts');
  const environment = new sdk.Environment({ unlistedVariablesAreDyn: false, limits: LIMITS });
  for (const name of TEXT_VARIABLES) environment.registerVariable(name, 'string');
  environment.registerVariable('groups', 'list<string>');
  environment.registerVariable('claims', 'map<string, dyn>');
  environment.registerVariable('context', 'map<string, dyn>');
  environment.registerVariable('request', 'map<string, string>');
  registerOwn(environment);
  return new Engine(environment, new Patterns(sdk.RE2JS));
}

/** Starts the names of our own functions, which no rule can call: they are not among those that `inspect` lets through. */
const OWN = 'kz_';

/** In place of the engine's own, which do other things than CEL says. */
function registerOwn(environment: Environment): void {
  const now = { async: false };
  // These also fold what is not ASCII: to them, the Kelvin sign in lower case is `k`.
  const lower = (text: string): string => text.replace(/[A-Z]+/g, (part) => part.toLowerCase());
  const upper = (text: string): string => text.replace(/[a-z]+/g, (part) => part.toUpperCase());
  environment.registerFunction(`string.${OWN}lowerAscii(): string`, lower, now);
  environment.registerFunction(`string.${OWN}upperAscii(): string`, upper, now);
  // To this one an empty text is 0.
  environment.registerFunction(`${OWN}int(string): int`, intOf, now);
  environment.registerFunction(`${OWN}int(double): int`, (number: number) => intOf(String(Math.trunc(number))), now);
  environment.registerFunction(`${OWN}int(int): int`, (number: bigint) => number, now);
}

/** Throws for what is no number in decimal digits, or none of 64 bits. */
function intOf(text: string): bigint {
  const number = /^-?\d{1,19}$/.test(text) ? BigInt(text) : undefined;
  if (number === undefined || number !== BigInt.asIntN(64, number)) throw new RuleFault('int() takes whole numbers of 64 bits');
  return number;
}

class Engine implements CelEngine {
  readonly #environment: Environment;
  readonly #patterns: Patterns;
  #calls = 0;

  constructor(environment: Environment, patterns: Patterns) {
    this.#environment = environment;
    this.#patterns = patterns;
  }

  compile(source: string): CelRule | CelProblem {
    if (source.length > LONGEST_RULE) return problemAt(source, 0, `the rule is longer than ${String(LONGEST_RULE)} characters`);
    if (source.trim() === '') return problemAt(source, 0, 'the rule is empty', 'write `true` for everybody');
    const unseen = source.search(UNSEEN);
    if (unseen !== -1) return problemAt(source, unseen, 'the rule holds a character that cannot be seen');
    try {
      return this.#compile(source);
    } catch (error) {
      if (error instanceof SyntaxProblem) return problemAt(source, error.node.start, error.message, error.hint);
      if (error instanceof RangeError) return problemAt(source, 0, 'the rule is nested too deeply');
      return engineProblem(error, source);
    }
  }

  #compile(source: string): CelRule | CelProblem {
    const evaluate = this.#environment.parse(source);
    const comment = this.#comment(source);
    if (comment !== undefined) return problemAt(source, comment, 'the rule has a comment', COMMENT_HINT);
    const usage = inspect(evaluate.ast);
    // In the parsed rule, not in its text: every place in it stays where it is.
    for (const node of usage.own) node.args[0] = OWN + node.args[0];
    let programs = 0;
    for (const call of usage.matches) programs += this.#replace(call);
    const { valid, type, error } = evaluate.check();
    if (!valid) throw error ?? new Error('the engine gave no reason');
    if (type !== 'bool') {
      const isClaim = type === 'dyn';
      const what = isClaim ? 'is whatever the claim is' : `is of type ${String(type)}`;
      return problemAt(
        source,
        0,
        `the rule ${what}, and has to be true or false`,
        isClaim ? 'compare it: `claims.admin == true`' : undefined,
      );
    }
    return { ...ruleOf(source, evaluate, costOf(source.length + programs, usage)), searches: searchesOf(usage) };
  }

  /** Where one starts. In YAML’s folded texts it would take what stands in the next lines. A rule with `$$` for each `//` is one without comments only. */
  #comment(source: string): number | undefined {
    if (!source.includes('//')) return undefined;
    try {
      this.#environment.parse(source.replaceAll('//', () => '$$'));
      return undefined;
    } catch (error) {
      return engineFacts(error).start;
    }
  }

  /** A function of its own for each call of `matches`. Gives the size of its program. */
  #replace({ node, isGlob, literal, stars }: MatchCall): number {
    const name = `${OWN}${String(this.#calls++)}_matches`;
    const matcher = isGlob ? this.#patterns.glob(node, literal, stars) : this.#patterns.expression(node, literal);
    node.args[0] = name;
    const signature = node.op === 'rcall' ? `string.${name}(string): bool` : `${name}(string, string): bool`;
    this.#environment.registerFunction(signature, matcher.matches, { async: false });
    return matcher.size;
  }
}

interface Matcher {
  readonly matches: (text: string, pattern: string) => boolean;
  readonly size: number;
}

const LONGEST_PATTERN = 1000;
/** Instructions of an RE2 program. `.{1000}` has a thousand, and each of them may be looked at for each character. */
const LARGEST_PROGRAM = 5000;
const MOST_REMEMBERED = 256;
const TOO_LARGE = 'the regular expression is too large';
/** What comes in is a quarter of it. A rule that doubles texts can make half a gigabyte, and nothing stops V8 while it puts that together. */
const LONGEST_TEXT = 262_144;

/** Compiles what `matches` is given: once if it is written in the rule, else when it comes, and remembers the last few. */
class Patterns {
  readonly #re2: typeof RE2JS;
  readonly #expressions = new Map<string, RE2JS>();
  readonly #globs = new Map<string, RefGlob>();

  constructor(re2: typeof RE2JS) {
    this.#re2 = re2;
  }

  glob(node: MatchCall['node'], literal: string | undefined, stars: ReadonlySet<number>): Matcher {
    if (literal !== undefined) {
      const glob = compileRefGlob(literal);
      if ('problem' in glob) throw new SyntaxProblem(`the pattern of ref.matches ${glob.problem}`, node, GLOB_HINT);
      return { matches: (ref) => glob.match(ref) !== undefined, size: 1 };
    }
    return { matches: (ref, pattern) => this.#madeGlob(pattern, stars).match(ref) !== undefined, size: LONGEST_REF };
  }

  expression(node: MatchCall['node'], literal: string | undefined): Matcher {
    if (literal !== undefined) {
      const expression = this.#compiled(literal);
      if (typeof expression === 'string') throw new SyntaxProblem(expression, node);
      return { matches: (text) => search(expression, text), size: expression.programSize() };
    }
    return { matches: (text, pattern) => search(this.#madeExpression(pattern), text), size: LARGEST_PROGRAM };
  }

  #madeGlob(pattern: string, stars: ReadonlySet<number>): RefGlob {
    if (!stars.has(marksIn(pattern))) throw new RuleFault('a value put a star into the pattern of ref.matches, or a #');
    const known = this.#globs.get(pattern);
    if (known !== undefined) return known;
    const glob = compileRefGlob(pattern);
    if ('problem' in glob) throw new RuleFault('the pattern of ref.matches became one that no ref can match');
    remember(this.#globs, pattern, glob);
    return glob;
  }

  #madeExpression(pattern: string): RE2JS {
    const known = this.#expressions.get(pattern);
    if (known !== undefined) return known;
    const expression = this.#compiled(pattern);
    if (typeof expression === 'string') throw new RuleFault('a pattern became one that is not a regular expression, or too large');
    remember(this.#expressions, pattern, expression);
    return expression;
  }

  #compiled(pattern: string): RE2JS | string {
    if (pattern.length > LONGEST_PATTERN) return TOO_LARGE;
    try {
      const expression = this.#re2.compile(pattern);
      return expression.programSize() > LARGEST_PROGRAM ? TOO_LARGE : expression;
    } catch (error) {
      return `the regular expression is not one of RE2: ${error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : ''}`;
    }
  }
}

function search(expression: RE2JS, text: string): boolean {
  if (text.length > LONGEST_TEXT) throw new RuleFault('a text became too long for a regular expression');
  return expression.test(text);
}

const GLOB_HINT = 'ref.matches takes a glob, such as `github/*` or `prod/**`; a regular expression goes to string(ref).matches';

function remember<T>(known: Map<string, T>, pattern: string, made: T): void {
  if (known.size >= MOST_REMEMBERED) known.clear();
  known.set(pattern, made);
}

/** An estimate, in steps of some ten nanoseconds each; infinite when there is none. */
type Cost = (input: CelInput) => number;

/** Of steps, for each character of the rule: an element that has not what it is asked for is an error, and `exists` goes on to the next one. */
const FAILURE = 64;

function costOf(weight: number, { loops, scans, grows }: Usage): Cost {
  if (loops > 0 && grows) return () => Number.POSITIVE_INFINITY;
  const each = loops > 0 ? FAILURE : 1;
  return ({ elements, size }) => weight * Math.max(each * elements ** loops, scans < 0 ? 0 : elements ** scans * size);
}

/** Above this, V8 watches the clock. A rule as people write them, on a token as issuers give them out, stays below. */
const CHEAP = 5_000_000;
const TIMEOUT_MS = 250;

function ruleOf(source: string, evaluate: (variables: Record<string, unknown>) => unknown, cost: Cost): CelRule {
  return {
    evaluate(input) {
      try {
        const made = celInput(input);
        const value = cost(made) <= CHEAP ? evaluate(made.variables) : timed(evaluate, made.variables);
        if (typeof value !== 'boolean') throw new RuleFault('the rule is neither true nor false');
        return value;
      } catch (error) {
        throw ruleFault(error, source);
      }
    },
  };
}

function timed(evaluate: (variables: CelInput['variables']) => unknown, variables: CelInput['variables']): unknown {
  const outcome = withinTime(() => evaluate(variables), TIMEOUT_MS);
  if (!outcome.done) throw new RuleFault('the rule takes too long');
  return outcome.value;
}

function engineProblem(error: unknown, source: string): CelProblem {
  const { code, summary, start, end } = engineFacts(error);
  if (summary === undefined) return problemAt(source, 0, 'the rule cannot be read');
  const word = code === 'unknown_variable' ? source.slice(start, end) : undefined;
  const near = word === undefined ? undefined : suggest(word, VARIABLES);
  const hint = near === undefined ? `rules know ${VARIABLES.join(', ')}` : `did you mean ${near}?`;
  // Names of ours stand for those of the rule.
  const text = summary.replace(/\bkz_(?:\d+_)?/g, '').replace(/\.$/, '');
  const ours = wordsFor(text, source, start);
  if (ours !== undefined) return problemAt(source, start, ours.problem, ours.hint);
  return problemAt(source, start, text.charAt(0).toLowerCase() + text.slice(1), word === undefined ? undefined : hint);
}

function problemAt(source: string, offset: number, problem: string, hint?: string): CelProblem {
  const before = source.slice(0, offset).split('\n');
  return { problem, ...(hint === undefined ? {} : { hint }), line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
}
