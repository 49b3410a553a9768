// `kz policy`: tables of questions and single ones, from files, and rules with mistakes at their places.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadBundle, type Bundle } from '../../../src/config/bundle.ts';
import { formatPlace, KzError } from '../../../src/core/errors.ts';
import { compilePolicies } from '../../../src/server/policies/compile-policies.ts';
import { loadCases, requestOf, runCases, type CaseResult } from '../../../src/server/policies/policy-cases.ts';
import { explainPolicy, parseClaims, unprovenClaims, type PolicyQuestion } from '../../../src/server/policies/policy-explain.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-policy-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const ISSUERS = `version: "1"
issuers:
  - name: github
    issuer_url: https://token.actions.githubusercontent.com
    type: github-actions
    audience: kz
  - name: cluster
    issuer_url: https://cluster.example
    type: kubernetes
    audience: kz
    map: { actor: [kubernetes.io, pod, name] }
`;

const REST = `
resources:
  - { ref: "github/*", resolver: env, hosts: [api.github.com], methods: [GET] }
backends:
  env: { type: env_file, path: ./secrets.env }
`;

const POLICIES = `policies:
  - { name: no-forks, effect: deny, rule: "issuer == 'github' && claims.repository_owner != 'acme'" }
  - { name: ci-reads, effect: allow, rule: "branch == 'refs/heads/main' && ref.matches('github/*') && request.method in ['', 'GET']" }
  - { name: pods, effect: allow, rule: "actor.startsWith('web-') && context.why == 'deploy'" }
`;

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function bundleOf(policies = POLICIES): Promise<Bundle> {
  return loadBundle(write('bundle.yaml', `${ISSUERS}${policies}${REST}`));
}

async function run(cases: string): Promise<readonly CaseResult[]> {
  const bundle = await bundleOf();
  const { policies, problems } = await compilePolicies(bundle);
  expect(problems).toEqual([]);
  return runCases(await loadCases(write('cases.yaml', cases), bundle), policies);
}

/** `line:column message`, or `line message`. */
async function problemsOf(work: () => Promise<unknown>): Promise<string[]> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return (error.code === 'several' ? error.problems : [error]).map(described);
  }
  throw new Error('nothing is wrong');
}

function described({ at, message }: KzError): string {
  return at === undefined ? message : `${formatPlace(at).replace(/^.*\.yaml:/, '')} ${message}`;
}

describe('a table of cases', () => {
  it('says of each whether it passed, and why', async () => {
    const results = await run(`cases:
  - name: main may read
    issuer: github
    claims: { repository_owner: acme, ref: refs/heads/main }
    ref: github/pat
    request: { tool: fetch, method: get, host: API.github.com, path: /user }
    expect: allow
    policy: ci-reads
  - name: nothing may be written
    issuer: github
    claims: { repository_owner: acme, ref: refs/heads/main }
    ref: github/pat
    request: { url: "https://api.github.com/user", method: POST }
    expect: allow
  - name: not without an owner
    issuer: github
    ref: github/pat
    expect: deny
    policy: default-deny
  - name: pods
    issuer: cluster
    claims: { kubernetes.io: { pod: { name: web-1 } } }
    ref: anything
    context: { why: deploy }
    expect: allow
`);
    expect(results.map(({ passed, verdict: { allow, policy }, case: { name, at } }) => [name, at.line, passed, allow, policy])).toEqual([
      ['main may read', 2, true, true, 'ci-reads'],
      ['nothing may be written', 9, false, false, 'default-deny'],
      ['not without an owner', 15, false, false, 'no-forks'],
      ['pods', 20, true, true, 'pods'],
    ]);
    expect(results[0]?.case.input.request).toEqual({ tool: 'fetch', method: 'GET', host: 'api.github.com', path: '/user' });
    expect(results[0]?.case.input.claims.iss).toBe('https://token.actions.githubusercontent.com');
    expect(results[2]?.verdict.steps).toEqual([
      { policy: 'no-forks', effect: 'deny', result: 'error', error: 'there is no such key: claims.repository_owner' },
    ]);
  });

  it('reports every mistake at once, with its place', async () => {
    const problems = await problemsOf(() =>
      run(`cases:
  - name: a
    issuer: githb
    claims: [1]
    ref: ../x
    request: { tool: fetsh, path: /x }
    expects: allow
    policy: ci-read
  - nope
  - { name: b, issuer: github, ref: a, expect: maybe, request: { url: "https://u:p@a.example/" } }
`),
    );
    expect(problems).toEqual([
      '2:5 case "a" has no expect',
      '3:5 case "a" names an issuer that the bundle does not have: "githb"',
      '4:5 claims is not a mapping',
      '5:5 the ref of case "a" has a `.` or `..` segment',
      '6:16 unknown tool "fetsh"',
      '6:5 case "a": path stands without host',
      '7:5 unknown key "expects" in case "a"',
      '8:5 case "a" names a policy that the bundle does not have: "ci-read"',
      '9:5 case number 2 is not a mapping',
      '10:40 unknown expect "maybe"',
      '10:55 case "b": the url holds a user or a password',
    ]);
  });

  it.each([
    ['cases: []', '1:1 there are no cases'],
    ['', '1:1 the file is empty'],
    ['- name: a', '1:1 the file is not a mapping'],
    [
      'cases: [{ name: a, issuer: cluster, claims: { iss: "https://other.example" }, ref: a, expect: deny }]',
      '1:47 the `iss` of case "a" is not that of its issuer',
    ],
    ['case: []', '1:1 the file has no cases'],
    ['cases: [a', 'not valid YAML'],
    ['cases: []\ncases: []', '"cases" is here twice'],
  ])('refuses %j', async (text, why) => {
    expect((await problemsOf(() => run(text))).join('\n')).toContain(why);
  });

  it('refuses what is no file, or too large', async () => {
    const bundle = await bundleOf();
    expect(await problemsOf(() => loadCases(join(folder, 'none.yaml'), bundle))).toEqual([
      expect.stringMatching(/^cannot read cases .*ENOENT$/),
    ]);
    expect(await problemsOf(() => loadCases(folder, bundle))).toEqual([expect.stringContaining('not a regular file')]);
    const large = write('large.yaml', `# ${'x'.repeat(1_100_000)}`);
    expect(await problemsOf(() => loadCases(large, bundle))).toEqual([expect.stringContaining('larger than 1 MiB')]);
  });
});

