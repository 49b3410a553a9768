// `kz server start --mcp` typed by a person: who waits for an answer there learns what the command is for.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KZ, NODE, Story } from './kz.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

let story: Story;

beforeEach(async () => {
  story = new Story();
  await story.kz(['server', 'init']);
});

afterEach(() => {
  story.end();
});

const LINE = 'speaks MCP on standard input: an MCP client is meant to start this command';

it.skipIf(NO_TERMINAL !== undefined)(`on a terminal${NO_TERMINAL === undefined ? '' : ` (${NO_TERMINAL})`}`, async () => {
  const terminal = await Terminal.start(story, [NODE, KZ, 'server', 'start', '-b', 'bundle.yaml', '--mcp']);
  await terminal.sees(LINE);
  terminal.type('\u0004');
  expect(await terminal.ended).toEqual({ code: 0 });
});

it('in a pipe it says nothing of it', async () => {
  const { stdout, stderr, code } = await story.kz(['server', 'start', '-b', 'bundle.yaml', '--mcp'], { input: '' });
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  expect(stderr).not.toContain(LINE);
});
