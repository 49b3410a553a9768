// `kz server check`: everything that is wrong with a bundle at once, each with its place; what it lets happen; and, when asked, whether those that it
// names answer.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestIssuer } from '../server/identity/issuer.ts';
import type { Json } from './server-parts.ts';
import { Scene, type BundleParts } from './server-scene.ts';
import type { Ended } from './kz.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.start();
});

afterEach(async () => {
  await scene.end();
});

function check(...args: string[]): Promise<Ended> {
  return scene.kz(['server', 'check', '--bundle', 'bundle.yaml', ...args]);
}

/** `file:line:column: message` of each. */
function placesOf(stderr: string): string[] {
  return Array.from(stderr.matchAll(/^kz: error: \S*\/bundle\.yaml:(.*)$/gm), ([, text = '']) => text);
}

interface Checked {
  readonly valid: boolean;
  readonly problems: readonly Json[];
  readonly warnings: readonly string[];
  readonly live: readonly { readonly what: string; readonly problem: string | null }[];
}

async function checkJson(status: number, ...args: string[]): Promise<Checked & Json> {
  const { stdout, code, stderr } = await check('--json', ...args);
  expect({ code, stderr }, stdout).toEqual({ code: status, stderr: '' });
  return JSON.parse(stdout) as Checked & Json;
}

const WRONG = `version: "1"
issuers:
  - name: lab
    issuer_url: http://issuer.example
    type: custom
    audience: kz
    static_keys: [{ kid: a, alg: none, pem: "-----BEGIN PUBLIC KEY-----" }]
policies:
  - { name: a, rule: "org = 'x'", effect: allow }
  - { name: a, rule: "org", effect: maybe }
  - name: several
    rule: |
      org == 'a' &&
      org.matches('(a')
    effect: allow
  - { name: bomb, rule: "org.matches('((a{500}){500}){500}')", effect: deny }
  - { name: glob, rule: "ref.matches('a//b')", effect: allow }
  - { name: word, rule: "orgg == 'a'", effect: allow }
resources:
  - ref: ../up
    resolver: nobody
    hosts: ["*"]
    methods: [get, TRACE]
  - ref: x/y
    resolver: gh
    hots: [a.example]
  - { ref: x/z, resolver: gh, hosts: [a.example], methods: [GET], check: GET https://b.example/ }
backends:
  gh: { type: env_fil, path: ./secrets.env }
extra: 1
`;

