// Clients of both generations of the SDK that start `kz server --mcp` themselves, and the log of its decisions.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { Client as FormerClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as FormerTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import type { Decision } from '../../src/audit/decision.ts';
import { give, type CallOptions, type Given } from '../server/mcp/mcp-fakes.ts';
import { KZ, NODE } from './kz.ts';
import { waitFor } from './processes.ts';
import type { Json } from './server-parts.ts';
import type { Scene } from './server-scene.ts';

export interface Mcp {
  readonly tools: () => Promise<readonly { readonly name: string; readonly outputSchema?: unknown }[]>;
  readonly call: (name: string, parameters?: Json, options?: CallOptions) => Promise<Given>;
  /** What could not be read as the protocol, and other errors. */
  readonly noise: readonly Error[];
  /** Ends the server, and gives what it wrote to standard error. */
  readonly close: () => Promise<string>;
}

export type Kind = 'v1' | 'v2' | 'v2, as v1';
export const KINDS: readonly Kind[] = ['v1', 'v2', 'v2, as v1'];

export interface McpOptions {
  /** After `--mcp --audit ./audit.jsonl`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a server as clients do: its command, and an environment. */
export async function connect(scene: Scene, kind: Kind, { args = [], env = {} }: McpOptions = {}): Promise<Mcp> {
  const start = ['server', 'start', '--bundle', 'bundle.yaml', '--mcp', '--audit', './audit.jsonl', ...args];
  const parameters = {
    ...{ command: NODE, args: [KZ, ...start], cwd: scene.story.project, stderr: 'pipe' as const },
    env: { ...scene.story.environment(scene.environment), ...env },
  };
  const noise: Error[] = [];
  const stderr: Buffer[] = [];
  const listen = (stream: unknown): void => void (stream as Readable | null)?.on('data', (chunk: Buffer) => stderr.push(chunk));
  const examined = (result: Readonly<Record<string, unknown>>): Given => {
    scene.story.examine(JSON.stringify(result), 'the answer of a tool');
    return give(result);
  };
  const end = async (client: { close: () => Promise<void> }): Promise<string> => {
    await client.close();
    const text = Buffer.concat(stderr).toString();
    scene.story.examine(text, 'the standard error of kz server');
    return text;
  };
  if (kind === 'v1') {
    const client = new FormerClient({ name: 'story', version: '1' });
    client.onerror = (error) => noise.push(error);
    const transport = new FormerTransport(parameters);
    listen(transport.stderr);
    await client.connect(transport);
    const call: Mcp['call'] = async (name, given = {}, options = {}) =>
      examined(await client.callTool({ name, arguments: given }, undefined, options));
    return { tools: async () => (await client.listTools()).tools, call, noise, close: () => end(client) };
  }
  const client = new Client({ name: 'story', version: '1' }, { versionNegotiation: { mode: kind === 'v2' ? 'auto' : 'legacy' } });
  client.onerror = (error) => noise.push(error);
  const transport = new StdioClientTransport(parameters);
  listen(transport.stderr);
  await client.connect(transport);
  if ((client.getProtocolEra() === 'modern') !== (kind === 'v2')) throw new Error('the other era was negotiated');
  const call: Mcp['call'] = async (name, given = {}, options = {}) => examined(await client.callTool({ name, arguments: given }, options));
  return { tools: async () => (await client.listTools()).tools, call, noise, close: () => end(client) };
}

/** The decisions in `audit.jsonl` so far. */
export function decisions(scene: Scene): Decision[] {
  const lines = readFileSync(join(scene.story.project, 'audit.jsonl'), 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Decision).filter(({ type }) => (type as string) === 'decision');
}

/** Waits until `audit.jsonl` has a decision with these members. */
export async function decided(scene: Scene, facts: Partial<Decision>): Promise<void> {
  const wanted = Object.entries(facts);
  const fits = (each: Readonly<Record<string, unknown>>): boolean => wanted.every(([name, value]) => each[name] === value);
  await waitFor(`a decision with ${JSON.stringify(facts)}`, () => decisions(scene).some((each) => fits({ ...each })));
}
