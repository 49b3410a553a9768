// MCP servers from npm, unmodified, in isolation, with a client that speaks the protocol to them over stdio: they do what they do elsewhere,
// except what they should not.
import type http from 'node:http';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ISOLATION_NOTE, NO_ISOLATION, ownTemporary } from '../stories/isolation.ts';
import { FIXTURES, has, Story } from '../stories/kz.ts';
import { PACKAGES, serverParameters, Session, writeServers } from '../stories/mcp-client.ts';
import { answerJson, Upstream } from '../stories/upstream.ts';
import { installedRegistry } from './clients/installed-registry.ts';
import { installed } from './mcp-servers.ts';

const EVERYTHING = '@modelcontextprotocol/server-everything';
const GITHUB = join(PACKAGES, '@modelcontextprotocol/server-github/dist/index.js');
const servers = installed();

let story: Story;
let upstream: Upstream;
let session: Session | undefined;
let value: string;
let serve: http.RequestListener;

beforeEach(async () => {
  story = new Story();
  session = undefined;
  serve = (_, response) => {
    answerJson(response, {}, 404);
  };
  upstream = await Upstream.start((request, response) => {
    serve(request, response);
  });
});

afterEach(async () => {
  await session?.client.close();
  story.end();
  await upstream.stop();
});

/** `hosts` is what the secret is for, and what the rules allow besides `rules`. */
async function start(
  command: readonly string[],
  { name = 'TOKEN', prefix = '', host = 'api.example.test', rules = '' } = {},
): Promise<Session> {
  value = story.canary(prefix);
  const allow = (each: string): string => `[[blind.connections]]\nallow = true\nhost = "${each}"\n`;
  upstream.configure(
    story,
    // The packages may lie in the temp folder, as a clone there does.
    `[secrets]\n${name} = { provider = "store", ref = "it", hosts = ["${host}"] }\n[blind.sandbox]\nread = ["${PACKAGES}"]\n${allow(host)}${rules && allow(rules)}`,
  );
  const { code, stderr } = await story.kz(['put', name], { input: value });
  expect(code, stderr).toBe(0);
  const args = ['run', '--blind', '--sandbox', 'strict', '--', ...command];
  writeServers(story, { server: { command: 'kz', args, env: { ...upstream.environment, TMPDIR: ownTemporary(story) } } });
  return connect();
}

async function connect(): Promise<Session> {
  session = new Session(serverParameters(story, 'server'));
  try {
    await session.connect();
  } catch (error) {
    throw new Error(`no session: ${session.stderr}`, { cause: error });
  }
  return session;
}

/** Closes the client; the server must end by itself, having said nothing but messages. */
async function end(ended: Session): Promise<void> {
  await ended.close();
  ended.keep(story, 'server');
  expect(ended.noise).toEqual([]);
  expect(ended.stderr).not.toContain('kz: ');
}

