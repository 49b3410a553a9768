// `kz hook` in real interactive shells: what entering and leaving a folder does to the variables, and what it never does.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';
import { pathWithKz } from './shell.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

const SHELLS = {
  bash: { args: ['--norc', '--noprofile', '-i'], hook: 'eval "$(kz hook --shell bash)"', status: '$?' },
  zsh: { args: ['-f', '-i'], hook: 'eval "$(kz hook --shell zsh)"', status: '$?' },
  fish: { args: ['--no-config', '-i'], hook: 'kz hook --shell fish | source', status: '$status' },
} as const;

type ShellName = keyof typeof SHELLS;

function isMissing(name: ShellName): boolean {
  return spawnSync(name, ['--version']).error !== undefined;
}

let story: Story;
let terminals: Terminal[];

beforeEach(() => {
  story = new Story();
  terminals = [];
  story.write('../elsewhere/.keep', '');
});

afterEach(() => {
  for (const terminal of terminals) {
    story.examine(terminal.shown, 'what the terminal showed');
    terminal.close();
  }
  story.end(['values.json', 'known/token', 'known/other', 'secret.sh']);
});

/** Says whether a variable is set, and to which of the values in known/, so that no value is ever shown. */
const LOOK = `#!/bin/sh
value=$(printenv "$1") || { echo is:unset; exit; }
for file in "$HOME"/known/*; do [ "$value" = "$(cat "$file")" ] && echo "is:$(basename "$file")"; done
`;

class Shell {
  readonly #terminal: Terminal;
  #count = 0;

  private constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** With the hook, outside of the project. */
  static async start(name: ShellName): Promise<Shell> {
    const { args, hook } = SHELLS[name];
    story.write('../bin/look', LOOK, 0o755);
    story.write('../home/known/mine', 'what the user had');
    const terminal = await Terminal.start(story, [name, ...args], { PATH: pathWithKz(story) });
    terminals.push(terminal);
    const shell = new Shell(terminal);
    await shell.leave();
    await shell.run(hook);
    return shell;
  }

  /** What is shown from typing the line to its end. */
  async run(line: string): Promise<string> {
    this.#count += 1;
    const end = `end-${String(this.#count)}.`;
    // The echo of what is typed does not hold the word itself.
    this.#terminal.type(`${line}\recho "en""${end.slice(2)}"\r`);
    return this.#terminal.sees(end);
  }

  enter(folder = ''): Promise<string> {
    return this.run(`cd ${join(story.project, folder)}`);
  }

  leave(): Promise<string> {
    return this.run(`cd ${story.folder}/elsewhere`);
  }

  async value(name = 'TOKEN'): Promise<string | undefined> {
    return /is:(\w+)/.exec(await this.run(`look ${name}`))?.[1];
  }
}

/** A project whose TOKEN is the value `known/token`. */
function project(folder = ''): void {
  const token = story.canary();
  story.write('../home/known/token', token);
  story.write(join(folder, 'values.json'), JSON.stringify({ TOKEN: token }));
  story.write(join(folder, '.keyzero.toml'), '[secrets]\nTOKEN = { provider = "file", ref = "values.json#TOKEN" }\n');
}

const NASTY_NAMES = {
  bash: ['UID', 'EUID', 'PPID'],
  zsh: ['commands', 'path', 'status', 'options', 'UID', 'argv'],
  fish: ['status', 'history'],
};

const NOTICE = 'look at it, then run `kz trust`';

