// An MCP server that runs blind, started by a client from its `.mcp.json`. Whatever the server writes to the client is kept in a file as
// well, where the story looks for values at its end.
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Story } from './kz.ts';
import { serverParameters, Session, writeServers } from './mcp-client.ts';
import type { Upstream } from './upstream.ts';

export interface BlindServer {
  /** The secret, as the server wants it to be called. */
  readonly name: string;
  readonly value: string;
  /** What the config says about it, behind its provider and ref. */
  readonly more?: string;
  /** TOML. */
  readonly rules?: string;
  /** The server's program and its arguments. */
  readonly script: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Stores the secret, writes both configs, and starts the server. Its scope must be known: `scope = "strict"`. */
export async function startBlind(story: Story, upstream: Upstream, server: BlindServer): Promise<Session> {
  const { name, value, more = '', rules = '' } = server;
  upstream.configure(story, `[secrets]\n${name} = { provider = "store", ref = "it"${more} }\n${rules}`, 'scope = "strict"');
  const { code, stderr } = await story.kz(['put', name], { input: value });
  expect(code, stderr).toBe(0);
  const script = 'log=$1; shift; node "$@" | tee "$log"';
  const args = ['run', '--blind', '--sandbox', 'off', '--', 'sh', '-c', script, 'sh', join(story.folder, 'wire.log'), ...server.script];
  writeServers(story, { server: { command: 'kz', args, env: { ...upstream.environment, ...server.env } } });
  const session = new Session(serverParameters(story, 'server'));
  await session.connect();
  return session;
}

/** Closes the client; the server must end by itself, having said nothing but messages. */
export async function endBlind(story: Story, session: Session): Promise<void> {
  await session.close();
  session.keep(story, 'server');
  expect(session.noise).toEqual([]);
}
