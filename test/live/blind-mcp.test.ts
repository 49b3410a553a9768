// MCP servers from npm as people run them, unmodified and blind, against stand-ins of their APIs: the API gets the value, and the client
// does not, even from an API that repeats it.
import type http from 'node:http';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endBlind, startBlind } from '../stories/blind-server.ts';
import { Story } from '../stories/kz.ts';
import type { Session } from '../stories/mcp-client.ts';
import { answerJson, bodyOf, Upstream } from '../stories/upstream.ts';
import { installed } from './mcp-servers.ts';

interface Case {
  readonly program: string;
  readonly name: string;
  /** What the vendor's values start with. */
  readonly prefix: string;
  /** In the config, behind its provider and ref; with a vendor's prefix there is nothing to say. */
  readonly more?: string;
  readonly env?: Record<string, string>;
  readonly tool: string;
  readonly parameters: Record<string, unknown>;
  readonly host: string;
  readonly path: string;
  readonly header: string;
  /** What the header holds. */
  readonly login: (value: string) => string;
  /** The API's answer, which repeats what it got. */
  readonly answer: (echo: string) => unknown;
}

const bearer = (value: string): string => `Bearer ${value}`;

const CASES: Readonly<Record<string, Case>> = {
  'server-slack': {
    program: '@modelcontextprotocol/server-slack/dist/index.js',
    name: 'SLACK_BOT_TOKEN',
    prefix: 'xoxb-',
    env: { SLACK_TEAM_ID: 'T0123' },
    tool: 'slack_list_channels',
    parameters: {},
    host: 'slack.com',
    path: '/api/conversations.list',
    header: 'authorization',
    login: bearer,
    answer: (echo) => ({ ok: true, channels: [{ id: 'C1', name: 'general', topic: echo }] }),
  },
  'server-brave-search': {
    program: '@modelcontextprotocol/server-brave-search/dist/index.js',
    name: 'BRAVE_API_KEY',
    prefix: '',
    more: ', hosts = ["api.search.brave.com"]',
    tool: 'brave_web_search',
    parameters: { query: 'keyzero' },
    host: 'api.search.brave.com',
    path: '/res/v1/web/search',
    header: 'x-subscription-token',
    login: (value) => value,
    answer: (echo) => ({ web: { results: [{ title: 'a', description: echo, url: 'https://a.example' }] } }),
  },
  'notion-mcp-server': {
    program: '@notionhq/notion-mcp-server/bin/cli.mjs',
    name: 'NOTION_TOKEN',
    prefix: 'ntn_',
    tool: 'API-get-self',
    parameters: {},
    host: 'api.notion.com',
    path: '/v1/users/me',
    header: 'authorization',
    login: bearer,
    answer: (echo) => ({ object: 'user', id: 'me', name: echo }),
  },
  'tavily-mcp': {
    program: 'tavily-mcp/build/index.js',
    name: 'TAVILY_API_KEY',
    prefix: 'tvly-',
    tool: 'tavily_search',
    parameters: { query: 'keyzero' },
    host: 'api.tavily.com',
    path: '/search',
    header: 'authorization',
    login: bearer,
    answer: (echo) => ({ query: 'keyzero', results: [{ title: 'a', url: 'https://a.example', content: echo, score: 1 }] }),
  },
};

const servers = installed();
const skipped = 'problem' in servers ? ` (skipped: ${servers.problem})` : '';

let story: Story;
let upstream: Upstream;
let session: Session | undefined;
let serve: http.RequestListener;

beforeEach(async () => {
  story = new Story();
  session = undefined;
  upstream = await Upstream.start((request, response) => {
    serve(request, response);
  });
});

afterEach(async () => {
  await session?.client.close();
  story.end();
  await upstream.stop();
});

describe.skipIf('problem' in servers)(`blind${skipped}`, () => {
  const packages = 'packages' in servers ? servers.packages : '';

  it.each(Object.entries(CASES))('%s', async (_, { program, name, prefix, more, env, tool, parameters, ...api }) => {
    // Notion's prefix counts only in front of letters and digits.
    const value = story.guard(`${prefix}CANARY${randomBytes(20).toString('hex')}`);
    const bodies: string[] = [];
    serve = (request, response) => {
      void bodyOf(request).then((body) => {
        bodies.push(body);
        answerJson(response, api.answer(`you sent ${String(request.headers[api.header])} ${body}`));
      });
    };
    const server = {
      name,
      value,
      script: [join(packages, program)],
      ...(more === undefined ? {} : { more }),
      ...(env === undefined ? {} : { env }),
    };
    session = await startBlind(story, upstream, server);
    expect(await session.tools()).toContain(tool);
    const text = await session.call(tool, parameters);
    await endBlind(story, session);
    expect(text).toContain(`you sent ${api.login(`${prefix}kz_masked_`)}`);
    expect(upstream.received.map(({ host, path, headers }) => [host, path.replace(/\?.*/, ''), headers[api.header]])).toEqual([
      [api.host, api.path, api.login(value)],
    ]);
    // Some send the key a second time, in the body.
    expect(bodies.join('')).not.toContain('kz_masked_');
  });
});
