// Attacks on the time in which a sandbox is built, and on what is mounted later: another process of the user, which may be a program that was
// sandboxed before, exchanges what kz has looked at. Each is made without a sandbox first, where it must succeed.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sandboxTools } from '../../../src/sandbox/availability.ts';
import { IsolatedStory } from '../../stories/isolated.ts';
import { NO_ISOLATION } from '../../stories/isolation.ts';
import { has, KZ, NODE, type Ended } from '../../stories/kz.ts';
import { descendants, isRunning, Running, waitFor } from '../../stories/processes.ts';

/** Says that it runs, and goes on when it may. */
const waits = (name: string): string => `: > '${name}.runs'; until test -e '${name}.go'; do sleep 0.01; done`;
const EXCHANGED = /^kz: error: the sandbox could not be built: .* was exchanged while the sandbox was built\n$/;
const MODES = ['strict', 'auto'] as const;
type Mode = 'off' | (typeof MODES)[number];

let story: IsolatedStory;

beforeEach(() => {
  story = new IsolatedStory();
});

afterEach(() => {
  // What is hidden from the program is there for the user.
  story.end(['key', 'credentials', 'secret.txt']);
});

function file(path: string, text: string): string {
  const full = join(story.folder, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, text);
  return full;
}

/** What a program of the user does between two looks of kz. */
function move(from: string, to: string): void {
  renameSync(join(story.folder, from), join(story.folder, to));
}

function link(path: string, target: string): void {
  symlinkSync(target, join(story.folder, path));
}

interface Race {
  readonly title: string;
  /** Relative to the story's folder, and so is all that follows. */
  readonly prepare: () => void;
  readonly exchange: () => void;
  /** Where the program looks for a value that is hidden. */
  readonly seen: string;
  /** kz does not notice, and nothing is gained. */
  readonly isHarmless?: boolean;
  /** bubblewrap cannot mount that already. */
  readonly failsBefore?: boolean;
}

const RACES: readonly Race[] = [
  {
    title: 'a guarded folder of the project, by a link to a hidden folder',
    prepare: () => file('project/.husky/pre-commit', ''),
    exchange: () => {
      move('project/.husky', 'project/.husky.moved');
      link('project/.husky', '../home/.ssh');
    },
    seen: 'home/.ssh/key',
  },
  {
    title: 'a guarded folder of the project, by a link with an absolute path',
    prepare: () => file('project/.vscode/settings.json', '{}'),
    exchange: () => {
      move('project/.vscode', 'project/.vscode.moved');
      link('project/.vscode', join(story.home, '.aws'));
    },
    seen: 'project/.vscode/credentials',
    failsBefore: true,
  },
  {
    title: 'a guarded file of the project, by a link to a hidden file',
    prepare: () => file('project/.envrc', ''),
    exchange: () => {
      rmSync(join(story.project, '.envrc'));
      link('project/.envrc', '../home/.ssh/key');
    },
    seen: 'project/.envrc',
  },
  {
    title: 'a cache, by a link to a hidden folder',
    prepare: () => file('home/.npm/_cacache/index', ''),
    exchange: () => {
      move('home/.npm', 'home/.npm.moved');
      link('home/.npm', '.aws');
    },
    seen: 'home/.npm/credentials',
  },
  {
    title: 'a cache, by a link to the home folder',
    prepare: () => file('home/.cache/pip/index', ''),
    exchange: () => {
      move('home/.cache/pip', 'home/.cache/pip.moved');
      link('home/.cache/pip', '../../home');
    },
    seen: 'home/.cache/pip/.ssh/key',
    failsBefore: true,
  },
  {
    title: 'the folder of a hidden file, by a link to another',
    prepare: () => {
      file('project/config/secret.txt', story.canary());
      file('project/other/secret.txt', 'nothing of value');
    },
    exchange: () => {
      move('project/config', 'project/elsewhere');
      link('project/config', 'other');
    },
    seen: 'project/elsewhere/secret.txt',
  },
  {
    title: 'a folder above the hidden file, by a link to the moved one',
    prepare: () => {
      file('project/deep/config/secret.txt', story.canary());
    },
    exchange: () => {
      move('project/deep', 'project/elsewhere');
      link('project/deep', 'elsewhere');
    },
    seen: 'project/elsewhere/config/secret.txt',
  },
  {
    title: 'the project, by a link to the home folder',
    prepare: () => undefined,
    exchange: () => {
      move('project', 'project.moved');
      link('project', 'home');
    },
    seen: 'project/.ssh/key',
    failsBefore: true,
  },
  {
    title: 'a guarded folder, by another folder',
    prepare: () => {
      file('project/.husky/pre-commit', '');
      file('project/other/pre-commit', '');
    },
    exchange: () => {
      move('project/.husky', 'project/.husky.moved');
      move('project/other', 'project/.husky');
    },
    seen: 'home/.ssh/key',
    isHarmless: true,
  },
];

