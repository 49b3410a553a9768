// Bundles as people write them, right and wrong: what is understood, and the exact words and places of every problem.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { bundleWarnings, loadBundle } from '../../src/config/bundle.ts';
import { KzError } from '../../src/core/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'kz-bundle-'));
const file = join(folder, 'bundle.yaml');

afterAll(() => {
  rmSync(folder, { recursive: true });
});

function load(text: string | Uint8Array) {
  writeFileSync(file, text);
  return loadBundle(file);
}

/** `line:column message`, and the hint behind ` → ` where one is wanted. */
async function problems(text: string | Uint8Array, withHints = false): Promise<string[]> {
  const error: unknown = await load(text).catch((caught: unknown) => caught);
  if (!(error instanceof KzError)) throw new Error('the bundle was taken');
  return (error.problems.length > 0 ? error.problems : [error]).map(({ at, message, hint }) => {
    const place = at === undefined ? '' : `${String(at.line)}:${String(at.column)} `;
    return `${place}${message}${withHints && hint !== undefined ? ` → ${hint}` : ''}`;
  });
}

const KEYZERO = `
version: "1"
issuers:
  - name: github
    issuer_url: https://token.actions.githubusercontent.com
    type: github-actions
    audience: kz
policies:
  - name: ci-reads
    rule: "org == 'acme' && ref.matches('github/**')"
    effect: allow
resources:
  - ref: github/pat
    resolver: gh
    hosts: [api.github.com]
    methods: [GET]
backends:
  gh: { type: env_file, path: ./secrets.env }
  v: { type: hashicorp_vault, address: "https://vault.internal:8200", ca: ca.crt }
  a: { type: aws_secrets_manager, region: us-east-1 }
  o: { type: onepassword_cli }
`;

it('loads the example of KeyZero with hosts, methods and audience', async () => {
  const bundle = await load(KEYZERO);
  expect(bundle).toMatchObject({ file, version: '1' });
  expect(bundle.issuers).toEqual([
    {
      name: 'github',
      issuerUrl: 'https://token.actions.githubusercontent.com',
      type: 'github-actions',
      audience: ['kz'],
      staticKeys: [],
      map: new Map(),
      at: { file, line: 4, column: 5 },
    },
  ]);
  expect(bundle.policies[0]).toMatchObject({ effect: 'allow', at: { line: 10, column: 12 } });
  expect(bundle.resources).toEqual([
    {
      ref: 'github/pat',
      resolver: 'gh',
      mode: 'masked',
      ttlMs: 900_000,
      location: { kind: 'header', name: 'Authorization', prefix: 'Bearer' },
      hosts: ['api.github.com'],
      methods: ['GET'],
      at: { file, line: 13, column: 5 },
      places: expect.objectContaining({ ref: { file, line: 13, column: 5 }, paths: [] }) as unknown,
    },
  ]);
  expect([...bundle.backends.values()].map(({ provider, options, path }) => ({ provider, options, path }))).toEqual([
    { provider: 'file', options: {}, path: join(folder, 'secrets.env') },
    { provider: 'vault', options: { vault: { address: 'https://vault.internal:8200', ca: join(folder, 'ca.crt') } }, path: undefined },
    { provider: 'aws', options: { aws: { region: 'us-east-1' } }, path: undefined },
    { provider: '1password', options: { '1password': {} }, path: undefined },
  ]);
  expect(bundleWarnings(bundle)).toEqual([]);
});

it('says what to add to the example of KeyZero', async () => {
  const text = KEYZERO.replace('    audience: kz\n', '').replace(/ {4}(hosts|methods): .*\n/g, '');
  expect(await problems(text, true)).toEqual([
    '4:5 issuer "github" has no audience → add `audience: …`: the word that its tokens carry in aud for this server (`audience: any` takes every token)',
    '12:5 resource "github/pat" has no hosts → add `hosts: [api.example.com]`: the only hosts that its value may be sent to (or `mode: direct`, which hands the value out)',
    '12:5 resource "github/pat" has no methods → add `methods: [GET]`: the only methods that its value may be sent with (or `mode: direct`, which hands the value out)',
  ]);
});

