// An MCP server whose client was killed while another process holds its standard input open.
import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KZ, NODE, Story } from './kz.ts';
import { alive, Running, waitFor, waitUntilGone } from './processes.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
  story.write('bundle.yaml', 'version: "1"\n');
});

afterEach(() => {
  story.end();
});

const SERVE = `"$0" "$1" server start --bundle bundle.yaml --mcp --audit ./audit.jsonl < input > output 2> errors & echo $! > pid; wait`;

it('ends, and writes so into its log', async () => {
  const at = (name: string): string => join(story.project, name);
  execFileSync('mkfifo', [at('input')]);
  // Open on both sides, so nobody ever reads its end.
  const stranger = openSync(at('input'), constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const client = new Running(story.startProgram(['sh', '-c', SERVE, NODE, KZ]));
    const log = (): string => (existsSync(at('audit.jsonl')) ? readFileSync(at('audit.jsonl'), 'utf8') : '');
    await waitFor('the start of the server', () => log().includes('server-started'));
    const pid = Number(readFileSync(at('pid'), 'utf8'));
    expect(alive(pid)).toBe(true);
    client.send('SIGKILL');
    await waitUntilGone([pid]);
    expect(log()).toContain('server-ended');
    await client.ended;
  } finally {
    closeSync(stranger);
  }
});
