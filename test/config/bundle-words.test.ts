// What a person who made a mistake reads: what is wrong, where, and what to write. Each line is one mistake in a bundle that is right otherwise.
import { expect, it } from 'vitest';
import { readBundle } from '../../src/config/bundle-read.ts';
import { bundleWarnings } from '../../src/config/bundle.ts';
import { readYaml, type Path, type YamlText } from '../../src/config/bundle-yaml.ts';

const RIGHT = `version: "1"
issuers:
  - name: github
    issuer_url: https://issuer.example
    type: github-actions
    audience: kz
policies:
  - name: reads
    effect: allow
    rule: org == 'acme'
resources:
  - ref: github/pat
    resolver: gh
    hosts: [api.github.com]
    methods: [GET, POST]
backends:
  gh: { type: env_file, path: ./secrets.env }
`;

function read(yaml: YamlText) {
  const place = (path: Path) => ({ file: 'bundle.yaml', ...yaml.place(path) });
  return readBundle(yaml.content, { file: 'bundle.yaml', place, textPlace: place, absolute: (path) => path });
}

/** `line:column message → hint`, of each. */
async function words(text: string): Promise<string[]> {
  const yaml = await readYaml(text);
  const found =
    'problems' in yaml ? yaml.problems : read(yaml).problems.map(({ path, message, hint }) => ({ message, hint, at: yaml.place(path) }));
  return found.map(
    ({ at, message, hint }) => `${String(at.line)}:${String(at.column)} ${message}${hint === undefined ? '' : ` → ${hint}`}`,
  );
}

it('says nothing of what is right', async () => {
  expect(await words(RIGHT)).toEqual([]);
});

it.each<[string, string, string]>([
  [
    "rule: org == 'acme'",
    "rule: 'acme' == org",
    '10:18 not valid YAML: the value goes on after its closing quote → write `|` after the key, and the value as it is on the next line, indented',
  ],
  [
    "rule: org == 'acme'",
    'rule: "acme" == org && true',
    '10:18 not valid YAML: the value goes on after its closing quote → write `|` after the key, and the value as it is on the next line, indented',
  ],
  ['[GET, POST]', '[GET, POST', '15:14 not valid YAML: this bracket is not closed'],
  ['secrets.env }', 'secrets.env', '17:7 not valid YAML: this bracket is not closed'],
  ['audience: kz', 'audience: "kz', '6:15 not valid YAML: this quote is not closed'],
  ['audience: kz', "audience: 'it''s", '6:15 not valid YAML: this quote is not closed'],
  [
    'audience: kz',
    'audience:\u00a0kz',
    '6:5 not valid YAML: the line has a space that YAML does not know (U+00A0) → write an ordinary space',
  ],
  ['    type: git', '   type: git', '5:1 not valid YAML: wrong indentation → the keys of one mapping start in one column'],
])('%s as %s', async (right, wrong, expected) => {
  expect(RIGHT).toContain(right);
  expect((await words(RIGHT.replace(right, wrong)))[0]).toBe(expected);
});

