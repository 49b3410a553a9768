// Starts servers from an `.mcp.json` as MCP clients do: command, arguments and `env` block from the file, and of the client's own
// environment nothing but the six variables that the SDK passes on. Ours has a home of its own, and a `kz` on its PATH.
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport, type StdioServerParameters } from '@modelcontextprotocol/sdk/client/stdio.js';
import { KZ, type Story } from './kz.ts';
import { waitUntilGone, descendants } from './processes.ts';

export interface ServerEntry {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Writes the file that a user would, and puts kz where a global install would. */
export function writeServers(story: Story, mcpServers: Readonly<Record<string, ServerEntry>>): void {
  story.write('.mcp.json', JSON.stringify({ mcpServers }));
  mkdirSync(join(story.folder, 'bin'), { recursive: true });
  symlinkSync(KZ, join(story.folder, 'bin', 'kz'));
}

export function serverParameters(story: Story, name: string, cwd = story.project): StdioServerParameters {
  const file = JSON.parse(readFileSync(join(story.project, '.mcp.json'), 'utf8')) as { mcpServers: Record<string, ServerEntry> };
  const entry = file.mcpServers[name];
  if (entry === undefined) throw new Error(`no server ${name} in .mcp.json`);
  const PATH = [join(story.folder, 'bin'), dirname(process.execPath), '/usr/bin', '/bin'].join(':');
  // The client's own HOME and PATH: two of the six.
  return { command: entry.command, args: [...entry.args], env: { HOME: story.home, PATH, ...entry.env }, cwd, stderr: 'pipe' };
}

/** One client and the server that it started. */
export class Session {
  readonly client = new Client({ name: 'story', version: '1.0.0' });
  /** What the transport could not read as JSON-RPC. */
  readonly noise: Error[] = [];
  readonly #transport: StdioClientTransport;
  readonly #stderr: Buffer[] = [];

  constructor(parameters: StdioServerParameters) {
    this.#transport = new StdioClientTransport(parameters);
    this.#transport.stderr?.on('data', (chunk: Buffer) => this.#stderr.push(chunk));
    this.client.onerror = (error) => this.noise.push(error);
  }

  connect(): Promise<void> {
    return this.client.connect(this.#transport);
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString('utf8');
  }

  async tools(): Promise<string[]> {
    const { tools } = await this.client.listTools();
    return tools.map(({ name }) => name);
  }

  /** The first text of the tool's answer. */
  async call(name: string, parameters: Record<string, unknown> = {}): Promise<string> {
    const { content } = await this.client.callTool({ name, arguments: parameters });
    const [first] = content as readonly { readonly type: string; readonly text?: string }[];
    return first?.text ?? '';
  }

  /** The signals that the client sent to get rid of kz, and the milliseconds until the last process of the tree was gone. */
  async close(): Promise<{ signals: readonly unknown[]; goneMs: number }> {
    const tree = this.#tree();
    const signals = this.#watchSignals();
    const start = performance.now();
    await this.client.close();
    await waitUntilGone(tree);
    return { signals, goneMs: performance.now() - start };
  }

  /** What the server printed becomes a file of the story, so that the search for canaries at its end reads it too. */
  keep(story: Story, name: string): void {
    writeFileSync(join(story.folder, `${name}.stderr`), this.stderr);
  }

  /** The list grows with every signal. How long the client waits for which is its own affair. */
  #watchSignals(): readonly unknown[] {
    const { _process: child } = this.#transport as unknown as { readonly _process?: ChildProcess };
    if (child === undefined) throw new Error('the client has no process any more');
    const signals: unknown[] = [];
    const kill = child.kill.bind(child);
    child.kill = (signal) => {
      // The client sends KILL also to what has ended by a signal.
      const isSent = kill(signal);
      if (isSent) signals.push(signal);
      return isSent;
    };
    return signals;
  }

  /** kz, and every process below it at this moment. */
  #tree(): number[] {
    const { pid } = this.#transport;
    const below = pid === null ? [] : descendants(pid);
    if (pid === null || below.length === 0) throw new Error('no server is running');
    return [pid, ...below];
  }
}

export const PACKAGES = fileURLToPath(new URL('../../node_modules/', import.meta.url));
