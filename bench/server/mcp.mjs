// From the start of an MCP server on standard input to its first answer to `tools/list`, with the two messages before it that every client sends.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { bundleOf } from './lab.mjs';

const HELLO = {
  ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
  params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'bench', version: '1' } },
};
const READY = { jsonrpc: '2.0', method: 'notifications/initialized' };
const LIST = { jsonrpc: '2.0', id: 2, method: 'tools/list' };

export const BARE_MCP = 'node -e, the same messages';
export const KZ_MCP = 'kz server start --mcp';

/** The least that answers. */
const BARE = `
const tool = { name: 'resolve', description: 'x', inputSchema: { type: 'object' } };
const answers = {
  initialize: { protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo: { name: 'bare', version: '1' } },
  'tools/list': { tools: [tool] },
};
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method } = JSON.parse(line);
  if (id !== undefined) process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result: answers[method] }) + '\\n');
});`;

/**
 * @param {import('./lab.mjs').Lab} lab
 * @param {readonly number[]} rules
 */
export function mcpSubjects({ folder, kz }, rules) {
  const args = ['server', 'start', '--mcp', '-q', '--audit', 'none', '--bundle'];
  return [
    { name: BARE_MCP, command: [process.execPath, '-e', BARE] },
    ...rules.map((count) => ({
      name: `${KZ_MCP}, ${String(count)} rules`,
      command: [process.execPath, kz, ...args, bundleOf(folder, count)],
    })),
  ];
}

/**
 * Milliseconds until the answer to the first message, and to `tools/list`.
 * @param {string[]} command
 * @param {import('./lab.mjs').Lab} lab
 */
export async function firstList([program = '', ...args], { folder, env }) {
  const begin = performance.now();
  const child = spawn(program, args, { env, cwd: folder, stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('close', resolve).once('error', resolve));
  let said = '';
  child.stderr.on('data', (/** @type {Buffer} */ chunk) => {
    said += chunk.toString();
  });
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answerTo = async (/** @type {number} */ id) => {
    for (;;) {
      const { done, value } = await lines.next();
      if (done === true) throw new Error(`${args.join(' ')} ended:\n${said}`);
      const message = /** @type {{ id?: number, result?: { tools?: unknown[] } }} */ (JSON.parse(value));
      if (message.id === id) return message;
    }
  };
  const send = (/** @type {unknown} */ message) => child.stdin.write(`${JSON.stringify(message)}\n`);
  send(HELLO);
  await answerTo(1);
  const hello = performance.now() - begin;
  send(READY);
  send(LIST);
  const { result } = await answerTo(2);
  const list = performance.now() - begin;
  if (result?.tools === undefined || result.tools.length === 0) throw new Error('the list of tools is empty');
  child.stdin.end();
  await ended;
  return { hello, list };
}
