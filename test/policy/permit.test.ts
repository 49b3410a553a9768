// The order of policies, and what an error in one of them means.
import { beforeAll, describe, expect, it } from 'vitest';
import { openCel, type CelEngine } from '../../src/policy/cel.ts';
import { explain, permit, type CompiledPolicy, type PolicyInput } from '../../src/policy/permit.ts';

let engine: CelEngine;
beforeAll(async () => {
  engine = await openCel();
});

const INPUT: PolicyInput = {
  issuer: 'github',
  identity: { org: 'acme', service: '', env: '', action: '', branch: '', actor: '', groups: [] },
  claims: { sub: 'x' },
  ref: 'github/pat',
  context: {},
  request: { tool: 'resolve', method: '', host: '', path: '' },
};

/** `allow: rule` or `deny: rule`; the rule is the name. */
function policies(...lines: string[]): CompiledPolicy[] {
  return lines.map((line) => {
    const [, effect, source = ''] = /^(allow|deny): (.*)$/.exec(line) ?? [];
    const rule = engine.compile(source);
    if ('problem' in rule) throw new Error(rule.problem);
    return { name: source, effect: effect === 'allow' ? 'allow' : 'deny', rule };
  });
}

const FAILS = "claims.team == 'a'";

describe('permit', () => {
  it('takes the first rule that is true', () => {
    const verdict = explain(INPUT, policies("deny: org == 'evil'", "allow: org == 'acme'", 'deny: true'));
    expect(verdict).toEqual({
      allow: true,
      policy: "org == 'acme'",
      why: 'rule',
      steps: [
        { policy: "org == 'evil'", effect: 'deny', result: 'false' },
        { policy: "org == 'acme'", effect: 'allow', result: 'true' },
      ],
    });
    expect(permit(INPUT, policies('deny: true', 'allow: true'))).toMatchObject({ allow: false, policy: 'true', why: 'rule' });
  });

  it('denies what no rule is true of', () => {
    expect(explain(INPUT, [])).toEqual({ allow: false, policy: 'default-deny', why: 'no-match', steps: [] });
    expect(permit(INPUT, policies('allow: false'))).toMatchObject({ allow: false, policy: 'default-deny', why: 'no-match' });
  });

  it('passes an allow over that fails', () => {
    const verdict = explain(INPUT, policies(`allow: ${FAILS}`, "allow: ref.matches('github/*')"));
    expect(verdict).toMatchObject({ allow: true, policy: "ref.matches('github/*')" });
    expect(verdict.steps[0]).toEqual({ policy: FAILS, effect: 'allow', result: 'error', error: 'there is no such key: claims.team' });
    expect(permit(INPUT, policies(`allow: ${FAILS}`))).toMatchObject({ allow: false, policy: 'default-deny', why: 'no-match' });
  });

  it('denies by a deny that fails', () => {
    expect(explain(INPUT, policies(`deny: ${FAILS}`, 'allow: true'))).toEqual({
      allow: false,
      policy: FAILS,
      why: 'rule-error',
      steps: [{ policy: FAILS, effect: 'deny', result: 'error', error: 'there is no such key: claims.team' }],
    });
  });

  it('does not care for a deny that fails below an allow that is true', () => {
    expect(permit(INPUT, policies('allow: true', `deny: ${FAILS}`)).allow).toBe(true);
  });

  it('takes anything thrown for an error, and does not repeat it', () => {
    const broken = {
      evaluate: () => {
        throw new Error('CANARY-value');
      },
    };
    const verdict = explain(INPUT, [{ name: 'broken', effect: 'deny', rule: broken }]);
    expect(verdict).toMatchObject({ allow: false, why: 'rule-error' });
    expect(JSON.stringify(verdict)).not.toContain('CANARY');
  });

  it('denies when the input cannot be read', () => {
    const input = { ...INPUT, context: { text: 'x'.repeat(100_000) } };
    expect(permit(input, policies('allow: true'))).toMatchObject({ allow: false, why: 'no-match' });
    expect(permit(input, policies('deny: false', 'allow: true'))).toMatchObject({ allow: false, why: 'rule-error' });
  });
});