it.each(['version: 1', 'version: "1"', '\uFEFFversion: "1"\r\nissuers:\r\npolicies: []\r\n', '---\nversion: "1"\n...\n'])(
  'a version is enough: %j',
  async (text) => {
    const bundle = await load(text);
    expect(bundle).toMatchObject({ version: '1', issuers: [], policies: [], resources: [] });
    expect(bundleWarnings(bundle).map((warning) => warning.text)).toEqual(['the bundle has no issuers: nobody is let in']);
  },
);

it('reads every key of an issuer', async () => {
  const { issuers } = await load(`
version: "1"
issuers:
  - { name: k8s, issuer_url: "https://k8s.example", type: kubernetes, audience: [kz, other], jwks_url: "http://127.0.0.1:1/jwks", ca: ./ca.crt,
      token_file: /var/token, algorithms: [ES256], max_age: 1h, map: { org: claims.tenant.id, service: ["kubernetes.io", namespace] },
      static_keys: [{ kid: a, alg: HS256, secret_env: KEY }, { alg: RS256, pem_file: k.pem }] }`);
  expect(issuers[0]).toEqual({
    name: 'k8s',
    issuerUrl: 'https://k8s.example',
    type: 'kubernetes',
    audience: ['kz', 'other'],
    jwksUrl: 'http://127.0.0.1:1/jwks',
    ca: join(folder, 'ca.crt'),
    tokenFile: '/var/token',
    algorithms: ['ES256'],
    maxAgeMs: 3_600_000,
    map: new Map([
      ['org', ['tenant', 'id']],
      ['service', ['kubernetes.io', 'namespace']],
    ]),
    staticKeys: [
      { kid: 'a', alg: 'HS256', secretEnv: 'KEY', at: { file, line: 6, column: 21 } },
      { alg: 'RS256', pemFile: join(folder, 'k.pem'), at: { file, line: 6, column: 62 } },
    ],
    at: { file, line: 4, column: 5 },
  });
});

function resource(keys: string): string {
  return `version: "1"\nbackends: { b: { type: env } }\nresources:\n  - { ref: "a/*", resolver: b, hosts: [h.com], methods: [GET], ${keys} }`;
}

it.each([
  ['header:X-Api-Key:', { kind: 'header', name: 'X-Api-Key', prefix: '' }],
  ['header:X-Api-Key', { kind: 'header', name: 'X-Api-Key', prefix: '' }],
  ['header:authorization', { kind: 'header', name: 'authorization', prefix: 'Bearer' }],
  ['header:Authorization:', { kind: 'header', name: 'Authorization', prefix: '' }],
  ['header:X:a:b', { kind: 'header', name: 'X', prefix: 'a:b' }],
  ['query:key', { kind: 'query', name: 'key' }],
  ['basic', { kind: 'basic' }],
  ['basic:ci', { kind: 'basic', user: 'ci' }],
])('credential_location %s', async (written, location) => {
  expect((await load(resource(`credential_location: "${written}"`))).resources[0]?.location).toEqual(location);
});