describe('a bundle that is wrong', () => {
  it('has all its problems told at once, in their order, each with line and column', async () => {
    scene.story.write('bundle.yaml', WRONG);
    const { code, stdout, stderr } = await check();
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(placesOf(stderr)).toEqual(
      [
        /^4:5: issuer_url "http:\/\/issuer\.example" is not https$/,
        /^7:\d+: .*none/,
        /^9:27: policy "a": "=" does not belong here$/,
        /^10:7: name "a" is here twice \(first in line 9\)$/,
        /^10:29: unknown effect "maybe"$/,
        /^14: policy "several": the regular expression is not one of RE2/,
        /^16:26: policy "bomb": the regular expression is not one of RE2/,
        /^17:26: policy "glob": the pattern of ref\.matches has an empty segment$/,
        /^18:26: policy "word": .*orgg/,
        /^20:5: resource "\.\.\/up" has a `\.` or `\.\.` segment$/,
        /^21:5: resolver "nobody" is not the name of a backend$/,
        /^22:13: hosts "\*" would let the value go anywhere$/,
        /^23:15: methods "get" is not in capitals$/,
        /^23:20: methods "TRACE" cannot carry a credential$/,
        /^24:5: resource "x\/y" has no hosts$/,
        /^24:5: resource "x\/y" has no methods$/,
        /^26:5: unknown key "hots" in resource "x\/y"$/,
        /^27:\d+: .*check/,
        /^29:9: unknown type "env_fil"$/,
        /^30:1: unknown key "extra" in the bundle$/,
      ].map((pattern) => expect.stringMatching(pattern) as string),
    );
    expect(stderr).toContain('kz: hint: did you mean "hosts"?');
    expect(stderr).toContain('kz: hint: did you mean "env_file"?');
  });

  it('the same as JSON', async () => {
    scene.story.write('bundle.yaml', WRONG);
    const { valid, problems, schema_version: schema } = await checkJson(1);
    expect({ valid, schema }).toEqual({ valid: false, schema: 1 });
    expect(problems).toHaveLength(20);
    for (const problem of problems) {
      expect(problem).toMatchObject({
        code: 'config-invalid',
        file: `${scene.story.project}/bundle.yaml`,
        line: expect.any(Number) as number,
      });
    }
    expect(problems[1]).toHaveProperty('column');
    expect(problems.at(-1)).toMatchObject({ line: 30, column: 1, message: 'unknown key "extra" in the bundle' });
  });

  it('of an older KeyZero is told what to write instead', async () => {
    const old = `version: "1"
tag_mappings: [{ tag: ci, claims: { org: acme } }]
policies:
  - { name: a, tags: [ci], effect: allow }
resources:
  - ref: x
    resolvers: [{ type: vault, path: a }]
`;
    scene.story.write('bundle.yaml', old);
    const { code, stderr } = await check();
    expect(code).toBe(1);
    expect(placesOf(stderr)).toContainEqual(expect.stringMatching(/^2:\d+: tag_mappings are of an older KeyZero/));
    expect(stderr).toContain('in its place, write under resources: - { ref: x, resolver: BACKEND');
  });

  it.each<[string, string, RegExp]>([
    [
      'a bomb of aliases',
      'version: "1"\nissuers: &a [x]\npolicies: [*a, *a]\n',
      /:2:13: a bundle has no anchors \(&\)\n[^]*:3:12: .*aliases/,
    ],
    ['a merge key', 'version: "1"\nbackends: { <<: { a: 1 } }\n', /:2:13: /],
    ['a tag', 'version: "1"\npolicies: !!js/function "x"\n', /:2:\d+: a bundle has no tags/],
    ['a bomb of brackets', `version: "1"\nissuers: ${'['.repeat(50_000)}${']'.repeat(50_000)}\n`, /nested too deeply/],
    ['a bomb of words', `version: "1"\npolicies: [${'1,'.repeat(300_000)}]\n`, /holds too much/],
    ['more than 1 MiB', `version: "1"\n#${'x'.repeat(1_100_000)}\n`, /larger than 1 MiB/],
    [
      'duplicate keys',
      'version: "1"\npolicies: []\npolicies: [{ name: a, name: b }]\n',
      /:3:1: "policies" is here twice \(first in line 2\)/,
    ],
    ['duplicate keys within', 'version: "1"\npolicies: [{ name: a, name: b }]\n', /:2:23: "name" is here twice \(first in line 2\)/],
    ['two documents', 'version: "1"\n---\nversion: "1"\n', /:2:1: /],
    ['bytes that are no text', 'version: "1" # \xff', /is not UTF-8 text/],
    ['nothing', '', /the bundle is empty/],
    ['a list', '- version', /the bundle is not a mapping/],
    ['a key of prototypes', 'version: "1"\n__proto__: { policies: [] }\n', /:2:1: __proto__ cannot be a key/],
  ])('with %s is refused, quickly', async (_, text, words) => {
    scene.story.write('bundle.yaml', Buffer.from(text, 'latin1'));
    const { code, stderr, stdout } = await check();
    expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(words);
    expect(stderr).not.toContain('bug in kz');
  });

  it('never has a value in what is said of it', async () => {
    const value = scene.story.canary();
    const keys = [
      { alg: 'HS256', secret_env: value },
      { alg: 'RS256', pem: value },
    ];
    const parts = {
      issuers: [scene.issuer.yaml({ static_keys: keys, issuer_url: `https://kz:${value}@issuer.example` })],
      backends: {
        gh: { type: 'env_file', path: './secrets.env', value },
        v: { type: 'vault', token: value, address: `https://a:${value}@b` },
      },
    };
    scene.keep('bundle.yaml', scene.text(parts));
    const { code, stderr } = await check();
    expect(code).toBe(1);
    expect(placesOf(stderr).length).toBeGreaterThan(4);
    await checkJson(1);
  });
});

