// The documentation, checked against the program. A `console` block is a session: lines that start with `$ ` are typed (`> ` goes on with
// the same command), the others are what comes back, with `…` for anything and a line of only `…` for any lines. The blocks of a page share
// a folder and a home; `console fresh` starts with new ones. A `sh` block holds npm commands only, which are looked up and not run; other
// blocks are never run.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { LACKS } from '../scripts/server-libraries.mjs';
import { COMMANDS } from '../src/cli/commands.ts';
import { checkText } from '../src/config/load.ts';
import { DESCRIPTIONS } from '../src/config/schema-descriptions.ts';
import { PROVIDERS } from '../src/providers/table.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from './stories/isolation.ts';
import { collect, has } from './stories/kz.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const KZ = join(ROOT, 'bin/kz.cjs');

/** What a page's first session finds in its folder. */
const GIVEN: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'README.md': { '.env': `GITHUB_TOKEN=ghp_${'a1B2c3D4e5'.repeat(4).slice(4)}\n` },
};

const PAGES = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
].sort();

interface Block {
  readonly language: string;
  readonly fresh: boolean;
  readonly text: string;
  readonly line: number;
}

function read(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8');
}

const FENCE = /^```([^\n]*)\n([\s\S]*?)^```[ \t]*$/gm;

function blocks(page: string): Block[] {
  const text = read(page);
  return [...text.matchAll(FENCE)].map(({ 1: info = '', 2: body = '', index }) => {
    const [language = '', ...rest] = info.trim().split(/\s+/);
    return { language, fresh: rest.includes('fresh'), text: body, line: text.slice(0, index).split('\n').length };
  });
}

function withoutBlocks(page: string): string {
  return read(page).replace(FENCE, (block) => block.replace(/[^\n]/g, ''));
}

