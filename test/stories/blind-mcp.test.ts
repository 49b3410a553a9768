// An MCP server from npm, unmodified and blind: its API gets the value, its client never sees it.
import type http from 'node:http';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endBlind, startBlind } from './blind-server.ts';
import { Story } from './kz.ts';
import { PACKAGES, type Session } from './mcp-client.ts';
import { answerJson, bodyOf, Upstream } from './upstream.ts';

const GITHUB = join(PACKAGES, '@modelcontextprotocol/server-github/dist/index.js');

let story: Story;
let upstream: Upstream;
let session: Session | undefined;
/** Of the comments that arrived. */
let bodies: string[];

beforeEach(async () => {
  bodies = [];
  story = new Story();
  upstream = await Upstream.start(github);
  session = undefined;
});

afterEach(async () => {
  await session?.client.close();
  story.end();
  await upstream.stop();
});

/** Answers searches and comments, and repeats the login in each issue. */
function github(request: http.IncomingMessage, response: http.ServerResponse): void {
  const { method, url = '', headers } = request;
  if (url.startsWith('/search/repositories')) answerJson(response, { total_count: 0, incomplete_results: false, items: [] });
  else if (method === 'POST') {
    void bodyOf(request).then((body) => {
      bodies.push(body);
      answerJson(response, { received: body }, 201);
    });
  } else if (url.includes('/issues/')) answerJson(response, { title: `you are ${headers.authorization ?? 'nobody'}`, headers });
  else answerJson(response, { message: 'Not Found' }, 404);
}

describe('server-github', () => {
  it('works as ever, and even an API that repeats the login gives nothing away', async () => {
    const value = story.canary('ghp_');
    session = await startBlind(story, upstream, { name: 'GITHUB_PERSONAL_ACCESS_TOKEN', value, script: [GITHUB] });
    expect(await session.tools()).toContain('search_repositories');
    expect(JSON.parse(await session.call('search_repositories', { query: 'keyzero' }))).toMatchObject({ total_count: 0 });
    const issue = await session.call('get_issue', { owner: 'a', repo: 'b', issue_number: 1 });
    expect(issue).toMatch(/you are Bearer ghp_kz_masked_[0-9a-f]{32}"/);
    await endBlind(story, session);
    expect(upstream.received.map(({ host, path, headers }) => [host, path.replace(/\?.*/, ''), headers.authorization])).toEqual([
      ['api.github.com', '/search/repositories', `Bearer ${value}`],
      ['api.github.com', '/repos/a/b/issues/1', `Bearer ${value}`],
    ]);
    expect(readFileSync(join(story.folder, 'wire.log'), 'utf8')).toContain('ghp_kz_masked_');
    expect(session.stderr).not.toContain('kz:');
  });

  it('cannot be made to publish its token: a comment is no place where one is swapped', async () => {
    const value = story.canary('ghp_');
    session = await startBlind(story, upstream, { name: 'GITHUB_PERSONAL_ACCESS_TOKEN', value, script: [GITHUB] });
    const [token = ''] = /ghp_kz_masked_\w+/.exec(await session.call('get_issue', { owner: 'a', repo: 'b', issue_number: 1 })) ?? [];
    const comment = JSON.parse(
      await session.call('add_issue_comment', { owner: 'a', repo: 'b', issue_number: 1, body: `mine is ${token}` }),
    ) as unknown;
    expect(comment).toEqual({ received: JSON.stringify({ body: `mine is ${token}` }) });
    await endBlind(story, session);
    expect(bodies).toEqual([JSON.stringify({ body: `mine is ${token}` })]);
  });

  it('that may only read gets a refusal in words for the rest', async () => {
    session = await startBlind(story, upstream, {
      name: 'GITHUB_PERSONAL_ACCESS_TOKEN',
      value: story.canary('ghp_'),
      rules: '[[blind.connections]]\nallow = true\nhost = "api.github.com"\nmethods = ["GET"]\n',
      script: [GITHUB],
    });
    expect(JSON.parse(await session.call('search_repositories', { query: 'keyzero' }))).toMatchObject({ total_count: 0 });
    const comment = { owner: 'a', repo: 'b', issue_number: 1, body: 'hello' };
    await expect(session.call('add_issue_comment', comment)).rejects.toThrow('no rule of');
    await endBlind(story, session);
    expect(upstream.received.map(({ method }) => method)).toEqual(['GET']);
  });
});
