// What rules are evaluated with. Claims and context are copied into maps, so that a rule sees what the token says and nothing that JavaScript
// objects have by birth, and a claim called `constructor` is a claim like any other. A number that JavaScript takes for another one is not there.
import type { PolicyInput } from './permit.ts';
import { RuleFault } from './rule-fault.ts';

/** Who asks has a token of 8 KiB and sends a context of 16 KiB at most, and both are checked where they come in: this is the second line. */
const LARGEST = 65_536;
const DEEPEST = 32;

export interface CelInput {
  /** Variable → value. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** Elements and keys, of all lists and maps. */
  readonly elements: number;
  /** Characters and elements. */
  readonly size: number;
}

/** Of the last one: every rule is asked about the same input, and every resource of a list about the same claims. */
let lastInput: { readonly from: PolicyInput; readonly made: CelInput } | undefined;
let lastClaims: { readonly from: object; readonly made: Copy } | undefined;

/** An input may not change once it was here. Throws `RuleFault`. */
export function celInput(input: PolicyInput): CelInput {
  if (lastInput?.from !== input) lastInput = { from: input, made: make(input) };
  return lastInput.made;
}

function make(input: PolicyInput): CelInput {
  const { issuer, identity, ref, request } = input;
  const [claims, context, groups] = [claimsOf(input.claims), copyOf(input.context), copyOf(identity.groups)];
  const { org, service, env, action, branch, actor } = identity;
  const { tool, method, host, path, isAmbiguous = false } = request;
  const asked = new Map([['tool', tool], ['method', method], ['host', host], ...(isAmbiguous ? [] : [['path', path] as const])]);
  const made = {
    issuer,
    org,
    service,
    env,
    action,
    branch,
    actor,
    ref,
    groups: groups.value,
    claims: claims.value,
    context: context.value,
  };
  return {
    variables: { ...made, request: asked },
    elements: claims.elements + context.elements + groups.elements,
    // Each of the texts of the identity is one of the claims, too.
    size: 2 * claims.size + context.size + groups.size + ref.length + host.length + path.length,
  };
}

interface Copy {
  readonly value: unknown;
  readonly elements: number;
  readonly size: number;
}

interface Count {
  elements: number;
  size: number;
}

function claimsOf(from: object): Copy {
  if (lastClaims?.from !== from) lastClaims = { from, made: copyOf(from) };
  return lastClaims.made;
}

function copyOf(from: object): Copy {
  const count = { elements: 0, size: 0 };
  const value = copied(from, count, 0);
  return { value, ...count };
}

function copied(value: unknown, count: Count, depth: number): unknown {
  count.size += typeof value === 'string' ? value.length : 1;
  if (count.size > LARGEST || depth > DEEPEST) throw new RuleFault('the claims or the context are too large');
  if (typeof value !== 'object' || value === null) return scalar(value);
  if (Array.isArray(value)) {
    count.elements += value.length;
    const list = value.map((each: unknown) => copied(each, count, depth + 1));
    // Without one of its elements it would be another list.
    return list.includes(undefined) ? undefined : list;
  }
  const map = new Map<string, unknown>();
  for (const [key, each] of Object.entries(value)) {
    if (each === undefined) continue;
    count.elements += 1;
    count.size += key.length;
    const copy = copied(each, count, depth + 1);
    if (copy !== undefined) map.set(key, copy);
  }
  return map;
}

/** Undefined for a number so large that it stands for several: two ids of 17 digits could be one here. */
function scalar(value: unknown): unknown {
  if (typeof value === 'number') return Math.abs(value) <= Number.MAX_SAFE_INTEGER ? value : undefined;
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  throw new RuleFault('the claims or the context hold what is not JSON');
}
