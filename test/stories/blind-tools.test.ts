// The tools that every project uses, unmodified and blind: git, npm and pip log in with a masked token and their servers get the value.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { commits, GIT_BACKEND, GIT_ENVIRONMENT, gitServer } from './git-server.ts';
import { Story } from './kz.ts';
import { hasPip, npmRegistry, pythonIndex } from './package-registry.ts';
import { answerJson, bodyOf, Upstream } from './upstream.ts';

/** For the name of a suite. */
function skipped(isThere: boolean, what: string): string {
  return isThere ? '' : ` (skipped: ${what} is not installed)`;
}

let story: Story;
let upstream: Upstream;
let value: string;
let serve: http.RequestListener;
/** What servers keep, outside of the project. */
let place: string;

beforeEach(async () => {
  story = new Story();
  value = story.canary();
  place = join(story.folder, 'server');
  mkdirSync(place);
  upstream = await Upstream.start((request, response) => {
    serve(request, response);
  });
});

afterEach(async () => {
  story.end();
  await upstream.stop();
});

async function shell(script: string, env: Record<string, string> = {}): Promise<string> {
  const { stdout, stderr, code } = await story.kz(['run', '--blind', '--', 'sh', '-ec', script], {
    env: { ...upstream.environment, SOURCE: value, ...env },
  });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

function basic({ headers }: http.IncomingMessage): string {
  return Buffer.from(/^Basic (.*)$/.exec(headers.authorization ?? '')?.[1] ?? '', 'base64').toString('utf8');
}

function declare(name: string, host: string): void {
  upstream.configure(story, `[secrets]\n${name} = { provider = "env", ref = "SOURCE", hosts = ["${host}"] }\n`);
}

describe.skipIf(GIT_BACKEND === undefined)(`git over https${skipped(GIT_BACKEND !== undefined, 'git http-backend')}`, () => {
  const WORK = 'git clone -q "$REMOTE" work && cd work && test "$(cat hello)" = hello';
  const PUSH = 'head -c 3000000 /dev/urandom > large && git add large && git commit -q -m second && git push -q origin main';

  beforeEach(() => {
    declare('GIT_TOKEN', 'git.example');
    serve = gitServer(place, 'repo.git', (request) => basic(request) === `x-access-token:${value}`);
  });

  it('clones and pushes with a token in the URL, which stays masked in .git/config', async () => {
    await shell(`REMOTE="https://x-access-token:$GIT_TOKEN@git.example/repo.git"; ${WORK}; ${PUSH}`, GIT_ENVIRONMENT);
    expect(commits(place, 'repo.git')).toEqual(['second', 'first']);
    expect(readFileSync(join(story.project, 'work/.git/config'), 'utf8')).toMatch(/x-access-token:kz_masked_\w+@git\.example/);
  });

  it('clones and pushes with a credential helper', async () => {
    const helper = '!f() { echo username=x-access-token; echo "password=$GIT_TOKEN"; }; f';
    const env = { ...GIT_ENVIRONMENT, GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'credential.helper', GIT_CONFIG_VALUE_0: helper };
    await shell(`REMOTE=https://git.example/repo.git; ${WORK}; ${PUSH}`, env);
    expect(commits(place, 'repo.git')).toEqual(['second', 'first']);
  });

  it('fails as ever with a token that the server does not know', async () => {
    value = story.canary();
    const { code, stderr } = await story.kz(
      ['run', '--blind', '--', 'sh', '-c', 'git clone -q "https://someone:$GIT_TOKEN@git.example/repo.git" work'],
      { env: { ...upstream.environment, SOURCE: value, ...GIT_ENVIRONMENT } },
    );
    expect(code).toBe(128);
    expect(stderr).toContain('Authentication failed');
  });
});

describe('npm', () => {
  const QUIET = { npm_config_audit: 'false', npm_config_fund: 'false', npm_config_update_notifier: 'false' };

  it('installs from a registry that asks for ${NPM_TOKEN}', async () => {
    declare('NPM_TOKEN', 'registry.example');
    serve = npmRegistry(place, 'registry.example', ({ headers }) => headers.authorization === `Bearer ${value}`);
    story.write('.npmrc', 'registry=https://registry.example/\n//registry.example/:_authToken=${NPM_TOKEN}\n');
    story.write('package.json', JSON.stringify({ name: 'story', version: '1.0.0' }));
    const stdout = await shell('npm install --silent demo && node -p "require(\'demo\')"', QUIET);
    expect(stdout.trim().split('\n').at(-1)).toBe('42');
    expect(upstream.received.map(({ path }) => path)).toEqual(['/demo', '/demo/-/demo-1.0.0.tgz']);
    expect(readFileSync(join(story.project, 'package-lock.json'), 'utf8')).not.toContain('kz_masked_');
  });

  it('publishes there', async () => {
    declare('NPM_TOKEN', 'registry.example');
    let published = '';
    serve = (request, response) => {
      const isAllowed = request.headers.authorization === `Bearer ${value}`;
      void bodyOf(request).then((body) => {
        if (request.method === 'PUT') published = body;
        answerJson(response, isAllowed ? {} : { error: 'who are you?' }, isAllowed ? (request.method === 'PUT' ? 201 : 404) : 401);
      });
    };
    story.write('.npmrc', 'registry=https://registry.example/\n//registry.example/:_authToken=${NPM_TOKEN}\n');
    story.write('package.json', JSON.stringify({ name: 'story', version: '1.0.0', files: ['large.txt'] }));
    story.write('large.txt', randomBytes(2_000_000));
    await shell('npm publish --silent', QUIET);
    expect(JSON.parse(published)).toMatchObject({ name: 'story', 'dist-tags': { latest: '1.0.0' } });
    expect(upstream.received.map(({ method, path }) => `${method} ${path}`)).toContain('PUT /story');
  });
});

const pip = hasPip();

describe.skipIf(!pip)(`pip${skipped(pip, 'pip')}`, () => {
  const QUIET = { PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_NO_CACHE_DIR: '1', PIP_NO_INPUT: '1' };
  const INSTALL = 'python3 -m pip install -q --no-deps --target out';

  beforeEach(() => {
    serve = pythonIndex(place, (request) => basic(request) === `__token__:${value}`);
  });

  it('installs from an index with a token in its URL', async () => {
    declare('PIP_TOKEN', 'index.example');
    await shell(`${INSTALL} --index-url "https://__token__:$PIP_TOKEN@index.example/simple" demo`, QUIET);
    expect(existsSync(join(story.project, 'out/demo.py'))).toBe(true);
  });

  it('installs from an index whose whole URL is the secret', async () => {
    // Its host is the only one where it may go: nothing to declare.
    upstream.configure(story, '[secrets]\nPIP_INDEX_URL = { provider = "env", ref = "SOURCE" }\n', 'scope = "strict"');
    const url = `https://__token__:${value}@index.example/simple`;
    await shell(`${INSTALL} demo`, { ...QUIET, SOURCE: url });
    expect(existsSync(join(story.project, 'out/demo.py'))).toBe(true);
  });
});