describe('sessions', () => {
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  interface Typed {
    readonly command: string;
    readonly expected: string;
    readonly line: number;
  }

  function typed(block: Block): Typed[] {
    const found: { command: string; expected: string; line: number }[] = [];
    for (const [index, text] of block.text.split('\n').slice(0, -1).entries()) {
      const line = block.line + 1 + index;
      const last = found.at(-1);
      if (text.startsWith('$ ')) found.push({ command: text.slice(2), expected: '', line });
      else if (last === undefined) throw new Error(`line ${String(line)}: output without a command`);
      else if (text.startsWith('> ') && last.expected === '') last.command += `\n${text.slice(2)}`;
      else last.expected += `${text}\n`;
    }
    return found;
  }

  function sessions(page: string): Typed[][] {
    const found: Typed[][] = [];
    for (const block of blocks(page).filter(({ language }) => language === 'console')) {
      if (block.fresh || found.length === 0) found.push([]);
      found.at(-1)?.push(...typed(block));
    }
    return found;
  }

  const all = PAGES.flatMap((page) => sessions(page).map((session, index) => ({ page, session, index, from: session[0]?.line })));

  // What a machine with Node may lack. Sessions that insist on a sandbox show what is so in one; the others hold with and without.
  const curl = has('curl');
  const isPlayable = ({ session }: { session: readonly Typed[] }): boolean =>
    session.every(
      ({ command }) =>
        (curl || !/\bcurl\b/.test(command)) &&
        (NO_ISOLATION === undefined || !command.includes('--sandbox strict')) &&
        (LACKS.length === 0 || !/\bkz (?:server|policy)\b/.test(command)),
    );
  const [playable, unplayable] = [all.filter(isPlayable), all.filter((each) => !isPlayable(each))];

  const note = `${curl ? '' : ' (skipped: no curl)'}${LACKS.length === 0 ? '' : ' (skipped: no kz server)'}${ISOLATION_NOTE}`;
  it.skip.each(unplayable)(`$page, from line $from${note}`, () => undefined);

  it.each(playable)('$page, from line $from', async ({ page, session, index }) => {
    const folder = mkdtempSync(join(tmpdir(), 'kz-docs-'));
    folders.push(folder);
    const outputs = await play(folder, session, index === 0 ? (GIVEN[page] ?? {}) : {});
    for (const [at, { command, expected, line }] of session.entries()) {
      expect(outputs[at] ?? '', `${page}:${String(line)}: $ ${command}`).toMatch(asPattern(expected));
    }
  });

  /** What kz says, once for each blind run, on machines where it can isolate programs not at all, or not whole. The pages are about the others. */
  const MACHINE = /^kz: (?:warning: no sandbox \(|sandbox: only programs that honour proxy variables ).*\n/gm;

  /** What each command printed. They share one shell, without a terminal: what is exported stays exported, and kz asks nothing. */
  async function play(folder: string, session: readonly Typed[], given: Readonly<Record<string, string>>): Promise<string[]> {
    for (const name of ['bin', 'home', 'my-app', 'tmp']) mkdirSync(join(folder, name));
    symlinkSync(KZ, join(folder, 'bin/kz'));
    symlinkSync(process.execPath, join(folder, 'bin/node'));
    const project = join(folder, 'my-app');
    for (const [name, text] of Object.entries(given)) writeFileSync(join(project, name), text);
    const mark = `--- ${basename(folder)} ---`;
    const script = session.map(({ command }) => `printf '%s\\n' '${mark}'\n${command}\n`).join('');
    const env = { PATH: `${join(folder, 'bin')}:/usr/bin:/bin`, HOME: join(folder, 'home'), TMPDIR: join(folder, 'tmp'), LANG: 'C.UTF-8' };
    const shell = spawn('sh', ['-c', `exec 2>&1\n${script}`], {
      cwd: project,
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    const { stdout } = await collect(shell);
    return stdout.replace(MACHINE, '').split(`${mark}\n`).slice(1);
  }

  function asPattern(expected: string): RegExp {
    const lines = expected.split('\n').slice(0, -1);
    const patterns = lines.map((line) => {
      if (line === '…') return '(?:[^\\n]*\\n)*';
      const parts = line.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
      return `${parts.join('[^\\n]*')}\\n`;
    });
    return new RegExp(`^${patterns.join('')}$`);
  }

  it('are there in the README and the quickstart for MCP servers', () => {
    const count = (page: string) => all.filter((each) => each.page === page).length;
    expect([count('README.md') > 0, count('docs/mcp.md') > 0]).toEqual([true, true]);
  });
});

describe('npm commands', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const lines = PAGES.flatMap((page) =>
    blocks(page)
      .filter(({ language }) => language === 'sh')
      .flatMap(({ text }) => text.trim().split(/\n|&&/))
      .map((line) => [page, line.replace(/#.*/, '').trim()] as const),
  );

  it.each(lines)('%s: %s', (_page, line) => {
    const [npm, command = '', script = ''] = line.split(/\s+/);
    expect(npm).toBe('npm');
    if (command === 'run') expect(Object.keys(scripts)).toContain(script);
    else expect(['install', 'link', 'test']).toContain(command);
  });

  it('in prose exist too', () => {
    const missing = PAGES.flatMap((page) =>
      [...withoutBlocks(page).matchAll(/`npm run ([\w:]+)/g)].flatMap(([, script = '']) =>
        script in scripts ? [] : [`${page}: ${script}`],
      ),
    );
    expect(missing).toEqual([]);
  });
});

describe('links', () => {
  const links = PAGES.flatMap((page) =>
    [...withoutBlocks(page).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !/^[a-z]+:/.test(target))
      .map((target) => [page, target] as const),
  );

  it.each(links)('%s → %s', (page, target) => {
    const [path = '', fragment] = target.split('#');
    const file = path === '' ? join(ROOT, page) : resolve(ROOT, dirname(page), path);
    expect(existsSync(file), `${relative(ROOT, file)} is not there`).toBe(true);
    expect(relative(ROOT, file)).not.toMatch(/^\.\./);
    if (fragment !== undefined) expect(anchors(file)).toContain(fragment);
  });

  /** As GitHub makes them from headings. */
  function anchors(file: string): string[] {
    expect(statSync(file).isFile()).toBe(true);
    const seen = new Map<string, number>();
    return [...withoutBlocks(relative(ROOT, file)).matchAll(/^#{1,6} +(.+?) *$/gm)].map(([, heading = '']) => {
      const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
      const slug = text.replace(/[^\p{L}\p{N}\p{M}\p{Pc}\- ]/gu, '').replaceAll(' ', '-');
      const count = seen.get(slug) ?? 0;
      seen.set(slug, count + 1);
      return count === 0 ? slug : `${slug}-${String(count)}`;
    });
  }
});

describe('commands and flags', () => {
  const STARTS_KZ = /(?<=^|[|;&$(] ?|\bcommand |=\S* |…)kz(?![\w:/.-])((?: +[^\s|;&()`"'<>#]+)*)/gm;

  /** Every `kz …` in code, and every argument list of a client's file that starts kz. */
  function mentions(page: string): string[][] {
    const spans = [...withoutBlocks(page).matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text);
    const fenced = blocks(page).filter(({ language }) => !['json', 'toml', 'text'].includes(language));
    const code = [...spans, ...fenced.map(({ text }) => text)].flatMap((text) =>
      [...text.matchAll(STARTS_KZ)].map(([, words = '']) => words.trim().split(/ +/)),
    );
    const json = blocks(page).filter(({ language }) => language === 'json');
    return [...code, ...json.flatMap(({ text }) => argumentLists(JSON.parse(text)))];
  }

  function argumentLists(value: unknown): string[][] {
    if (typeof value !== 'object' || value === null) return [];
    const { command, args } = value as { command?: unknown; args?: unknown };
    if (typeof command === 'string' && /(^|\/)kz$/.test(command) && Array.isArray(args)) return [args.map(String)];
    return Object.values(value).flatMap(argumentLists);
  }

  const helps = new Map<string, Promise<string>>();

  function help(command: string): Promise<string> {
    const known = helps.get(command);
    if (known !== undefined) return known;
    const words = command.split(' ').filter((word) => word !== '');
    const child = spawn(process.execPath, [KZ, ...words, '--help'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const text = collect(child).then(({ stdout }) => stdout);
    helps.set(command, text);
    return text;
  }

  /** `start` and the like, of a command that has commands of its own. */
  async function subcommands(command: string): Promise<string[]> {
    const [, list = ''] = command === '' ? [] : (await help(command)).split(/^Commands:$/m);
    return [...list.matchAll(/^ {2}([a-z]+) /gm)].map(([, name = '']) => name).filter((name) => name !== 'kz');
  }

  it.each(PAGES)('that %s mentions exist', async (page) => {
    const names = COMMANDS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]);
    for (const [first = '', ...rest] of mentions(page)) {
      if (first === '' || first === 'help' || /^[A-Z]+$/.test(first)) continue;
      const command = first.startsWith('-') ? '' : first;
      if (command !== '') expect(names, `${page} mentions kz ${command}`).toContain(command);
      const full = await withSubcommand(command, rest[0] ?? '', page);
      const text = await help(full);
      for (const flag of flagsIn(command === '' ? [first, ...rest] : rest)) {
        expect(text, `${page} mentions kz ${full} ${flag}`).toMatch(new RegExp(`(^|[\\s,])${flag}\\b`, 'm'));
      }
    }
  });

  async function withSubcommand(command: string, word: string, page: string): Promise<string> {
    const known = await subcommands(command);
    if (known.length === 0 || !/^[a-z]+$/.test(word)) return command;
    expect(known, `${page} mentions kz ${command} ${word}`).toContain(word);
    return `${command} ${word}`;
  }

  /** Up to the `--` before another program's. */
  function flagsIn(words: readonly string[]): string[] {
    const end = words.indexOf('--');
    const own = end === -1 ? words : words.slice(0, end);
    return own.filter((word) => /^-{1,2}[a-zA-Z]/.test(word)).map((word) => word.replace(/=.*/, '').replace(/[.,:]$/, ''));
  }

  it('are all in the table of the README', () => {
    const rows = [...read('README.md').matchAll(/^\| +`kz (\w+)/gm)].map(([, name]) => name);
    expect(rows).toEqual(COMMANDS.map(({ name }) => name));
  });

  it('have every flag on some page', async () => {
    const text = PAGES.map(read).join('\n');
    const named = await Promise.all(
      COMMANDS.map(async ({ name }) => [name, ...(await subcommands(name)).map((inner) => `${name} ${inner}`)]),
    );
    for (const name of named.flat()) {
      for (const [, flag = ''] of (await help(name)).matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)) {
        expect(new RegExp(`${flag}(?![\\w-])`).test(text), `kz ${name} ${flag} is on no page`).toBe(true);
      }
    }
  });
});

describe('providers', () => {
  it('have a page each', () => {
    const pages = readdirSync(join(ROOT, 'docs/providers')).map((name) => name.replace(/\.md$/, ''));
    expect(pages.sort()).toEqual(Object.keys(PROVIDERS).sort());
  });

  it('are all in the table of the README', () => {
    const rows = [...read('README.md').matchAll(/^\| +\[`([\w-]+)`\]\(docs\/providers\//gm)].map(([, name]) => name);
    expect(rows.sort()).toEqual(Object.keys(PROVIDERS).sort());
  });
});

describe('configuration', () => {
  const samples = PAGES.flatMap((page) =>
    blocks(page)
      .filter(({ language, text }) => language === 'toml' && !text.includes('[mcp_servers'))
      .map(({ text, line }) => ({ where: `${page}:${String(line)}`, text })),
  );

  it.each(samples)('$where loads', async ({ where, text }) => {
    await expect(checkText(where, text)).resolves.toBeUndefined();
  });

  it('has every key on its page', () => {
    const page = read('docs/configuration.md');
    const keys = Object.values(DESCRIPTIONS).flatMap((section) => Object.keys(section));
    expect([...new Set(keys)].filter((key) => !page.includes(`\`${key}\``))).toEqual([]);
  });
});

describe('proofs', () => {
  /** `[test/x.test.ts](…): "a title", "another"`, in the order of the text. */
  const proofs = [...read('docs/security.md').matchAll(/\[`?(test\/[\w/.-]+\.test\.ts)`?\]\([^)]*\)((?:[,:]\s"[^"]+")*)/g)].flatMap(
    ([, file = '', titles = '']) => [...titles.matchAll(/"([^"]+)"/g)].map(([, title = '']) => [file, title] as const),
  );

  it.each(proofs)('%s: %s', (file, title) => {
    expect(read(file).includes(title)).toBe(true);
  });

  it('are named for every guarantee', () => {
    const [, guarantees = ''] = read('docs/security.md').split(/^## Guarantees$/m);
    const [section = ''] = guarantees.split(/^## /m);
    const items = section.split(/^### /m).slice(1);
    expect(items.length).toBeGreaterThan(0);
    expect(items.filter((item) => !/test\/[\w/.-]+\.test\.ts/.test(item) || !/src\/[\w/.-]+\.ts/.test(item))).toEqual([]);
  });
});

describe('decisions', () => {
  const decisions = PAGES.filter((page) => page.startsWith('docs/decisions/'));

  it.each(decisions)('%s has its three parts on at most 40 lines', (page) => {
    const text = read(page);
    expect(text.trimEnd().split('\n').length).toBeLessThanOrEqual(40);
    expect([...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading)).toEqual(['Context', 'Decision', 'Given up']);
  });
});
