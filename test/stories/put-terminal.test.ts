// `kz put` asks on the terminal: what is typed is never shown, mistakes can be corrected, and the terminal is left as it was.
import { descendants } from './processes.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KZ, NODE, Story } from './kz.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

const PROMPT = 'Enter value for GITHUB_TOKEN (provider: store, ref: github-pat):';
const BACKSPACE = '\u007F';
const ERASE_LINE = '\u0015';
const INTERRUPT = '\u0003';
const END = '\u0004';
const ENTER = '\r';

let story: Story;
let terminals: Terminal[];

beforeEach(() => {
  story = new Story();
  terminals = [];
  story.config('[secrets]\nGITHUB_TOKEN = { provider = "store", ref = "github-pat" }\n');
});

afterEach(() => {
  for (const terminal of terminals) {
    story.examine(terminal.shown, 'what the terminal showed');
    terminal.close();
  }
  story.end();
});

/** In a shell that says how kz ended, and keeps the terminal until the story has looked at it. */
async function kz(...args: string[]): Promise<Terminal> {
  const script = '"$@"; echo "status $?"; read -r line';
  const terminal = await Terminal.start(story, ['sh', '-c', script, 'sh', NODE, KZ, ...args]);
  terminals.push(terminal);
  return terminal;
}

async function ended(terminal: Terminal, status: number): Promise<void> {
  await terminal.sees(`status ${String(status)}\r\n`);
  expect(await terminal.modes()).toEqual({ echo: true, canonical: true });
  terminal.type('\n');
  expect(await terminal.ended).toEqual({ code: 0 });
}

async function stored(name = 'GITHUB_TOKEN'): Promise<string | undefined> {
  const { stdout, code } = await story.kz(['get', name], { reveals: true });
  return code === 0 ? stdout.replace(/\n$/, '') : undefined;
}

async function answered(keys: string | Buffer): Promise<string | undefined> {
  const terminal = await kz('put', 'GITHUB_TOKEN');
  await terminal.sees(PROMPT);
  terminal.type(keys);
  await ended(terminal, 0);
  return stored();
}

