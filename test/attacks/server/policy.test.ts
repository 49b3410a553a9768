// Attacks on what decides: bundles that say something else than a reviewer reads, refs with two readings, rules that are slow or err, and questions
// whose answers would tell too much. The pipeline is the real one; backends are files.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Decision } from '../../../src/audit/decision.ts';
import { bundleWarnings } from '../../../src/config/bundle.ts';
import { KzError } from '../../../src/core/errors.ts';
import { openCel } from '../../../src/policy/cel.ts';
import { permit, type CompiledPolicy, type PolicyInput } from '../../../src/policy/permit.ts';
import { compileBundle } from '../../../src/server/compile.ts';
import { LiveService, type Grant } from '../../../src/server/service.ts';
import type { Caller } from '../../../src/server/identity/verify.ts';

const folder = mkdtempSync(join(tmpdir(), 'kz-attack-policy-'));
const canary = (): string => `CANARY-${randomBytes(8).toString('hex')}`;

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const ISSUER_URL = 'https://issuer.example';
const ISSUERS = `version: "1"
issuers:
  - { name: lab, issuer_url: ${ISSUER_URL}, type: custom, audience: kz, map: { org: claims.org, groups: claims.groups } }
`;
const RESOURCES = `
resources:
  - { ref: "db/prod", resolver: env, from: DB, hosts: [db.example], methods: [GET] }
  - { ref: "db/**", resolver: env, from: DB, mode: direct }
backends:
  env: { type: env_file, path: ./secrets.env }
`;
const ALLOW_ALL = 'policies: [{ name: all, effect: allow, rule: "true" }]';

interface Scene {
  readonly service: LiveService;
  readonly lines: Decision[];
  readonly told: string[];
}

async function serve(bundle: string): Promise<Scene> {
  const [lines, told]: [Decision[], string[]] = [[], []];
  const service = new LiveService(await compiled(bundle), {
    audit: (line) => lines.push(line),
    tell: (text) => told.push(text),
    limits: { take: () => undefined },
  });
  return { service, lines, told };
}

async function compiled(bundle: string): ReturnType<typeof compileBundle> {
  const path = join(folder, `${randomBytes(6).toString('hex')}.yaml`);
  writeFileSync(path, bundle);
  return compileBundle(path, { context: { env: {}, userDirectory: folder } });
}

function caller(claims: Record<string, unknown> = {}): Caller {
  const { org = '', groups = [] } = claims as { org?: string; groups?: readonly string[] };
  const identity = { org, service: '', env: '', action: '', branch: '', actor: '', groups };
  return {
    issuer: 'lab',
    iss: ISSUER_URL,
    sub: 'eve',
    id: 'j',
    identity,
    claims: { iss: ISSUER_URL, ...claims },
    expiresAt: Date.now() + 60_000,
  };
}

interface Question {
  readonly ref?: string;
  readonly who?: Caller;
  readonly context?: Record<string, unknown>;
}