describe.each(Object.keys(SHELLS) as ShellName[])('in %s', (name) => {
  const there = it.skipIf(NO_TERMINAL !== undefined || isMissing(name));

  there('loads a folder once it is trusted, and takes everything back on leaving', async () => {
    project();
    const shell = await Shell.start(name);
    expect(await shell.enter()).toContain(NOTICE);
    expect(await shell.value()).toBe('unset');
    expect(await shell.run('kz trust')).toContain('trusted ');
    expect(await shell.value()).toBe('token');
    await shell.leave();
    expect(await shell.value()).toBe('unset');
    await shell.enter();
    expect(await shell.value()).toBe('token');
  });

  there('gives back the value that the user had', async () => {
    project();
    await story.kz(['trust']);
    const shell = await Shell.start(name);
    await shell.run(`export TOKEN="$(cat ~/known/mine)"`);
    await shell.enter();
    expect(await shell.value()).toBe('token');
    await shell.leave();
    expect(await shell.value()).toBe('mine');
  });

  there('asks once, not at every prompt, and leaves the status alone', async () => {
    project();
    const shell = await Shell.start(name);
    await shell.enter();
    expect(await shell.run('true')).not.toContain(NOTICE);
    expect(await shell.run(`sh -c 'exit 7'\recho status:${SHELLS[name].status}:`)).toContain('status:7:');
    expect(await shell.leave()).not.toContain(NOTICE);
    expect(await shell.enter()).toContain(NOTICE);
  });

  there('sets nothing when one secret is missing, and the prompt goes on', async () => {
    project();
    story.config(`${readFileSync(join(story.project, '.keyzero.toml'), 'utf8')}GONE = { provider = "store", ref = "gone" }\n`);
    await story.kz(['trust']);
    const shell = await Shell.start(name);
    await shell.run(`export TOKEN="$(cat ~/known/mine)"`);
    expect(await shell.enter()).toContain('GONE is missing');
    expect(await shell.value()).toBe('mine');
    expect(await shell.run('echo go""ing')).toContain('going');
    await shell.leave();
    expect(await shell.value()).toBe('mine');
  });

  there('takes everything back although the shell uses the name of a secret itself', async () => {
    project();
    const text = readFileSync(join(story.project, '.keyzero.toml'), 'utf8');
    const names = [...NASTY_NAMES[name], '__kz_state'];
    const others = names.map((other) => `${other} = { provider = "file", ref = "values.json#TOKEN" }\n`).join('');
    story.config(`${text.replace('TOKEN', 'FIRST')}${others}${text.replace('[secrets]\n', '')}`);
    const shell = await Shell.start(name);
    await shell.enter();
    // The update after `kz trust` is the quiet one.
    const told = await shell.run('kz trust');
    expect(told.replace(/\s+/g, ' ')).toContain(`${names.join(', ')} cannot be set in this shell: ${name} uses these names itself`);
    for (const own of ['FIRST', 'TOKEN']) expect(await shell.value(own)).toBe('token');
    await shell.leave();
    for (const own of ['FIRST', 'TOKEN']) expect(await shell.value(own)).toBe('unset');
  });

  there('does not export what the user had to himself', async () => {
    project();
    await story.kz(['trust']);
    const shell = await Shell.start(name);
    await shell.run(name === 'fish' ? 'set -g TOKEN (cat ~/known/mine)' : 'TOKEN="$(cat ~/known/mine)"');
    await shell.enter();
    expect(await shell.value()).toBe('token');
    expect(await shell.value('__kz_was_TOKEN')).toBe('unset');
    await shell.leave();
    expect(await shell.value()).toBe('unset');
    await shell.run(name === 'fish' ? 'set -x TOKEN $TOKEN' : 'export TOKEN');
    expect(await shell.value()).toBe('mine');
  });

  there('takes the values back in a shell that was started inside', async () => {
    project();
    await story.kz(['trust']);
    const shell = await Shell.start(name);
    await shell.enter();
    await shell.run([name, ...SHELLS[name].args].join(' '));
    await shell.run(SHELLS[name].hook);
    expect(await shell.value()).toBe('token');
    await shell.leave();
    expect(await shell.value()).toBe('unset');
    await shell.run('exit');
    expect(await shell.value()).toBe('token');
  });
});

// What kz decides is the same in every shell.
describe('the hook', () => {
  const there = it.skipIf(NO_TERMINAL !== undefined || isMissing('bash'));

  there('does not load a file that changed since it was trusted', async () => {
    project();
    await story.kz(['trust']);
    const shell = await Shell.start('bash');
    await shell.enter();
    expect(await shell.value()).toBe('token');
    await shell.leave();
    story.config(`${readFileSync(join(story.project, '.keyzero.toml'), 'utf8')}# one more line\n`);
    expect(await shell.enter()).toContain(NOTICE);
    expect(await shell.value()).toBe('unset');
  });

  there('runs nothing of a folder that is not trusted', async () => {
    const marker = join(story.folder, 'was-run');
    story.write('secret.sh', `#!/bin/sh\necho run >> ${marker}\necho what the user had\n`, 0o755);
    story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./secret.sh" }\n');
    const shell = await Shell.start('bash');
    await shell.enter();
    expect(await shell.value()).toBe('unset');
    expect(existsSync(marker)).toBe(false);
    await shell.run('kz trust');
    expect(await shell.value()).toBe('mine');
  });

  there('asks the providers once for a project, not in each of its folders', async () => {
    const marker = join(story.folder, 'was-run');
    story.write('secret.sh', `#!/bin/sh\necho run >> ${marker}\necho what the user had\n`, 0o755);
    story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./secret.sh" }\n');
    story.write('src/deep/.keep', '');
    await story.kz(['trust']);
    const shell = await Shell.start('bash');
    for (const folder of ['', 'src', 'src/deep', '']) {
      await shell.enter(folder);
      expect(await shell.value()).toBe('mine');
    }
    expect(readFileSync(marker, 'utf8')).toBe('run\n');
    await shell.leave();
    await shell.enter('src');
    expect(readFileSync(marker, 'utf8')).toBe('run\nrun\n');
  });

  there('does not hand the values of one project to the next', async () => {
    project('one');
    story.write('two/.keyzero.toml', '[secrets]\nTOKEN = { provider = "env", ref = "TOKEN", required = false }\n');
    for (const folder of ['one', 'two']) await story.kz(['trust'], { cwd: join(story.project, folder) });
    const shell = await Shell.start('bash');
    await shell.enter('one');
    expect(await shell.value()).toBe('token');
    await shell.enter('two');
    expect(await shell.value()).toBe('unset');
    await shell.leave();
    await shell.run(`export TOKEN="$(cat ~/known/mine)"`);
    await shell.enter('one');
    await shell.enter('two');
    expect(await shell.value()).toBe('mine');
  });
});

it('prints nothing but the script, and needs no configuration for it', async () => {
  for (const name of Object.keys(SHELLS)) {
    const { code, stdout, stderr } = await story.kz(['hook', '--shell', name]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`kz hook --shell ${name} --update`);
  }
});