describe('a bundle that is right', () => {
  it('is shown, without its values', async () => {
    const { code, stdout, stderr } = await check();
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('bundle.yaml: ok\n1 issuer, 2 policies, 1 backend; what no policy allows is denied\n');
    expect(stdout).toMatch(/^github\/pat +masked +gh +api\.example +GET, POST$/m);
    expect(await checkJson(0)).toMatchObject({ valid: true, version: '1', issuers: 1, policies: 2, resources: 4, backends: 1, live: [] });
  });

  it.each<[string, (stage: Scene) => BundleParts, RegExp]>([
    ['direct', () => ({}), /:\d+:\d+: resource "github\/raw" hands its value out \(mode: direct\)$/],
    [
      'any audience',
      (stage) => ({ issuers: [stage.issuer.yaml({ audience: 'any', map: { org: 'o' } })] }),
      /:3:5: issuer "lab" takes tokens that/,
    ],
    ['no map', (stage) => ({ issuers: [stage.issuer.yaml()] }), /issuer "lab" is custom and has no map/],
    ['no policies', () => ({ policies: [] }), /the bundle has no policies: everything is denied/],
    ['no issuers', () => ({ issuers: ['  []'] }), /the bundle has no issuers: nobody is let in/],
    ['no resources', () => ({ resources: [] }), /the bundle has no resources/],
    [
      'wide hosts',
      () => ({ resources: [{ ref: 'a/b', resolver: 'gh', from: 'A', hosts: ['*.a.example'], methods: ['GET'] }] }),
      /resource "a\/b" may be sent to every host below a\.example/,
    ],
    [
      'refs that callers choose',
      () => ({ resources: [{ ref: 'a/**', resolver: 'f', hosts: ['a.example'], methods: ['GET'] }], backends: { f: { type: 'file' } } }),
      /resource "a\/\*\*" lets callers choose any file/,
    ],
    [
      'a secret in it',
      (stage) => {
        const pem = stage.story.canary().padEnd(48, 'x');
        return { issuers: [stage.issuer.yaml({ map: { org: 'o' }, static_keys: [{ alg: 'HS256', pem }] })] };
      },
      /a shared secret of issuer "lab" is written in the bundle/,
    ],
  ])('but lets much happen is warned of: %s', async (_, parts, words) => {
    scene.keep('bundle.yaml', scene.text(parts(scene)));
    const { code, stdout, stderr } = await check();
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('bundle.yaml: ok\n');
    expect(stderr.split('\n').filter((line) => line.startsWith('kz: warning: ') && words.test(line))).toHaveLength(1);
    const { warnings } = await checkJson(0);
    expect(warnings.filter((text) => words.test(text))).toHaveLength(1);
  });

  it('has expressions that are found anywhere, and is warned of them where they allow', async () => {
    const rule = `org.matches('acme/app') && !org.matches('evil') && matches(branch, '^main') && ref.matches('github/*')`;
    scene.keep(
      'bundle.yaml',
      scene.text({
        policies: [
          { name: 'reads', effect: 'allow', rule },
          { name: 'never', effect: 'deny', rule: `org.matches('acme')` },
        ],
      }),
    );
    const text =
      'the rule of policy "reads" has matches("acme/app"), which is true of every text that holds it: for the whole text write "^acme/app$"';
    const { code, stderr } = await check();
    expect(code, stderr).toBe(0);
    expect(stderr.split('\n').filter((line) => line.includes('matches('))).toEqual([expect.stringMatching(/:\d+:\d+: /)]);
    expect(stderr).toContain(text);
    expect((await checkJson(0)).warnings.filter((warning) => warning.includes('matches('))).toHaveLength(1);
  });

  it('is asked for no network without --live', async () => {
    await check();
    expect(scene.issuer.requests).toEqual([]);
  });
});

describe('--live', () => {
  it('asks issuers for their keys and backends whether they are there', async () => {
    const { code, stdout, stderr } = await check('--live');
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^issuer lab +ok\nbackend gh +ok\n/m);
    expect(scene.issuer.fetches).toBe(1);
    expect(await checkJson(0, '--live')).toMatchObject({
      live: [
        { what: 'issuer lab', problem: null },
        { what: 'backend gh', problem: null },
      ],
    });
  });

  it('says which of them fail, and why', async () => {
    const down = await TestIssuer.start();
    await down.stop();
    const sick = await TestIssuer.start();
    sick.trouble = 500;
    const vault = { type: 'hashicorp_vault', address: down.url, auth: 'token' };
    scene.bundle({
      issuers: [scene.lab, down.yaml({ name: 'down', map: { org: 'o' } }), sick.yaml({ name: 'sick', map: { org: 'o' } })],
      backends: { gh: { type: 'env_file', path: './secrets.env' }, vault },
    });
    const options = { env: { VAULT_TOKEN: scene.story.canary('hvs.') } };
    const { code, stdout, stderr } = await scene.kz(['server', 'check', '--bundle', 'bundle.yaml', '--live'], options);
    await Promise.all([down.close(), sick.close()]);
    expect(code, stderr).toBe(1);
    expect(stdout).toMatch(/^issuer lab +ok$/m);
    expect(stdout).toMatch(/^issuer down +cannot reach http:\S+ \(ECONNREFUSED\); check the address, and the network$/m);
    expect(stdout).toMatch(/^issuer sick +.*500/m);
    expect(stdout).toMatch(/^backend vault +.*nothing listens there \(ECONNREFUSED\); is it running\? check `address` in backend "vault"/m);
  });

  it('says what to do about an issuer', async () => {
    const discovered = scene.issuer.yaml({ issuer_url: `${scene.issuer.url}/`, jwks_url: undefined, map: { org: 'o' } });
    scene.bundle({ issuers: [discovered] });
    const { code, stdout } = await check('--live');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^issuer lab +.* is the discovery document of another issuer; its `issuer` must be the same as `issuer_url`/m);
  });

  it('waits no longer than --timeout, and ends by a signal', async () => {
    scene.issuer.trouble = 'slow';
    const { code, stdout, stderr } = await check('--live', '--timeout', '300ms');
    expect(code, stderr).toBe(1);
    expect(stdout).toMatch(/^issuer lab +its keys did not come in time\nbackend gh +ok$/m);
    const child = scene.story.start(['server', 'check', '--bundle', 'bundle.yaml', '--live']);
    const ended = new Promise((resolve) =>
      child.once('close', (_, signal) => {
        resolve(signal);
      }),
    );
    while (scene.issuer.fetches < 2) await new Promise((resolve) => setImmediate(resolve));
    child.kill('SIGINT');
    expect(await ended).toBe('SIGINT');
  });
});