/**
 * What is mounted is told by its path, which is the same. Only who may rename the folder can do it, which no sandboxed program can that has the
 * file hidden. The day on which this fails, it moves up.
 */
const LIMIT: Race = {
  title: 'the folder of a hidden file, by another folder',
  prepare: () => {
    file('project/config/secret.txt', story.canary());
    file('project/other/secret.txt', 'nothing of value');
  },
  exchange: () => {
    move('project/config', 'project/elsewhere');
    move('project/other', 'project/config');
  },
  seen: 'project/elsewhere/secret.txt',
};

/** Relative to the project. */
const HIDDEN_FILES = ['config/secret.txt', 'deep/config/secret.txt'];

function furnish({ prepare }: Race): void {
  file('home/.ssh/key', story.canary());
  file('home/.aws/credentials', story.canary());
  prepare();
  mkdirSync(join(story.folder, 'gates'));
  const script = story.write('provider', `#!/bin/sh\n${waits(gate('provider'))}; echo value-of-the-provider\n`, 0o755);
  const hidden = HIDDEN_FILES.filter((path) => existsSync(join(story.project, path)));
  const settings = hidden.length === 0 ? '' : `[blind.sandbox]\nhide = ${JSON.stringify(hidden)}\n`;
  story.config(`${settings}[secrets]\nTOKEN = { provider = "exec", ref = "${script}", hosts = ["api.example"] }\n`);
}

const NO_MOUNTS = NO_ISOLATION ?? mountProblem();
const MOUNT_NOTE = NO_MOUNTS === undefined ? '' : ` (skipped: ${NO_MOUNTS})`;

function mountProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'the tests are not run by root, who owns what is mounted';
  const missing = ['unshare', 'nsenter', 'mount'].find((name) => !has(name) && !existsSync(`/usr/sbin/${name}`));
  if (missing !== undefined) return `no ${missing}`;
  const { status } = spawnSync('unshare', ['-m', 'mount', '--make-rshared', '/'], { stdio: 'ignore' });
  return status === 0 ? undefined : 'mount namespaces are not allowed here';
}

const BWRAP = sandboxTools().bwrap ?? '';

/** When the exchange is made: kz has looked, or all is mounted too. The secrets are not there yet, in both. */
type Moment = 'before the mounts' | 'after the mounts';

/** The program turns round what it sees, as kz takes out values that it knows. */
async function racing(race: Race, sandbox: Mode, moment: Moment = 'before the mounts'): Promise<Ended> {
  furnish(race);
  const marker = `marker-${story.value}`;
  const command = ['sh', '-c', 'echo started; rev 2>&- < "$1"', marker, join(story.folder, race.seen)];
  const kz = [NODE, KZ, 'run', '--blind', '--sandbox', sandbox, '--', ...command];
  const isHeld = sandbox !== 'off' && moment === 'before the mounts';
  const running = new Running(story.startProgram(isHeld ? withGate(kz) : [NODE, ...kz.slice(1)]));
  await waitFor('the provider', () => existsSync(gate('provider.runs')) || running.child.exitCode !== null);
  if (isHeld) await waitFor('the inner part', () => existsSync(gate('inner.runs')) || running.child.exitCode !== null);
  else if (sandbox !== 'off') await waitFor('the last step', () => isAtLastStep(running) || running.child.exitCode !== null);
  race.exchange();
  for (const name of ['inner.go', 'provider.go']) writeFileSync(gate(name), '');
  const ended = await running.ended;
  expect(isRunning(marker)).toBe(false);
  return ended;
}

/** Outside of what is exchanged. */
function gate(name: string): string {
  return join(story.folder, 'gates', name);
}

/** In a mount namespace where bubblewrap's second part waits before it does anything: kz has told it what to mount. */
function withGate(kz: readonly string[]): [string, ...string[]] {
  const real = gate('bwrap');
  const wrapper = gate('wrapper');
  copyFileSync(BWRAP, real);
  const text = `#!/bin/sh\nPATH=/usr/bin:/bin\nif [ "$1" = --args ]; then ${waits(gate('inner'))}; fi\nexec '${real}' "$@"\n`;
  writeFileSync(wrapper, text, { mode: 0o755 });
  return ['unshare', '-m', 'sh', '-c', `mount --bind '${wrapper}' '${BWRAP}' && exec "$@"`, 'sh', ...kz];
}

