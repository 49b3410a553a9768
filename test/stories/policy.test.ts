// `kz policy test` and `kz policy explain`, as a person runs them.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.ts';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
  story.write('bundle.yaml', BUNDLE);
});

afterEach(() => {
  story.end(['token.jwt']);
});

const BUNDLE = `version: "1"
issuers:
  - name: github
    issuer_url: https://token.actions.githubusercontent.com
    type: github-actions
    audience: kz
policies:
  - { name: no-forks, effect: deny, rule: "claims.repository_owner != 'acme'" }
  - { name: ci-reads, effect: allow, rule: "branch == 'refs/heads/main' && ref.matches('github/*')" }
resources:
  - { ref: "github/*", resolver: env, hosts: [api.github.com], methods: [GET] }
backends:
  env: { type: env_file, path: ./secrets.env }
`;

const GOOD = `cases:
  - { name: main, issuer: github, claims: { repository_owner: acme, ref: refs/heads/main }, ref: github/pat, expect: allow, policy: ci-reads }
`;
const BAD = '  - { name: nobody, issuer: github, ref: github/pat, expect: allow }\n';

const CLAIMS = { iss: 'https://token.actions.githubusercontent.com', repository_owner: 'acme', ref: 'refs/heads/main' };

describe.skipIf(!COMMANDS.some(({ name }) => name === 'policy'))('kz policy', () => {
  const test = ['policy', 'test', '--bundle', 'bundle.yaml', '--cases', 'cases.yaml'];
  const explain = ['policy', 'explain', '--bundle', 'bundle.yaml', '--ref', 'github/pat'];

  it('test passes', async () => {
    story.write('cases.yaml', GOOD);
    expect(await story.kz(test)).toMatchObject({ stdout: '1 case: ok\n', stderr: '', code: 0 });
    const { stdout, code } = await story.kz([...test, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ schema_version: 1, passed: true, cases: [{ name: 'main', line: 2, decision: 'allow' }] });
  });

  it('test fails, with the place and the reason', async () => {
    story.write('cases.yaml', GOOD + BAD);
    const why = 'expected allow, got deny by no-forks; no-forks failed: there is no such key: claims.repository_owner';
    expect(await story.kz(test)).toMatchObject({ stdout: `cases.yaml:3: nobody: ${why}\n2 cases: 1 failed\n`, code: 1 });
    const { stdout, code } = await story.kz([...test, '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ passed: false, cases: [{ passed: true }, { passed: false, why: 'rule-error' }] });
  });

  it('reports mistakes of both files at once', async () => {
    story.write('bundle.yaml', BUNDLE.replace('branch ==', 'brnach =='));
    story.write('cases.yaml', GOOD.replace('issuer: github', 'issuer: gitlab'));
    const { stdout, stderr, code } = await story.kz(test);
    expect({ stdout, code }).toEqual({ stdout: '', code: 1 });
    expect(stderr).toContain('bundle.yaml:9:45: policy "ci-reads": unknown variable: brnach');
    expect(stderr).toContain('cases.yaml:2:19: case "main" names an issuer that the bundle does not have: "gitlab"');
  });

  it('explains a question from flags', async () => {
    const { stdout, code } = await story.kz([
      ...explain,
      '--issuer',
      'github',
      '--claim',
      'repository_owner=acme',
      '--claim',
      'ref=refs/heads/x',
    ]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^verdict +denied\npolicy +default-deny: no rule is true\nissuer +github\norg +acme\n/);
    expect(stdout).toMatch(/\nPOLICY +EFFECT +RESULT\nno-forks +deny +false\nci-reads +allow +false\n$/);
  });

  it('explains claims from standard input', async () => {
    const { stdout, code } = await story.kz([...explain, '--claims', '-', '--json'], { input: JSON.stringify(CLAIMS) });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ claims_verified: false, issuer: 'github', decision: 'allow', policy: 'ci-reads' },
      resource: { ref: 'github/*', resolver: 'env', mode: 'masked' },
    });
  });

  it('explains a token that it does not verify, says so, and never shows it', async () => {
    const jwt = `e30.${Buffer.from(JSON.stringify({ ...CLAIMS, jti: story.canary() })).toString('base64url')}.${story.canary()}`;
    story.write('token.jwt', story.guard(jwt));
    const { stdout, code } = await story.kz([...explain, '--jwt-file', 'token.jwt', '--url', 'https://api.github.com/user']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/issuer +github \(the token was not verified\)/);
    expect(stdout).toMatch(/request +fetch GET api\.github\.com\/user/);
  });

  it.each([
    [['--url', 'https://api.github.com/user'], 0, undefined],
    [['--url', 'https://evil.example/'], 1, 'github/pat may not go to evil.example; allowed are hosts api.github.com; methods GET'],
    [['--url', 'http://api.github.com/'], 1, 'github/pat may go to api.github.com through https only'],
    [['--url', 'https://api.github.com/', '--method', 'DELETE'], 1, 'github/pat may not be used with DELETE; '],
    [['--url', 'https://evil.example/', '--tool', 'proxy'], 1, 'github/pat may not go to evil.example; '],
    [['--url', 'https://api.github.com/user?q=1', '--tool', 'proxy'], 0, undefined],
    [['--url', 'https://evil.example/', '--tool', 'list'], 0, undefined],
  ])('says what policies allow and the resource does not: %j', async (flags, status, refused) => {
    const args = [...explain, '--claims', '-', ...flags];
    const { stdout, code } = await story.kz(args, { input: JSON.stringify(CLAIMS) });
    expect(code).toBe(status);
    expect(stdout).toMatch(refused === undefined ? /^verdict +allowed\n/ : /^verdict +refused \(url-forbidden\)\n/);
    if (refused === undefined) expect(stdout).not.toMatch(/^refused/m);
    else expect(stdout.split(/^refused +/m)[1]).toContain(refused);
    const json = await story.kz([...args, '--json'], { input: JSON.stringify(CLAIMS) });
    expect((JSON.parse(json.stdout) as { refused: unknown }).refused).toEqual(
      refused === undefined ? null : expect.objectContaining({ code: 'url-forbidden' }),
    );
  });

  it.each([[[]], [['--tool', 'fetch', '--url', 'https://api.github.com/']], [['--tool', 'proxy']]])(
    'says that what policies allow is not there: %j',
    async (flags) => {
      story.write('bundle.yaml', BUNDLE.replace('ref: "github/*"', 'ref: github/app'));
      const args = [...explain, '--claims', '-', ...flags];
      const { stdout, code } = await story.kz(args, { input: JSON.stringify(CLAIMS) });
      expect(code).toBe(1);
      expect(stdout).toMatch(/^verdict +refused \(ref-unknown\)\npolicy +ci-reads\n/);
      expect(stdout).toMatch(/^refused +no resource is called github\/pat; it has github\/app$/m);
      const denied = await story.kz([...explain, '--claims', '-', ...flags], { input: JSON.stringify({ ...CLAIMS, ref: 'x' }) });
      expect(denied).toMatchObject({ code: 1, stdout: expect.stringMatching(/^verdict +denied\n(?:(?!refused)[^])*$/) as string });
    },
  );

  it.each([
    [[], 'no claims were given'],
    [['--claim', 'nonsense'], '"nonsense" is not name=value'],
    [['--claims', 'none.json'], 'cannot read --claims none.json: ENOENT'],
    [['--claims', 'bundle.yaml'], '--claims bundle.yaml is no JSON'],
    [['--jwt-file', 'bundle.yaml'], '--jwt-file bundle.yaml: the file holds no signed JWT'],
    [['--claim', 'a=b', '--url', 'ftp://a.example'], 'the url does not start with https://'],
  ])('refuses %j', async (flags, why) => {
    const { stderr, stdout } = await story.kz([...explain, ...flags]);
    expect(stdout).toBe('');
    expect(stderr).toContain(why);
  });
});