it('tells a request as the server would see it', () => {
  expect(requestOf({})).toEqual({ tool: 'resolve', method: '', host: '', path: '' });
  expect(requestOf({ method: 'post' })).toEqual({ tool: 'fetch', method: 'POST', host: '', path: '' });
  expect(requestOf({ tool: 'proxy', host: 'a.example' })).toEqual({ tool: 'proxy', method: 'GET', host: 'a.example', path: '/' });
  expect(requestOf({ url: 'https://A.example:8443/x/../y?q=1' })).toEqual({ tool: 'fetch', method: 'GET', host: 'a.example', path: '/y' });
  expect(() => requestOf({ url: 'https://a.example/', path: '/' })).toThrow('url stands beside host or path');
  expect(() => requestOf({ host: 'a b' })).toThrow('not the name of a host');
  for (const path of ['.evil.example/', 'admin', ':8443/', '?x'])
    expect(() => requestOf({ host: 'a.example', path })).toThrow('does not start with /');
  expect(() => requestOf({ url: 'file:///etc/passwd' })).toThrow('does not start with https://');
});

describe('rules with mistakes', () => {
  it('have their places: of one line the column too', async () => {
    const bundle = await bundleOf(`policies:
  - name: plain
    effect: allow
    rule: org == 'a' && brnach == 'b'
  - name: quoted
    effect: allow
    rule: "true && org"
  - name: block
    effect: deny
    rule: |
      org == 'a'
      && ref.matches('a/***')
  - { name: fine, effect: allow, rule: "true" }
`);
    const { policies, problems } = await compilePolicies(bundle);
    expect(policies.map(({ name }) => name)).toEqual(['fine']);
    expect(problems.map(described)).toEqual([
      `15:25 policy "plain": unknown variable: brnach`,
      `18:12 policy "quoted": logical operator requires bool operands, got 'string'`,
      `23 policy "block": the pattern of ref.matches has more than two stars in a row`,
    ]);
    expect(problems[0]?.hint).toBe('did you mean branch?');
  });
});

describe('one question', () => {
  const QUESTION: PolicyQuestion = { issuer: 'github', claims: {}, ref: 'github/pat', context: {}, request: requestOf({}) };

  it('is answered with every rule on the way', async () => {
    const claims = { repository_owner: 'acme', ref: 'refs/heads/main' };
    const { input, verdict, resource } = await explainPolicy(await bundleOf(), { ...QUESTION, claims });
    expect(input.identity).toMatchObject({ org: 'acme', branch: 'refs/heads/main' });
    expect(verdict).toMatchObject({ allow: true, policy: 'ci-reads', steps: [{ result: 'false' }, { result: 'true' }] });
    expect(resource).toMatchObject({ ref: 'github/*', resolver: 'env' });
    const other = await explainPolicy(await bundleOf(), { ...QUESTION, ref: 'other', claims });
    expect(other).toMatchObject({ verdict: { allow: false, policy: 'default-deny' }, resource: undefined });
  });

  it('finds the issuer by the claims', async () => {
    const claims = { iss: 'https://cluster.example', sub: 'system:serviceaccount:shop:web' };
    const { input } = await explainPolicy(await bundleOf(), { ...QUESTION, issuer: undefined, claims });
    expect(input).toMatchObject({ issuer: 'cluster', identity: { org: 'shop', service: 'web' } });
  });

  it.each([
    [{ issuer: 'githb' }, 'the bundle has no issuer "githb"'],
    [{ issuer: undefined }, 'the claims have no `iss`'],
    [{ issuer: undefined, claims: { iss: 'https://other.example' } }, 'no issuer of the bundle is the `iss`'],
    [{ ref: 'a//b' }, 'the ref "a//b" has an empty segment'],
  ])('%j: %s', async (more, why) => {
    expect(await problemsOf(async () => explainPolicy(await bundleOf(), { ...QUESTION, ...more }))).toEqual([expect.stringContaining(why)]);
  });
});

describe('claims of a token that nobody verified', () => {
  const jwt = (payload: string): string => `e30.${Buffer.from(payload).toString('base64url')}.c2ln`;

  it('are read', () => {
    expect(unprovenClaims(`${jwt('{"sub":"x"}')}\n`)).toEqual({ sub: 'x' });
    expect(parseClaims('{"sub":"x"}', 'it')).toEqual({ sub: 'x' });
  });

  it.each([['CANARY'], ['a.b'], ['a.b.c.d'], [jwt('CANARY')], [jwt('["CANARY"]')], [jwt('\xff')]])(
    '%j is refused, and not quoted',
    (text) => {
      const read = (): unknown => unprovenClaims(text);
      expect(read).toThrow(KzError);
      expect(read).not.toThrow('CANARY');
    },
  );
});