describe.skipIf(NO_ISOLATION !== undefined)(`isolated${ISOLATION_NOTE}`, () => {
  it('server-everything answers, and prints an environment without values', async () => {
    const opened = await start(['node', join(PACKAGES, EVERYTHING, 'dist/index.js'), 'stdio']);
    const tools = await opened.tools();
    expect(tools).toContain('echo');
    expect(await opened.call('echo', { message: 'hello' })).toContain('hello');
    const printer = tools.find((tool) => /env/i.test(tool)) ?? '';
    const environment = await opened.call(printer);
    expect(environment).toMatch(/"TOKEN": *"kz_masked_/);
    expect(environment).not.toContain(value);
    const long = randomBytes(500_000).toString('hex');
    expect(await opened.call('echo', { message: long })).toContain(long);
    await end(opened);
  });

  it('server-github sends the value and sees the token', async () => {
    serve = ({ headers }, response) => {
      answerJson(response, { title: `you are ${headers.authorization ?? 'nobody'}` });
    };
    const options = { name: 'GITHUB_PERSONAL_ACCESS_TOKEN', prefix: 'ghp_', host: 'api.github.com' };
    const opened = await start(['node', GITHUB], options);
    expect(await opened.tools()).toContain('get_issue');
    const issue = await opened.call('get_issue', { owner: 'a', repo: 'b', issue_number: 1 });
    expect(issue).toMatch(/you are Bearer ghp_kz_masked_[0-9a-f]{32}"/);
    await end(opened);
    expect(upstream.received.map(({ host, path, headers }) => [host, path, headers.authorization])).toEqual([
      ['api.github.com', '/repos/a/b/issues/1', `Bearer ${value}`],
    ]);
  });

  const noFilesystem = 'problem' in servers ? ` (skipped: ${servers.problem})` : '';
  it.skipIf('problem' in servers)(`server-filesystem writes in the project and nowhere else${noFilesystem}`, async () => {
    const packages = 'packages' in servers ? servers.packages : '';
    const [project, outside] = [realpathSync(story.project), realpathSync(FIXTURES)];
    const name = `written-${randomBytes(6).toString('hex')}`;
    const key = `PRIVATE-${randomBytes(12).toString('hex')}`;
    mkdirSync(join(story.home, '.ssh'));
    writeFileSync(join(story.home, '.ssh/id_ed25519'), key);
    // All of these folders are the server's to use, as far as it is concerned.
    const program = join(packages, '@modelcontextprotocol/server-filesystem/dist/index.js');
    const opened = await start(['node', program, project, outside, realpathSync(story.home)]);
    try {
      expect(await opened.tools()).toContain('write_file');
      await opened.call('write_file', { path: join(project, name), content: 'hello' });
      expect(readFileSync(join(project, name), 'utf8')).toBe('hello');
      await opened.call('create_directory', { path: join(project, 'a/b') });
      await opened.call('move_file', { source: join(project, name), destination: join(project, 'a/b', name) });
      expect(readdirSync(join(project, 'a/b'))).toEqual([name]);
      expect(await opened.call('read_text_file', { path: join(outside, 'recorder.mjs') })).toContain('SIGINT');
      expect(await opened.call('write_file', { path: join(outside, name), content: 'hello' })).toMatch(/EROFS|EACCES|EPERM/);
      expect(existsSync(join(outside, name))).toBe(false);
      const stolen = await opened.call('read_text_file', { path: join(realpathSync(story.home), '.ssh/id_ed25519') });
      expect(stolen).not.toContain(key);
      expect(stolen).toMatch(/ENOENT|EACCES|denied|does not exist/i);
      const config = join(project, '.keyzero.toml');
      expect(await opened.call('write_file', { path: config, content: '' })).toMatch(/EROFS|EACCES|EPERM|EBUSY/);
      expect(readFileSync(config, 'utf8')).toContain('[secrets]');
    } finally {
      rmSync(join(outside, name), { force: true });
    }
    await end(opened);
  });

  const noNpx = has('npx') ? '' : ' (skipped: no npx)';
  it.skipIf(!has('npx'))(
    `npx -y of server-everything, from a registry and then from the user's cache${noNpx}`,
    { timeout: 120_000 },
    async () => {
      const registry = 'registry.example.test';
      const { version } = JSON.parse(readFileSync(join(PACKAGES, EVERYTHING, 'package.json'), 'utf8')) as { version: string };
      serve = installedRegistry(registry, PACKAGES, EVERYTHING);
      // kz makes a missing one, but not below a temporary folder, where a story's home is.
      mkdirSync(join(story.home, '.npm'));
      story.write('.npmrc', `registry=https://${registry}/\n`);
      const first = await start(['npx', '-y', `${EVERYTHING}@${version}`, 'stdio'], { rules: registry });
      expect(await first.call('echo', { message: 'hello' })).toContain('hello');
      await first.close();
      expect(existsSync(join(story.home, '.npm/_npx'))).toBe(true);
      const asked = upstream.received.length;
      expect(asked).toBeGreaterThan(10);
      const second = await connect();
      expect(await second.call('echo', { message: 'again' })).toContain('again');
      await second.close();
      // npm may look whether there is a newer one, and needs nothing of it.
      expect(upstream.received.slice(asked).filter(({ path }) => path.endsWith('.tgz'))).toEqual([]);
    },
  );
});
