// What a rule may be made of. The engine knows more functions than rules need, and some of them take forever for a value that a caller chose:
// only what is listed here is let through.
import { suggest } from '../core/suggest.ts';
import type { ASTNode } from './cel-sdk.ts';

export const TEXT_VARIABLES = ['issuer', 'org', 'service', 'env', 'action', 'branch', 'actor', 'ref'] as const;
export const VARIABLES: readonly string[] = [...TEXT_VARIABLES, 'groups', 'claims', 'context', 'request'];
const REQUEST_FIELDS = ['tool', 'method', 'host', 'path'];

const MACROS = new Set(['all', 'exists', 'exists_one', 'map', 'filter']);
const METHODS = [
  ...['matches', 'startsWith', 'endsWith', 'contains', 'size', 'lowerAscii', 'upperAscii', 'trim', 'indexOf', 'lastIndexOf', 'substring'],
  ...['split', 'join', 'getFullYear', 'getMonth', 'getDate', 'getDayOfMonth', 'getDayOfWeek', 'getDayOfYear', 'getHours', 'getMinutes'],
  ...['getSeconds', 'getMilliseconds', ...MACROS],
];
const FUNCTIONS = ['has', 'matches', 'size', 'string', 'int', 'double', 'bool', 'bytes', 'dyn', 'type', 'timestamp', 'duration'];
/** What takes the same time whatever it is given. */
const CONSTANT = new Set(['has', 'dyn', 'type', 'bool', 'int', 'startsWith', 'endsWith', 'substring', 'timestamp', 'duration']);

/** A call of `matches`. */
export interface MatchCall {
  /** Its first element is the name of the function. */
  readonly node: ASTNode & { readonly op: 'call' | 'rcall' };
  /** Of `ref`, so that the pattern is a glob. */
  readonly isGlob: boolean;
  /** Undefined: it is made when the rule is evaluated. */
  readonly literal: string | undefined;
  /** Under a `!`, where a pattern that is true of more makes the rule true of less. */
  readonly isNegated: boolean;
  /** Numbers of stars and `#` that the rule itself may put into it. */
  readonly stars: ReadonlySet<number>;
}

/** What the time that a rule takes depends on. */
export interface Usage {
  readonly matches: readonly MatchCall[];
  /** Calls of functions whose names have to change. */
  readonly own: readonly (ASTNode & { readonly op: 'call' | 'rcall' })[];
  /** How deep its macros are nested. */
  readonly loops: number;
  /** Inside how many macros it does what takes longer for longer texts or lists; -1: nowhere. */
  readonly scans: number;
  /** Can it make lists that are longer than what it was given? */
  readonly grows: boolean;
}

export class SyntaxProblem extends Error {
  readonly node: ASTNode;
  readonly hint: string | undefined;

  constructor(message: string, node: ASTNode, hint?: string) {
    super(message);
    this.node = node;
    this.hint = hint;
  }
}

interface Notes {
  matches: MatchCall[];
  own: (ASTNode & { readonly op: 'call' | 'rcall' })[];
  loops: number;
  scans: number;
  grows: boolean;
}

/** Where in the rule: inside how many macros, and what their variables can hold. */
interface Scope {
  readonly loops: number;
  readonly isNegated: boolean;
  readonly marks: ReadonlyMap<string, Marks>;
}

/** How many stars and `#` a text has that nobody but the author of the rule has put there. */
interface Marks {
  /** One number for each way that the rule can go. */
  readonly all: ReadonlySet<number>;
  /** Those of the ways on which a value comes in. */
  readonly open: ReadonlySet<number>;
}

/** Of what a value is made of alone. */
const UNMARKED: Marks = { all: new Set([0]), open: new Set([0]) };

/** Throws `SyntaxProblem` for the first thing that no rule may have. */
export function inspect(ast: ASTNode): Usage {
  const notes: Notes = { matches: [], own: [], loops: 0, scans: -1, grows: false };
  visit(ast, { loops: 0, isNegated: false, marks: new Map() }, notes);
  return notes;
}

function visit(node: ASTNode, scope: Scope, notes: Notes): void {
  switch (node.op) {
    case 'call':
      visitCall(node, scope, notes);
      break;
    case 'rcall':
      visitMethod(node, scope, notes);
      return;
    case '.':
      checkField(node);
      break;
    case '+':
      notes.grows ||= scope.loops > 0 && !node.args.some(isText);
      break;
    case 'in':
    case '==':
    case '!=':
      if (isLong(node, scope)) noteScan(scope, notes);
      break;
    default:
  }
  const inner = within(node, scope);
  for (const child of childrenOf(node)) visit(child, inner, notes);
}

function within({ op }: ASTNode, scope: Scope): Scope {
  return op === '!_' ? { ...scope, isNegated: !scope.isNegated } : scope;
}

/** What is written in the rule is as short as the rule is. To walk through a list for it takes long only when that is done for each of another one. */
function isLong({ op, args: [left, right] }: ASTNode & { readonly op: 'in' | '==' | '!=' }, { loops }: Scope): boolean {
  if (left.op === 'value') return op === 'in' && loops > 0 && right.op !== 'list';
  return right.op !== 'value';
}

type Call = ASTNode & { readonly op: 'call' };
type Method = ASTNode & { readonly op: 'rcall' };

function visitCall(node: Call, scope: Scope, notes: Notes): void {
  const [name, args] = node.args;
  if (!FUNCTIONS.includes(name)) throw unknownFunction(name, node);
  if (name === 'duration' && !args.every(isText)) {
    throw new SyntaxProblem('duration() takes only a text that is written in the rule', node);
  }
  const [text, pattern] = args;
  if (name === 'matches' && text !== undefined && pattern !== undefined) notes.matches.push(matchCall(node, text, pattern, scope));
  if (name === 'int') notes.own.push(node);
  if (!CONSTANT.has(name)) noteScan(scope, notes);
}