it.each<[string, string, string]>([
  ['    effect: allow\n', '', '8:5 policy "reads" has no effect → add `effect: …`: one of allow, deny'],
  [
    "    rule: org == 'acme'\n",
    '',
    "8:5 policy \"reads\" has no rule → add `rule: …`: when it applies, such as org == 'acme' && ref.matches('github/**')",
  ],
  ["org == 'acme'", 'true', '10:5 rule is the word true without quotes, not text → put it in quotes'],
  [
    'name: reads',
    'name: default-deny',
    '8:5 a policy cannot be called default-deny: that is what decides when none does → give it another name; a rule that denies all the rest is not needed',
  ],
  ['type: github-actions', 'type: github', '5:5 unknown type "github" → did you mean "github-actions"?'],
  ['type: github-actions', 'type: g', '5:5 unknown type "g" → one of github-actions, kubernetes, gcp, aws, custom'],
  [
    'https://issuer.example',
    'issuer.example',
    '4:5 issuer_url "issuer.example" is not an address such as https://issuer.example.com → write https://issuer.example',
  ],
  [
    'https://issuer.example',
    'http://issuer.example',
    '4:5 issuer_url "http://issuer.example" is not https → plain http is for this machine alone',
  ],
  ['https://issuer.example', 'https://issuer.example/?a=b', '4:5 issuer_url has a ? query'],
  ['https://issuer.example', 'https://issuer.example?', '4:5 issuer_url has a ? query'],
  ['https://issuer.example', 'https://issuer.example/#?a', '4:5 issuer_url "https://issuer.example/#?a" has a # fragment'],
  ['audience: kz', 'audience: 5', '6:5 audience 5 is neither text nor a list of texts → put it in quotes'],
  ['audience: kz', 'audience: kz\n    max_age: 3600', '7:5 max_age is a number, not text → write 3600s, if seconds are meant'],
  [
    'audience: kz',
    'audience: kz\n    jwks_uri: https://x.example',
    '7:5 unknown key "jwks_uri" in issuer "github" → did you mean "jwks_url"?',
  ],
  [
    'audience: kz',
    'audience: kz\n    static_keys: [{ pem_file: x }]',
    '7:19 static key number 1 has no alg → add `alg: …`: one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512',
  ],
  ['    resolver: gh\n', '', '12:5 resource "github/pat" has no resolver → add `resolver: …`: the name of a backend'],
  [
    'ref: github/pat',
    'ref: op://Vault/item/field',
    '12:5 ref "op://Vault/item/field" is an address: a ref is the name that callers use → write a name, and `from: "op://Vault/item/field"` beside it',
  ],
  ['    hosts:', '    path: secret/gh\n    hosts:', '14:5 unknown key "path" in resource "github/pat" → did you mean "from" or "paths"?'],
  ['    hosts:', '    secret_id: prod/gh\n    hosts:', '14:5 unknown key "secret_id" in resource "github/pat" → did you mean "from"?'],
  [
    '    hosts:',
    '    condition: x\n    hosts:',
    '14:5 unknown key "condition" in resource "github/pat" → known keys: ref, resolver, from, field, mode, ttl, credential_location, hosts, methods, paths, check, description',
  ],
  [
    '[api.github.com]',
    '["https://api.github.com"]',
    '14:13 hosts "https://api.github.com" is not a bare host: no scheme, path, user or space → write api.github.com',
  ],
  [
    '[api.github.com]',
    '[api.github.com/repos]',
    '14:13 hosts "api.github.com/repos" is not a bare host: no scheme, path, user or space → write api.github.com; what follows belongs in `paths`',
  ],
  ['[api.github.com]', '["https://me:CANARY-pw@api.github.com/"]', '14:13 hosts is not a bare host: no scheme, path, user or space'],
  [
    '[api.github.com]',
    '["re:.*github.*"]',
    '14:13 hosts "re:.*github.*" is an expression of [[blind.connections]] → name the hosts: api.example.com, "*.example.com"',
  ],
  ['[GET, POST]', '["*"]', '15:15 methods "*" would let the value be used for anything → name the methods: [GET, POST]'],
  [
    '    hosts:',
    '    check: HEAD https://api.github.com/\n    hosts:',
    '14:5 check uses HEAD, which methods does not name → add HEAD to methods',
  ],
  [
    'type: env_file, path: ./secrets.env',
    'type: aws_sts',
    '17:9 type "aws_sts" is of an older KeyZero: kz asks AWS for no sessions → `type: exec` with a `command` that prints one; or a resource whose value is a key, from `type: aws`',
  ],
  [
    '  gh: { type: env_file, path: ./secrets.env }',
    '  - { name: gh, type: env_file, path: ./secrets.env }',
    '16:1 backends is not a mapping → write each as `NAME: { type: env_file, path: ./secrets.env }`',
  ],
])('%s as %s, and nothing else', async (right, wrong, expected) => {
  expect(RIGHT).toContain(right);
  expect(await words(RIGHT.replace(right, wrong))).toEqual([expected]);
});

it.each(['00AD', '034F', '115F', '1160', '180B', '2003', '200D', '2800', '3164', 'FE0F', 'FFA0', '00A0'])(
  'refuses a name with U+%s, which cannot be seen, and takes it in a description',
  async (code) => {
    const unseen = `"a\\u${code}b"`;
    const bundle = RIGHT.replace('    hosts:', `    description: ${unseen}\n    hosts:`);
    expect(await words(bundle)).toEqual([]);
    const named = bundle
      .replace('name: github', `name: ${unseen}`)
      .replace('name: reads', `name: ${unseen}`)
      .replace('  gh: {', `  ${unseen}: {`);
    expect((await words(named)).map((text) => text.replace(/^(\d+):.* (holds a character that cannot be seen).*/, '$1 $2'))).toEqual([
      '18 holds a character that cannot be seen',
      '3 holds a character that cannot be seen',
      '8 holds a character that cannot be seen',
      expect.stringContaining('resolver "gh" is not') as string,
    ]);
  },
);

it('takes names with spaces and letters of any language', async () => {
  expect(await words(RIGHT.replace('name: reads', 'name: Größe 読む'))).toEqual([]);
});

it.each([
  ['Authorization', 'write `header:Authorization`'],
  ['X-Api-Key', 'write `header:X-Api-Key`'],
  ['bearer', 'write `header:Authorization:Bearer`'],
  ['header:Authorization: Bearer', 'write `header:Authorization:Bearer`'],
  ['query:a&b', undefined],
  ['body:token', undefined],
])('credential_location %s: %s', async (written, hint) => {
  const [found = ''] = await words(RIGHT.replace('    hosts:', `    credential_location: "${written}"\n    hosts:`));
  expect(found.split(' → ')[1]).toBe(hint);
});

it.each([
  ["ref.matches('github/.*')", true],
  ['ref.matches("prod/.+")', true],
  ["org == 'x' || ref . matches( '.*' )", true],
  ["ref.matches('releases/v1.*')", false],
  ["claims.ref.matches('github/.*')", false],
  ["org.matches('.*')", false],
])('warns of an expression where a glob belongs: %s: %s', async (rule, warned) => {
  const yaml = await readYaml(RIGHT.replace("rule: org == 'acme'", `rule: |\n      ${rule}`));
  if ('problems' in yaml) throw new Error('no YAML');
  const warnings = bundleWarnings({ ...read(yaml).bundle, sha256: '' }).map(({ text }) => text);
  const text = 'the rule of policy "reads" has `.*` in ref.matches, which takes globs, where a dot is a dot: write `**`';
  expect(warnings).toEqual(warned ? [text] : []);
});