describe.skipIf(NO_TERMINAL !== undefined)(`kz put on a terminal${NO_TERMINAL === undefined ? '' : ` (${NO_TERMINAL})`}`, () => {
  it('asks with KeyZero’s words, shows nothing of the answer, and stores it', async () => {
    const value = story.canary();
    const terminal = await kz('put', 'GITHUB_TOKEN');
    expect(await terminal.sees(PROMPT)).toMatch(
      /^kz: GITHUB_TOKEN goes to [^\n]*\r\nEnter value for GITHUB_TOKEN \(provider: store, ref: github-pat\):$/,
    );
    terminal.type(value);
    terminal.type(ENTER);
    expect(await terminal.sees('github-pat\r\n')).toBe(` \r\nkz: GITHUB_TOKEN=set(${String(value.length)} chars) in store github-pat\r\n`);
    await ended(terminal, 0);
    expect(await stored()).toBe(value);
  });

  it('shows nothing of an answer that comes with the prompt', async () => {
    const value = story.canary();
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees('Enter');
    terminal.type(`${value}\n`);
    await ended(terminal, 0);
    expect(await stored()).toBe(value);
  });

  it.each([
    ['backspace', (value: string) => `x${value}yé${BACKSPACE}${BACKSPACE}`, (value: string) => `x${value}`],
    ['the other backspace', (value: string) => `${value}y\b`, (value: string) => value],
    ['more backspaces than there is text', (value: string) => `ab${BACKSPACE.repeat(5)}${value}`, (value: string) => value],
    ['^U', (value: string) => `wrong${ERASE_LINE}${value}`, (value: string) => value],
    ['arrow keys, which mean nothing', (value: string) => `${value}\u001B[D\u001B[1;5C\u001BOA`, (value: string) => value],
    ['the frame of a bracketed paste', (value: string) => `\u001B[200~${value}\u001B[201~`, (value: string) => value],
    ['other scripts', (value: string) => `${value}ü€𐍈`, (value: string) => `${value}ü€𐍈`],
    ['spaces and tabs', (value: string) => ` ${value}\t `, (value: string) => ` ${value}\t `],
    ['more than a terminal’s line can hold', (value: string) => value.padEnd(9000, 'x'), (value: string) => value.padEnd(9000, 'x')],
    ['^D after some text, which means nothing', (value: string) => `${value}${END}`, (value: string) => value],
  ])('takes %s', async (_, typed, expected) => {
    const value = story.canary();
    expect(await answered(`${typed(value)}${ENTER}`)).toBe(expected(value));
  });

  it.each([
    ['an escape sequence', ['\u001B', '[', '1;5', 'D']],
    ['a character', ['\u00E9'].flatMap((text) => [...Buffer.from(text)].map((byte) => Buffer.from([byte])))],
  ])('takes %s that comes in pieces', async (_, pieces) => {
    const value = story.canary();
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees(PROMPT);
    terminal.type(value);
    for (const piece of pieces) {
      terminal.type(piece);
      // One order after the other: each is a write of its own.
      await terminal.modes();
    }
    terminal.type(ENTER);
    await ended(terminal, 0);
    expect((await stored())?.replace('é', '')).toBe(value);
  });

  it.each([
    ['^C', INTERRUPT],
    ['^C after some text', `abc${INTERRUPT}`],
    ['^D', END],
  ])('%s ends it with 130 and stores nothing', async (_, keys) => {
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees(PROMPT);
    terminal.type(keys);
    await terminal.sees('kz: error: cancelled\r\n');
    await ended(terminal, 130);
    expect(await stored()).toBeUndefined();
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('%s leaves the terminal as it was', async (signal) => {
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees(PROMPT);
    expect(await terminal.modes()).toEqual({ echo: false, canonical: false });
    const [pid = 0] = descendants(terminal.pid);
    process.kill(pid, signal);
    await ended(terminal, signal === 'SIGTERM' ? 143 : 130);
    expect(await stored()).toBeUndefined();
  });

  it.each([
    ['at once', 1],
    ['line by line', 2],
  ])('refuses two lines, pasted %s, and the rest reaches nobody', async (_, writes) => {
    const lines = [`${story.canary()}\n`, `${story.canary()}\n`, `${story.canary()}\n`];
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees(PROMPT);
    if (writes === 1) terminal.type(lines.join(''));
    for (const line of writes === 1 ? [] : lines) {
      terminal.type(line);
      // One order after the other: each is a write of its own.
      await terminal.modes();
    }
    await terminal.sees('kz: error: more than one line was pasted; nothing was stored\r\n');
    await terminal.sees('kz: hint: pipe it instead: kz put NAME < FILE\r\n');
    await ended(terminal, 1);
    expect(await stored()).toBeUndefined();
  });

  it('refuses what is not UTF-8', async () => {
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees(PROMPT);
    terminal.type(Buffer.from([0x61, 0xff, 0xfe, 0x0d]));
    await terminal.sees('kz: error: what was typed is not UTF-8 text; nothing was stored\r\n');
    await ended(terminal, 1);
    expect(await stored()).toBeUndefined();
  });

  it('refuses an empty line, and a value of the wrong shape, without storing it', async () => {
    story.config('[secrets]\nGITHUB_TOKEN = { provider = "store", ref = "github-pat", starts_with = "ghp_" }\n');
    const empty = await kz('put', 'GITHUB_TOKEN');
    await empty.sees(PROMPT);
    empty.type(ENTER);
    await empty.sees('kz: error: GITHUB_TOKEN: an empty value is not stored\r\n');
    await ended(empty, 1);
    const wrong = await kz('put', 'GITHUB_TOKEN');
    await wrong.sees(PROMPT);
    wrong.type(`${story.canary()}${ENTER}`);
    await wrong.sees('kz: error: GITHUB_TOKEN does not start with "ghp_"; nothing was stored\r\n');
    await ended(wrong, 1);
    expect(await stored()).toBeUndefined();
  });

  it('asks on the terminal although its output is piped, and the pipe gets nothing', async () => {
    const value = story.canary();
    const script = 'x=$("$@"); echo "status $? output [$x]"; read -r line';
    const terminal = await Terminal.start(story, ['sh', '-c', script, 'sh', NODE, KZ, 'put', 'GITHUB_TOKEN']);
    terminals.push(terminal);
    await terminal.sees(PROMPT);
    terminal.type(`${value}${ENTER}`);
    await terminal.sees('status 0 output []\r\n');
    terminal.type('\n');
    await terminal.ended;
    expect(await stored()).toBe(value);
  });

  it('shows no escape sequence of a config that somebody else wrote', async () => {
    story.config('[secrets]\nGITHUB_TOKEN = { provider = "store", ref = "a\\u001B[31mb", description = "\\u001B[2J" }\n');
    const terminal = await kz('put', 'GITHUB_TOKEN');
    await terminal.sees('Enter value for GITHUB_TOKEN (provider: store, ref: ');
    await terminal.sees('):');
    expect(terminal.shown).not.toContain('\u001B');
    terminal.type(INTERRUPT);
    await ended(terminal, 130);
  });

  describe('--missing', () => {
    const CONFIG =
      '[secrets]\nFIRST = { provider = "store", ref = "first" }\nSECOND = { provider = "store", ref = "second", min_length = 10 }\n' +
      'THERE = { provider = "store", ref = "there" }\nOPTIONAL = { provider = "store", ref = "optional", required = false }\n';

    it('asks for each, skips on an empty line, asks again for an invalid one', async () => {
      story.config(CONFIG);
      await story.kz(['put', 'THERE'], { input: story.canary() });
      const value = story.canary();
      const terminal = await kz('put', '--missing');
      await terminal.sees('kz: [1/2] FIRST\r\n');
      await terminal.sees('Enter value for FIRST (provider: store, ref: first):');
      terminal.type(ENTER);
      await terminal.sees('kz: [2/2] SECOND\r\n');
      await terminal.sees('Enter value for SECOND (provider: store, ref: second):');
      terminal.type(`short${ENTER}`);
      await terminal.sees('kz: error: SECOND has 5 characters, fewer than min_length = 10; nothing was stored\r\n');
      await terminal.sees('Enter value for SECOND (provider: store, ref: second):');
      terminal.type(`${value}${ENTER}`);
      await terminal.sees(`kz: SECOND=set(${String(value.length)} chars) in store second\r\n`);
      // One of them is still missing.
      await ended(terminal, 1);
      expect(await stored('FIRST')).toBeUndefined();
      expect(await stored('SECOND')).toBe(value);
      expect(terminal.shown).not.toContain('OPTIONAL');
    });

    it('^C ends it, and keeps what was answered before', async () => {
      story.config(CONFIG);
      const value = story.canary();
      const terminal = await kz('put', '--missing');
      await terminal.sees('Enter value for FIRST (provider: store, ref: first):');
      terminal.type(`${value}${ENTER}`);
      await terminal.sees('Enter value for SECOND');
      terminal.type(INTERRUPT);
      await ended(terminal, 130);
      expect(await stored('FIRST')).toBe(value);
    });

    it('takes no second line of a paste as the answer to the next question', async () => {
      story.config(CONFIG);
      const terminal = await kz('put', '--missing');
      await terminal.sees('Enter value for FIRST (provider: store, ref: first):');
      terminal.type(`${story.canary()}\n`);
      terminal.type(`${story.canary()}\n`);
      await terminal.sees('kz: error: more than one line was pasted; nothing was stored\r\n');
      await terminal.sees('Enter value for FIRST (provider: store, ref: first):');
      terminal.type(ENTER);
      await terminal.sees('Enter value for SECOND (provider: store, ref: second):');
      terminal.type(ENTER);
      await terminal.sees('Enter value for THERE (provider: store, ref: there):');
      terminal.type(ENTER);
      await ended(terminal, 1);
      expect([await stored('FIRST'), await stored('SECOND'), await stored('THERE')]).toEqual([undefined, undefined, undefined]);
    });
  });
});
