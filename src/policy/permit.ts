// Which policy decides. Top-down: the first rule that is true. A rule that fails does not say what its author meant, so one that allows is passed
// over and one that denies denies. What no rule is true of is denied.
import type { CelRule } from './cel.ts';
import type { Identity } from './identity.ts';
import { RuleFault } from './rule-fault.ts';

export const TOOLS = ['resolve', 'fetch', 'proxy', 'list'] as const;
export type Tool = (typeof TOOLS)[number];

/** All that a rule can see. Must not change once it was asked about. */
export interface PolicyInput {
  /** Name of the issuer in the bundle. */
  readonly issuer: string;
  readonly identity: Identity;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly ref: string;
  /** Of the caller: nothing in it is proven. */
  readonly context: Readonly<Record<string, unknown>>;
  readonly request: PolicyRequest;
}

/** Empty where there is no URL. */
export interface PolicyRequest {
  readonly tool: Tool;
  readonly method: string;
  readonly host: string;
  readonly path: string;
  /** Servers may read the path differently: every rule that asks for it fails. */
  readonly isAmbiguous?: boolean;
}

export interface CompiledPolicy {
  readonly name: string;
  readonly effect: 'allow' | 'deny';
  readonly rule: CelRule;
}

export interface Verdict {
  readonly allow: boolean;
  /** Name of the policy that decided, or `default-deny`. */
  readonly policy: string;
  readonly why: 'rule' | 'rule-error' | 'no-match';
}

export interface Explained extends Verdict {
  /** Every policy up to the one that decided. */
  readonly steps: readonly Step[];
}

export interface Step {
  readonly policy: string;
  readonly effect: 'allow' | 'deny';
  readonly result: 'true' | 'false' | 'error';
  /** Of an error: what the engine says, which quotes no claim's value. */
  readonly error?: string;
}

export const DEFAULT_DENY = 'default-deny';

/** In milliseconds, of all rules. Each of them has less, but there may be many. */
const LONGEST_MS = 500;

/** `onStep` hears of every policy up to the one that decides. */
export function permit(input: PolicyInput, policies: readonly CompiledPolicy[], onStep?: (step: Step) => void): Verdict {
  const started = performance.now();
  for (const { name: policy, effect, rule } of policies) {
    let result: Step['result'] = 'error';
    let error: string | undefined;
    try {
      if (performance.now() - started > LONGEST_MS) return late(policy, effect, onStep);
      result = rule.evaluate(input) ? 'true' : 'false';
    } catch (problem) {
      error = problem instanceof RuleFault ? problem.message : 'the rule cannot be evaluated';
    }
    onStep?.({ policy, effect, result, ...(error === undefined ? {} : { error }) });
    if (result === 'true') return { allow: effect === 'allow', policy, why: 'rule' };
    if (result === 'error' && effect === 'deny') return { allow: false, policy, why: 'rule-error' };
  }
  return { allow: false, policy: DEFAULT_DENY, why: 'no-match' };
}

/** For people. */
export function explain(input: PolicyInput, policies: readonly CompiledPolicy[]): Explained {
  const steps: Step[] = [];
  const verdict = permit(input, policies, (step) => void steps.push(step));
  return { ...verdict, steps };
}

function late(policy: string, effect: Step['effect'], onStep?: (step: Step) => void): Verdict {
  onStep?.({ policy, effect, result: 'error', error: 'the rules before it took too long' });
  return { allow: false, policy, why: 'rule-error' };
}