/** What a grant was made of, or the failure’s code. */
async function ask({ service }: Scene, { ref = 'db/prod', who = caller(), context }: Question = {}): Promise<string> {
  const mode = (grant: Grant): Promise<string> => Promise.resolve(`${grant.resource.entry.ref} ${grant.resource.entry.mode}`);
  try {
    return await service.with(who, { tool: 'resolve', face: 'http', ref, context }, mode);
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe('a bundle that a reviewer reads otherwise', () => {
  const hidden = "org == 'acme' // ours only\n      && claims.admin == true";

  it.each([
    ['folded', `rule: >\n      ${hidden}\n`],
    ['folded, the comment first', 'rule: >\n      // ours only\n      org == "acme" &&\n\n      true\n'],
    ['plain', `rule: ${hidden}\n`],
    ['quoted', `rule: "${hidden}"\n`],
    ['a block, whose line ends only on the screen', "rule: |\n      true // ours only\u2028      && org == 'acme'\n"],
  ])('a comment in a rule takes the lines below it: %s', async (_, rule) => {
    const policies = `policies:\n  - name: p\n    effect: allow\n    ${rule}`;
    await expect(compiled(`${ISSUERS}${policies}${RESOURCES}`)).rejects.toThrow(/comment|cannot be seen/);
  });

  it('slashes in texts are no comments', async () => {
    const rule = `claims.iss == '${ISSUER_URL}' && r'//' != "/" && '''a'//b''' != 'x'`;
    const scene = await serve(`${ISSUERS}policies:\n  - name: p\n    effect: allow\n    rule: ${JSON.stringify(rule)}\n${RESOURCES}`);
    expect(await ask(scene)).toBe('db/prod masked');
  });

  it('a line, or its end, that only some programs see', async () => {
    for (const character of ['\r', '\u0085', '\u2028', '\u2029', '\f', '\u202e', '\u2066', '\u200b', '\ufeff', '\0']) {
      const policies = `policies:\n  # off: ${character}  - { name: no, effect: deny, rule: "true" }\n  - { name: all, effect: allow, rule: "true" }\n`;
      const problem = { message: expect.stringContaining('cannot be seen') as string, at: { line: 5 } };
      await expect(compiled(`${ISSUERS}${policies}${RESOURCES}`)).rejects.toMatchObject(problem);
    }
  });

  const unseen = ['u200b', 'u200d', 'u00a0', 'u202e', 'r', 'u3164', 'u115f', 'ufe0f', 'u034f', 'u2800', 'u180b', 'U000e0100'];
  it.each(unseen.map((code) => `ac\\${code}me`))('a text in a rule that is not what it looks like: %s', async (text) => {
    const policies = `policies:\n  - { name: p, effect: deny, rule: "org == '${text}'" }\n`;
    await expect(compiled(`${ISSUERS}${policies}${RESOURCES}`)).rejects.toThrow('cannot be seen');
  });

  it('two readings of one key, or of one policy', async () => {
    for (const policies of [
      'policies: []\npolicies: []',
      'policies: [{ name: p, effect: deny, effect: allow, rule: "true" }]',
      'policies: [{ name: p, effect: deny, rule: "false" }, { name: p, effect: allow, rule: "true" }]',
      'policies: [{ name: p, effect: Allow, rule: "true" }]',
      'policies: [&a { name: p, effect: allow, rule: "true" }]',
      'policies: []\n---\npolicies: []',
    ]) {
      await expect(compiled(`${ISSUERS}${policies}${RESOURCES}`)).rejects.toBeInstanceOf(KzError);
    }
  });
});

it('a letter of a rule that looks like another one is said', async () => {
  const policies = 'policies: [{ name: p, effect: allow, rule: "org == \'acm\u0435\'" }]';
  const { bundle } = await compiled(`${ISSUERS}${policies}${RESOURCES}`);
  const warnings = bundleWarnings(bundle).map(({ text }) => text);
  expect(warnings).toContain('the rule of policy "p" has \u0435, which may look like another character: \\u0435 cannot');
});

describe('one secret under two names', () => {
  it('a field added to an exact ref does not reach a wider pattern with another mode', async () => {
    const scene = await serve(`${ISSUERS}${ALLOW_ALL}${RESOURCES}`);
    expect(await ask(scene, { ref: 'db/prod' })).toBe('db/prod masked');
    expect(await ask(scene, { ref: 'db/other#x' })).toBe('db/** direct');
    expect(await ask(scene, { ref: 'db/prod#x' })).toBe('ref-unknown');
    expect(await ask(scene, { ref: 'db/prod#x/y' })).toBe('ref-unknown');
  });

  it('a field that has a resource of its own is found', async () => {
    const own = RESOURCES.replace('resources:\n', 'resources:\n  - { ref: "db/prod#user", resolver: env, from: U, mode: direct }\n');
    const scene = await serve(`${ISSUERS}${ALLOW_ALL}${own}`);
    expect(await ask(scene, { ref: 'db/prod#user' })).toBe('db/prod#user direct');
    expect(await ask(scene, { ref: 'db/prod#password' })).toBe('ref-unknown');
  });

  it('nothing else is `db/prod`', async () => {
    const policies = `policies:
  - { name: no, effect: deny, rule: "ref == 'db/prod'" }
  - { name: all, effect: allow, rule: "ref.matches('db/**')" }`;
    const scene = await serve(`${ISSUERS}${policies}${RESOURCES}`);
    const others = [
      'DB/prod',
      'db/./prod',
      'db/x/../prod',
      'db//prod',
      'db/prod/',
      'db/%70rod',
      'db\\prod',
      'db/prod\0',
      'db/pr\u00f6d',
      'db/prod#',
    ];
    for (const ref of [...others, ' db/prod', 'db/prod\n', 'db/prod#a#b'])
      expect(['ref-invalid', 'denied']).toContain(await ask(scene, { ref }));
  });

  it('a value in a pattern cannot turn it to fields', async () => {
    const policies = await policiesOf(['allow', "ref.matches('team/' + context.team + '/**')"]);
    for (const [team, ref] of [
      ['admin#Section', 'team/admin#Section/password'],
      ['*', 'team/admin/x'],
      ['..', 'team/../x'],
      ['', 'team//x'],
    ] as const) {
      expect(permit({ ...INPUT, ref, context: { team } }, policies).allow).toBe(false);
    }
    expect(permit({ ...INPUT, ref: 'team/a/x', context: { team: 'a' } }, policies).allow).toBe(true);
  });
});

const INPUT: PolicyInput = {
  issuer: 'lab',
  identity: { org: 'acme', service: '', env: '', action: '', branch: '', actor: '', groups: [] },
  claims: {},
  ref: 'db/prod',
  context: {},
  request: { tool: 'resolve', method: '', host: '', path: '' },
};

async function policiesOf(...rules: readonly (readonly ['allow' | 'deny', string])[]): Promise<readonly CompiledPolicy[]> {
  const engine = await openCel();
  return rules.map(([effect, source], index) => {
    const rule = engine.compile(source);
    if ('problem' in rule) throw new Error(rule.problem);
    return { name: `p${String(index)}`, effect, rule };
  });
}

describe('a deny rule', () => {
  it('denies when its claim is not there, or of another type', async () => {
    const policies = await policiesOf(['deny', "claims.role.startsWith('intern')"], ['allow', 'true']);
    for (const role of [undefined, null, 7, ['intern'], { intern: true }, true]) {
      expect(permit({ ...INPUT, claims: { role } }, policies)).toMatchObject({ allow: false, policy: 'p0', why: 'rule-error' });
    }
  });

  it('denies when the context is too large or too deep', async () => {
    const policies = await policiesOf(['deny', "org == 'evil'"], ['allow', 'true']);
    const deep = JSON.parse(`${'{"a":'.repeat(200)}1${'}'.repeat(200)}`) as Record<string, unknown>;
    for (const context of [{ x: 'x'.repeat(70_000) }, deep]) expect(permit({ ...INPUT, context }, policies).allow).toBe(false);
  });

  it('denies when it is stopped, and nothing of that call is seen by the next one', async () => {
    const list = Array.from({ length: 4000 }, (_, index) => `eve-${String(index)}`);
    const slow = "context.list.exists(a, context.list.exists(b, a + b == 'never'))";
    const policies = await policiesOf(['deny', slow], ['allow', "claims.name == 'eve'"]);
    expect(permit({ ...INPUT, context: { list }, claims: { name: 'eve' } }, policies)).toMatchObject({ allow: false, why: 'rule-error' });
    expect(permit({ ...INPUT, context: { list: ['x'] }, claims: { name: 'ada' } }, policies)).toMatchObject({
      allow: false,
      why: 'no-match',
    });
    expect(permit({ ...INPUT, context: { list: ['never', ''] }, claims: { name: 'eve' } }, policies)).toMatchObject({
      policy: 'p0',
      why: 'rule',
    });
  });
});

it('two callers in turns: nobody is answered with the claims, groups or context of the other', async () => {
  const policies = await policiesOf(['allow', "claims.sub == 'ada' && 'admins' in groups && context.why == 'deploy'"]);
  const ada = { ...INPUT, claims: { sub: 'ada' }, identity: { ...INPUT.identity, groups: ['admins'] }, context: { why: 'deploy' } };
  const { claims, identity, context } = ada;
  for (const [input, allow] of [
    [ada, true],
    [{ ...ada, claims: { sub: 'eve' } }, false],
    [{ ...INPUT, claims }, false],
    [{ ...INPUT, claims, identity }, false],
    [{ ...INPUT, claims, context }, false],
    [ada, true],
  ] as const) {
    expect(permit(input, policies).allow).toBe(allow);
  }
});

describe('a caller cannot keep the server busy', () => {
  const many = Array.from({ length: 1500 }, (_, index) => `g${String(index)}`);
  const slow = (index: number): string =>
    `{ name: s${String(index)}, effect: allow, rule: "groups.exists(g, claims.groups.exists(h, h == g + 'x${String(index)}'))" }`;
  const eve = caller({ groups: many });

  it('with one question and many slow rules', async () => {
    const scene = await serve(`${ISSUERS}policies: [${Array.from({ length: 20 }, (_, index) => slow(index)).join(', ')}]${RESOURCES}`);
    const started = performance.now();
    expect(await ask(scene, { who: eve })).toBe('denied');
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it('with a list of everything', async () => {
    const resources = Array.from({ length: 50 }, (_, index) => `  - { ref: "a/${String(index)}", resolver: env, mode: direct }\n`).join('');
    const scene = await serve(
      `${ISSUERS}policies: [${slow(0)}]\nresources:\n${resources}backends:\n  env: { type: env_file, path: ./secrets.env }\n`,
    );
    const started = performance.now();
    expect(() => scene.service.list(eve, 'mcp')).toThrow('takes too long');
    expect(performance.now() - started).toBeLessThan(4000);
    expect(scene.lines).toMatchObject([{ tool: 'list', sub: 'eve', outcome: 'denied', code: 'rate-limited' }]);
  });

  it('with question after question, while others are answered', async () => {
    const fast = '{ name: ada, effect: allow, rule: "org == \'acme\'" }';
    const scene = await serve(`${ISSUERS}policies: [${slow(0)}, ${fast}]${RESOURCES}`);
    const codes: string[] = [];
    const started = performance.now();
    for (let i = 0; i < 60; i++) codes.push(await ask(scene, { who: eve, ref: `db/x${String(i)}` }));
    expect(performance.now() - started).toBeLessThan(6000);
    expect(codes[0]).toBe('denied');
    expect(codes.at(-1)).toBe('rate-limited');
    expect(await ask(scene, { who: { ...caller({ org: 'acme' }), sub: 'ada' } })).toBe('db/prod masked');
  });
});

describe('what is not allowed tells nothing', () => {
  const policies =
    'policies: [{ name: own, effect: allow, rule: "org == \'acme\'" }, { name: no, effect: deny, rule: "claims.secret == ref" }]';

  it('whether there is such a resource', async () => {
    const { service } = await serve(`${ISSUERS}${policies}${RESOURCES}`);
    const words = async (ref: string, resolver?: string): Promise<string> => {
      const asked = service.with(caller({ secret: 'x' }), { tool: 'resolve', face: 'http', ref, resolver }, () => Promise.resolve(''));
      const error = (await asked.catch((thrown: unknown) => thrown)) as Error & { hint: string };
      return `${error.message} ${error.hint}`.replaceAll(ref, 'REF');
    };
    expect(await words('nowhere/x')).toBe(await words('db/prod'));
    expect(await words('db/prod', 'wrong')).toBe(await words('db/prod', 'env'));
  });

  it('what is in a list', async () => {
    const { service } = await serve(`${ISSUERS}${policies}${RESOURCES}`);
    expect(service.list(caller({ secret: 'x' }), 'mcp')).toEqual([]);
    expect(service.list(caller({ org: 'acme' }), 'mcp').map(({ ref }) => ref)).toEqual(['db/prod', 'db/**']);
  });

  it('what a claim or a context holds, in an answer, in a log line or to the operator', async () => {
    const scene = await serve(`${ISSUERS}${policies}${RESOURCES}`);
    const [claim, word] = [canary(), canary()];
    const failing = scene.service.with(
      caller({ org: claim, groups: [claim] }),
      { tool: 'resolve', face: 'http', ref: 'db/prod', context: { word } },
      () => Promise.resolve(''),
    );
    const error: unknown = await failing.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'denied', policy: 'no' });
    for (const text of [String(error), JSON.stringify(error), JSON.stringify(scene.lines), ...scene.told]) {
      expect(text).not.toContain(claim);
      expect(text).not.toContain(word);
    }
  });
});