it.each([
  ['credential_location: "header:Host:"', 'credential_location "header:Host:" names a header that belongs to the connection'],
  [
    'credential_location: "header:Proxy-Authorization"',
    'credential_location "header:Proxy-Authorization" names a header that belongs to the connection',
  ],
  ['credential_location: "header:a b"', 'credential_location names no header'],
  ['credential_location: "header:X:a\\r\\nb"', /^credential_location .*has a prefix that is not printable ASCII/],
  ['credential_location: "query:a&b"', 'credential_location names no parameter of a query'],
  ['credential_location: "basic:ci:CANARY-pw"', /^credential_location names no user/],
  ['credential_location: "cookie:x"', /^credential_location "cookie:x" is none of header:NAME:PREFIX/],
  ['ttl: 2h', 'ttl "2h" is longer than 1h'],
  ['ttl: 0', 'ttl 0 is too small'],
  ['ttl: 1ms', 'ttl "1ms" is shorter than 1s'],
  ['mode: mask', 'unknown mode "mask"'],
  ['paths: [repos]', 'paths "repos" does not start with a slash'],
  ['from: "{2}"', 'from has {2}, and ref has only 1'],
  ['from: "{name}"', 'from has {name}, which stands for nothing'],
  ['check: GET https://other.com/', 'check goes to other.com, which hosts does not cover'],
  ['check: GET http://h.com/', /^check is not a method and an https address/],
  ['check: "GET https://u:CANARY-pw@h.com/"', /^check is not a method and an https address/],
  ['description: 5', 'description is a number, not text'],
  ['fields: x', 'unknown key "fields" in resource "a/*"'],
])('refuses %s', async (keys, message) => {
  const [problem, ...others] = (await problems(resource(keys))).map((text) => text.replace(/^4:\d+ /, ''));
  expect(others).toEqual([]);
  expect(problem).toMatch(message);
  expect(problem).not.toContain('CANARY');
});

it.each(['"*"', 'https://h.com', '"*.com"', '"u:CANARY-pw@h.com"'])('refuses host %s', async (host) => {
  const found = await problems(
    `version: 1\nbackends: {b: {type: env}}\nresources: [{ref: a, resolver: b, hosts: [${host}], methods: [GET]}]`,
  );
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(/^3:43 hosts/);
  expect(found[0]).not.toContain('CANARY');
});

it('reports everything at once, each at its place', async () => {
  const text = `version: 2
issuer: x
issuers:
  - name: a
    issuer_url: http://issuer.example.com
    type: github
    audience: [kz, any]
    jwks_url: https://user:CANARY-pw@x.com/
    jwks_file: ./x
    algorithms: [HS256, none]
    static_keys: [{ alg: none }, { alg: RS256, secret_env: X }, { kid: a, alg: HS256, pem: "-----BEGIN PUBLIC KEY-----" }, { kid: a, alg: HS256, secret_env: "a b" }]
    map: { orgg: x, org: a..b }
  - { name: a, issuer_url: https://x, type: custom, audience: kz, static_keys: [{ alg: ES256, pem: "-----BEGIN PRIVATE KEY-----" }], ca: x }
policies:
  - { name: default-deny, rule: "", effect: alow }
resources:
  - { ref: a, resolver: ghh, hosts: h.com, methods: [get, CONNECT] }
  - { ref: a }
backends:
  gh: { type: env_file }
  k: { type: keyzero }
  v: { type: vault, addres: x, auth: foo }
  e: { type: exec }
  w: { type: valt }
`;
  expect(await problems(text)).toEqual([
    '1:1 version 2 is not known',
    '2:1 unknown key "issuer" in the bundle',
    '5:5 issuer_url "http://issuer.example.com" is not https',
    '6:5 unknown type "github"',
    '7:20 any is no word for a list',
    '8:5 jwks_url names a user: credentials do not belong here',
    '9:5 issuer "a" has jwks_url and jwks_file',
    '10:25 unknown algorithms "none"',
    '11:19 static key number 1 has no key',
    '11:21 unknown alg "none"',
    '11:48 RS256 has no shared secret',
    '11:87 HS256 needs a shared secret, and pem holds a key pair’s',
    '11:124 kid "a" is here twice',
    '11:146 secret_env is not the name of a variable',
    '12:12 unknown key "orgg" in map',
    '12:21 org "a..b" is not a path such as claims.org.id, or a list of keys',
    '13:7 name "a" is here twice (first in line 4)',
    '13:95 pem holds a private key: the public one is enough',
    '13:134 issuer "a" has no use for ca: its keys are not asked for over the network',
    '15:7 a policy cannot be called default-deny: that is what decides when none does',
    '15:27 rule is empty',
    '15:37 unknown effect "alow"',
    '17:15 resolver "ghh" is not the name of a backend',
    '17:30 hosts is text, not a list',
    '17:54 methods "get" is not in capitals',
    '17:59 methods "CONNECT" cannot carry a credential',
    '18:5 resource "a" has no resolver',
    '18:5 resource "a" has no hosts',
    '18:5 resource "a" has no methods',
    '18:7 ref "a" is here twice (first in line 17)',
    '20:3 backend "gh" has no path',
    '21:8 type "keyzero": a server does not ask another one',
    '22:21 unknown key "addres" in backend "v"',
    '22:32 unknown auth "foo"',
    '23:3 backend "e" has no command',
    '24:8 unknown type "valt"',
  ]);
});

