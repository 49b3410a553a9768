// What git needs, what makes git run programs, and a `.git` that leads astray. Real repositories, where git is there.
import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FakeMachine } from './fake-machine.ts';

const hasGit = spawnSync('git', ['--version']).status === 0;

function git(directory: string, ...words: string[]): void {
  const settings = [
    '-c',
    'user.name=x',
    '-c',
    'user.email=x@example.com',
    '-c',
    'protocol.file.allow=always',
    '-c',
    'init.defaultBranch=main',
  ];
  const env = { PATH: process.env.PATH, HOME: directory, GIT_CONFIG_NOSYSTEM: '1' };
  execFileSync('git', [...settings, ...words], { cwd: directory, env, stdio: 'pipe' });
}

function repository(machine: FakeMachine, path: string): string {
  const folder = machine.folder(path);
  git(folder, 'init');
  git(folder, 'commit', '--allow-empty', '-m', 'x');
  return folder;
}

describe('without git', () => {
  it('a folder without one has nothing', () => {
    expect(new FakeMachine().survey().confinement.guarded).toHaveLength(1);
  });

  it('hooks that are not there are made, to be guarded', () => {
    const machine = new FakeMachine();
    const config = machine.file('home/me/jobs/app/.git/config', '');
    const { confinement, missing } = machine.survey();
    expect(missing).toContain(join(machine.project, '.git/hooks'));
    expect(confinement.guarded).toEqual([join(machine.project, '.keyzero.toml'), config, join(machine.project, '.git/hooks')]);
  });

  it('hooks elsewhere in the project are guarded, but never the project itself', () => {
    const machine = new FakeMachine();
    const hooks = machine.folder('home/me/jobs/app/tools/hooks');
    for (const [path, expected] of [
      ['tools/hooks', [hooks]],
      ['.', []],
      ['..', []],
      ['/etc', []],
      ['missing', []],
    ] as const) {
      machine.file('home/me/jobs/app/.git/config', `[core]\n\thooksPath = ${path}\n`);
      const { guarded, writable } = machine.survey().confinement;
      expect(guarded.filter((each) => !each.includes('/.git/') && !each.endsWith('.toml'))).toEqual(expected);
      expect(writable).toContain(machine.project);
    }
  });

  it.each(['../../.ssh', '/', '../..', 'nowhere', '../other/.git', '../other/.git/worktrees/x', '../other/.git/modules/x'])(
    'a .git that says gitdir: %s opens nothing',
    (target) => {
      const machine = new FakeMachine();
      machine.folder('home/me/.ssh');
      for (const path of ['.git', '.git/worktrees/x', '.git/modules/x'])
        for (const name of ['HEAD', 'objects/x', 'config', 'gitdir'])
          machine.file(`home/me/jobs/other/${path}/${name}`, '[core]\n\tworktree = ../../..\n');
      const file = machine.file('home/me/jobs/app/.git', `gitdir: ${target}\n`);
      const { confinement, missing } = machine.survey();
      expect(confinement.writable.filter((path) => !missing.includes(path))).toEqual([machine.project]);
      expect(confinement.guarded).toContain(file);
    },
  );
});

describe.skipIf(!hasGit)('with git', () => {
  it('a repository has its hooks and its config', () => {
    const machine = new FakeMachine();
    repository(machine, 'home/me/jobs/app');
    const { guarded } = machine.survey().confinement;
    expect(guarded).toEqual(expect.arrayContaining(['hooks', 'config'].map((name) => join(machine.project, '.git', name))));
  });

  it('a worktree may be committed to, and its repository’s hooks stay', () => {
    const machine = new FakeMachine();
    const main = repository(machine, 'home/me/jobs/main');
    rmSync(machine.project, { recursive: true });
    git(main, 'worktree', 'add', machine.project);
    const { confinement } = machine.survey();
    expect(confinement.writable).toContain(join(main, '.git'));
    const expected = ['.git/hooks', '.git/config', '.git/worktrees/app/commondir', '.git/worktrees/app/gitdir'].map((path) =>
      join(main, path),
    );
    expect(confinement.guarded).toEqual(expect.arrayContaining([...expected, join(machine.project, '.git')]));
    // Where the way back leads elsewhere, it is not this worktree's.
    writeFileSync(join(main, '.git/worktrees/app/gitdir'), join(main, '.git'));
    expect(machine.survey().confinement.writable).not.toContain(join(main, '.git'));
  });

  it('submodules have hooks and configs of their own, seen from above and from inside', () => {
    const machine = new FakeMachine();
    const other = repository(machine, 'home/me/jobs/other');
    repository(machine, 'home/me/jobs/app');
    git(machine.project, 'submodule', 'add', other, 'libs/other');
    const module = join(machine.project, '.git/modules/libs/other');
    const expected = ['hooks', 'config'].map((name) => join(module, name));
    expect(machine.survey().confinement.guarded).toEqual(expect.arrayContaining(expected));
    const inside = join(machine.project, 'libs/other');
    const { confinement } = machine.survey({ directory: inside, config: machine.config({}, 'home/me/jobs/app/libs/other/.keyzero.toml') });
    expect(confinement.writable).toEqual(expect.arrayContaining([inside, module]));
    expect(confinement.guarded).toEqual(expect.arrayContaining([...expected, join(inside, '.git')]));
  });
});