function isAtLastStep({ pid }: Running): boolean {
  return descendants(pid).some((each) => {
    const [program = '', first = ''] = argumentsOf(each).split('\0');
    return program.endsWith('perl') && first.endsWith('start.pl');
  });
}

function argumentsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${String(pid)}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

const VALUE = /[0-9a-f]{24}-YRANAC/;

describe.skipIf(NO_MOUNTS !== undefined)(`exchanged while the secrets are fetched${MOUNT_NOTE}`, () => {
  it.each([...RACES, LIMIT])('$title: without a sandbox the program sees what is hidden', async (race) => {
    const { code, stdout } = await racing(race, 'off');
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(VALUE) as string });
  });

  const noticed = RACES.filter(({ isHarmless }) => isHarmless !== true);

  it.each(noticed.flatMap((race) => MODES.map((mode) => ({ ...race, mode }))))(
    '$title: nothing is started, and kz says why ($mode)',
    async ({ mode, ...race }) => {
      const { code, stdout, stderr } = await racing(race, mode);
      const why = race.failsBefore === true ? /^kz: error: the sandbox could not be built: / : EXCHANGED;
      expect({ code, stdout, stderr }).toEqual({ code: 125, stdout: '', stderr: expect.stringMatching(why) as string });
      expect(readdirSync(story.temporary)).toEqual([]);
    },
  );

  it.each(RACES.filter(({ isHarmless }) => isHarmless === true))('$title: gains nothing', async (race) => {
    const { stdout } = await racing(race, 'strict');
    expect(stdout).toMatch(/^(?:started\n)?$/);
  });

  it.each([...RACES, LIMIT])('$title, after the mounts: the program does not see what is hidden', async (race) => {
    const { code, stdout, stderr } = await racing(race, 'strict', 'after the mounts');
    expect(stdout).not.toMatch(VALUE);
    if (code === 125) expect({ stdout, stderr }).toEqual({ stdout: '', stderr: expect.stringMatching(EXCHANGED) as string });
  });

  it(`limit: ${LIMIT.title}`, async () => {
    expect((await racing(LIMIT, 'strict')).stdout).toMatch(VALUE);
  });
});

/** In a mount namespace of its own, where every mount is passed on to whoever copies it, as a system's own are. */
function sharing(sandbox: Mode, command: readonly string[]): Running {
  const kz = [NODE, KZ, 'run', '--blind', '--sandbox', sandbox, '--', ...command];
  const program = ['unshare', '-m', 'sh', '-c', 'mount --make-rshared / && exec "$@"', 'sh', ...kz] as const;
  return new Running(story.startProgram([...program], { keepInput: true }));
}

function mountIn(running: Running, ...words: readonly string[]): void {
  const { status, stderr } = spawnSync('nsenter', ['-t', String(running.pid), '-m', 'mount', ...words], { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

describe.skipIf(NO_MOUNTS !== undefined)(`mounted on the host while the program runs${MOUNT_NOTE}`, () => {
  const places = [
    ['in the project', 'project/late'],
    ['in the home folder', 'home/late'],
  ] as const;

  async function mounted(sandbox: Mode, place: string): Promise<Ended> {
    const folder = join(story.folder, place);
    mkdirSync(folder);
    const value = story.canary();
    file('home/.ssh/key', value);
    const program = 'echo ready 1; read -r line; rev 2>&- < "$1/.ssh/key"; : 2>&- > "$1/written"; echo end';
    const running = sharing(sandbox, ['sh', '-c', program, 'sh', folder]);
    await running.numbers('ready');
    mountIn(running, '--bind', story.home, folder);
    running.child.stdin?.end('go on\n');
    return running.ended;
  }

  it.each(places)('%s: without a sandbox the program sees it', async (_, place) => {
    const { stdout } = await mounted('off', place);
    expect(stdout).toMatch(VALUE);
    expect(existsSync(join(story.home, 'written'))).toBe(true);
  });

  it.each(places)('%s: it does not appear in the sandbox', async (_, place) => {
    const { stdout, stderr } = await mounted('strict', place);
    expect({ stdout: stdout.split('\n').at(0), stderr }).toEqual({ stdout: 'ready 1', stderr: '' });
    expect(stdout).not.toMatch(VALUE);
    expect(existsSync(join(story.home, 'written'))).toBe(false);
  });
});