it('HS* only with keys of its own', async () => {
  const issuer = (more: string) =>
    `version: 1\nissuers: [{name: a, issuer_url: https://a.example, type: custom, audience: kz, algorithms: [HS256]${more}}]`;
  expect(await problems(issuer(''))).toEqual(['2:93 HS256 cannot be used with published keys']);
  expect((await load(issuer(', static_keys: [{alg: HS256, secret_env: K}]'))).issuers[0]?.algorithms).toEqual(['HS256']);
});

it('tells how to leave the old generation', async () => {
  const text = `version: "1"
tag_mappings:
  - match: { issuer: github, claims: { repository: acme/x, "kubernetes.io/ns": x } }
    tags: [a]
policies:
  - { name: p, rule: "true", effect: allow, tags: [x] }
resources:
  - name: github
    tags: [ci]
    resolvers:
      - { name: pat, mode: direct, backend: vault, path: secret/data/gh, field: token }
      - { name: app, backend: aws, secret_id: prod/gh, credential_location: "header:X:" }
`;
  expect(await problems(text, true)).toEqual([
    "3:5 tag_mappings are of an older KeyZero: there are no tags any more → delete it; where a rule asks for these tags, write: issuer == 'github' && claims.repository == 'acme/x' && claims['kubernetes.io/ns'] == 'x'",
    "6:45 tags of a policy are of an older KeyZero: resources have no tags any more → delete it; say in the rule which refs are meant: ref.matches('github/**')",
    "9:5 tags of a resource are of an older KeyZero → delete it; rules tell resources apart by their ref: ref.matches('github/**')",
    '11:9 resolvers of resource "github" are of an older KeyZero: each is a resource now → in its place, write under resources: - { ref: github/pat, resolver: vault, from: secret/data/gh, field: token, mode: direct, hosts: [api.example.com], methods: [GET] }',
    '12:9 resolvers of resource "github" are of an older KeyZero: each is a resource now → in its place, write under resources: - { ref: github/app, resolver: aws, from: prod/gh, credential_location: "header:X:", hosts: [api.example.com], methods: [GET] }',
  ]);
});

it('warns of what may be meant', async () => {
  const bundle = await load(`
version: 1
issuers: [{ name: i, issuer_url: https://i.example, type: custom, audience: any, static_keys: [{ alg: HS256, pem: CANARY-key }] }]
policies: [{ name: p, rule: "true", effect: allow }]
resources:
  - { ref: "e/**", resolver: e, mode: direct }
  - { ref: f, resolver: e, hosts: ["*.f.com"], methods: [GET] }
backends: { e: { type: env } }`);
  expect(bundleWarnings(bundle).map(({ text, at }) => `${String(at.line)} ${text}`)).toEqual([
    '3 issuer "i" takes tokens that were made for other services (audience: any)',
    '3 issuer "i" is custom and has no map: org, service and the others are empty',
    '3 a shared secret of issuer "i" is written in the bundle: name a variable, secret_env',
    '6 resource "e/**" hands its value out (mode: direct)',
    '6 resource "e/**" lets callers choose any variable of the server: start `from` with words of your own',
    '7 resource "f" may be sent to every host below f.com',
  ]);
});

it.each([
  ['rule: a == b', 3, 10],
  ['rule: "a == b"', 3, 11],
  ['rule: |\n      a ==\n      b', 4, 7],
])('a rule’s place is its first character: %j', async (rule, line, column) => {
  const { policies } = await load(`version: 1\npolicies:\n - ${rule}\n   name: a\n   effect: deny`);
  expect(policies[0]?.at).toEqual({ file, line, column });
});