function visitMethod(node: Method, scope: Scope, notes: Notes): void {
  const [name, receiver, args] = node.args;
  if (!METHODS.includes(name)) throw unknownFunction(name, node);
  if (name === 'lowerAscii' || name === 'upperAscii') notes.own.push(node);
  visit(receiver, scope, notes);
  if (MACROS.has(name)) {
    const inner = scopeOf(node, scope, notes);
    for (const each of args) visit(each, inner, notes);
    return;
  }
  notes.grows ||= name === 'split';
  noteMatch(node, scope, notes);
  for (const each of args) visit(each, scope, notes);
}

function noteMatch(node: Method, scope: Scope, notes: Notes): void {
  const [name, receiver, [pattern]] = node.args;
  const call = name === 'matches' && pattern !== undefined ? matchCall(node, receiver, pattern, scope) : undefined;
  if (call !== undefined) notes.matches.push(call);
  // A ref is short.
  if (!CONSTANT.has(name) && call?.isGlob !== true) noteScan(scope, notes);
}

function noteScan({ loops }: Scope, notes: Notes): void {
  notes.scans = Math.max(notes.scans, loops);
}

function scopeOf(node: Method, scope: Scope, notes: Notes): Scope {
  const { loops, marks } = scope;
  const [name, receiver, [variable]] = node.args;
  if (variable?.op !== 'id') throw new SyntaxProblem(`${name}() takes the name of a variable first`, variable ?? node);
  if (VARIABLES.includes(variable.args)) {
    const message = `${name}() would hide the variable ${JSON.stringify(variable.args)}`;
    throw new SyntaxProblem(message, variable, `call it ${JSON.stringify(variable.args.slice(0, 1))}`);
  }
  notes.loops = Math.max(notes.loops, loops + 1);
  notes.grows ||= name === 'map';
  const elements = receiver.op === 'list' ? receiver.args : [];
  const inside = elements.length === 0 ? UNMARKED : either(elements.map((each) => marksOf(each, marks)));
  return { ...scope, loops: loops + 1, marks: new Map([...marks, [variable.args, inside]]) };
}

function matchCall(node: Call | Method, text: ASTNode, pattern: ASTNode, scope: Scope): MatchCall {
  const literal = isText(pattern) ? pattern.args : undefined;
  const isGlob = text.op === 'id' && text.args === 'ref';
  const { all, open } = marksOf(pattern, scope.marks);
  // With stars of its own, a value would pass for the other one.
  if (isGlob && Math.min(...open) < Math.max(...all)) {
    const message = 'the pattern of ref.matches is one of several, and a value could bring the stars of another one';
    throw new SyntaxProblem(message, pattern, 'write a ref.matches for each: `ref.matches(a) || ref.matches(b)`');
  }
  return { node, isGlob, literal, isNegated: scope.isNegated, stars: all };
}

function checkField(node: ASTNode & { readonly op: '.' }): void {
  const [of, field] = node.args;
  if (of.op !== 'id' || of.args !== 'request' || REQUEST_FIELDS.includes(field)) return;
  const near = suggest(field, REQUEST_FIELDS);
  const hint = near === undefined ? `request has ${REQUEST_FIELDS.join(', ')}` : `did you mean request.${near}?`;
  throw new SyntaxProblem(`request has no field ${JSON.stringify(field)}`, node, hint);
}

function unknownFunction(name: string, node: ASTNode): SyntaxProblem {
  const isMethod = [...METHODS].includes(name);
  const near = isMethod ? `ref.${name}(…)` : suggest(name, [...METHODS, ...FUNCTIONS]);
  const hint = near === undefined ? undefined : `did you mean ${near}?`;
  return new SyntaxProblem(`rules have no function ${JSON.stringify(name)}`, node, hint);
}

/** Stars, and the `#` behind which a pattern is about fields: with one of its own a value would lead to those of another secret. */
export function marksIn(pattern: string): number {
  return pattern.split(/[*#]/).length - 1;
}

function marksOf(node: ASTNode, bound: Scope['marks']): Marks {
  switch (node.op) {
    case 'value':
      return { all: new Set([typeof node.args === 'string' ? marksIn(node.args) : 0]), open: new Set() };
    case 'id':
      return bound.get(node.args) ?? UNMARKED;
    case '+': {
      const [left, right] = [marksOf(node.args[0], bound), marksOf(node.args[1], bound)];
      return { all: sums(left.all, right.all), open: new Set([...sums(left.open, right.all), ...sums(left.all, right.open)]) };
    }
    case '?:':
      return either([marksOf(node.args[1], bound), marksOf(node.args[2], bound)]);
    default:
      return UNMARKED;
  }
}

function sums(left: ReadonlySet<number>, right: ReadonlySet<number>): ReadonlySet<number> {
  return new Set([...left].flatMap((a) => [...right].map((b) => a + b)));
}

function either(ways: readonly Marks[]): Marks {
  return { all: new Set(ways.flatMap(({ all }) => [...all])), open: new Set(ways.flatMap(({ open }) => [...open])) };
}

function isText(node: ASTNode): node is ASTNode & { readonly op: 'value'; readonly args: string } {
  return node.op === 'value' && typeof node.args === 'string';
}

function childrenOf(node: ASTNode): readonly ASTNode[] {
  switch (node.op) {
    case 'value':
    case 'id':
      return [];
    case '.':
    case '.?':
      return [node.args[0]];
    case '!_':
    case '-_':
      return [node.args];
    case 'call':
      return node.args[1];
    case 'rcall':
      return [node.args[1], ...node.args[2]];
    case 'map':
      return node.args.flat();
    default:
      return node.args;
  }
}
