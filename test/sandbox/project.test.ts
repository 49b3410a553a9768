// The project: what is one, what in it is guarded, and which of its files are hidden.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ASKED, FakeMachine, hiddenPaths, problem, source, writableIn } from './fake-machine.ts';

describe('the project', () => {
  it('is the folder of the config and the one where the program starts, one inside of the other once', () => {
    const machine = new FakeMachine();
    const inner = machine.folder('home/me/jobs/app/packages/one');
    expect(writableIn(machine.survey({ directory: inner }))).toEqual([machine.project]);
    const elsewhere = machine.folder('home/me/other');
    expect(writableIn(machine.survey({ directory: elsewhere }))).toEqual([machine.project, elsewhere]);
  });

  it('is real where it is reached by a link', () => {
    const machine = new FakeMachine();
    const link = machine.link('home/me/link', machine.project);
    const surveyed = machine.survey({ directory: link });
    expect([surveyed.confinement.directory, writableIn(surveyed)]).toEqual([machine.project, [machine.project]]);
  });

  it.each(['home/me', 'home', '.', 'etc', 'etc/app', 'usr/bin', 'usr', 'tmp', 'var', 'opt', 'run', 'usr/local/bin'])(
    'is not writable when it is %s, which is told',
    (path) => {
      const machine = new FakeMachine();
      const folder = machine.folder(path);
      const surveyed = machine.survey({ directory: folder, config: machine.config({}, join(path, '.keyzero.toml')) });
      expect(writableIn(surveyed)).toEqual([]);
      expect(surveyed.notes.join()).toMatch(/cannot write to .*`write` in \[blind\.sandbox\]/);
    },
  );

  it.each(['usr/src/app', 'opt/app', 'srv/app', 'var/www/html', 'app', 'usr/local/app'])('is writable when it is %s', (path) => {
    const machine = new FakeMachine();
    const folder = machine.folder(path);
    expect(writableIn(machine.survey({ directory: folder, config: machine.config({}, join(path, '.keyzero.toml')) }))).toEqual([folder]);
  });

  it('a user’s own config makes no project', () => {
    const machine = new FakeMachine();
    const user = source(machine.file('home/me/.config/keyzero/config.toml'), 'user');
    expect(writableIn(machine.survey({ config: machine.config({ files: [user] }) }))).toEqual([machine.project]);
  });

  it('cannot be started in what is hidden, nor in what is not there', () => {
    const machine = new FakeMachine();
    const folder = machine.folder('home/me/.aws/scripts');
    expect(problem(() => machine.survey({ directory: folder }))).toMatchObject({
      code: 'start-failed',
      message: 'cannot start in ~/.aws/scripts: it is hidden from blind programs',
    });
    expect(problem(() => machine.survey({ directory: machine.path('home/me/.aws') })).code).toBe('start-failed');
    expect(problem(() => machine.survey({ directory: machine.path('gone') })).code).toBe('start-failed');
    expect(machine.survey({ directory: folder, settings: { ...ASKED, read: [folder] } }).confinement.readable).toContain(folder);
  });
});

describe('guarded', () => {
  it('is what a person’s tools run or obey, as far as it is there', () => {
    const machine = new FakeMachine();
    for (const path of ['.keyzero.local.toml', '.mcp.json', '.vscode/tasks.json', '.claude/settings.json', '.husky/pre-commit', 'src/x.ts'])
      machine.file(`home/me/jobs/app/${path}`);
    const { guarded } = machine.survey().confinement;
    const expected = ['.keyzero.toml', '.keyzero.local.toml', '.mcp.json', '.vscode', '.claude', '.husky'].map((name) =>
      join(machine.project, name),
    );
    expect(new Set(guarded)).toEqual(new Set(expected));
  });

  it('not what `write` names exactly; inside of it, `write` counts too', () => {
    const machine = new FakeMachine();
    for (const path of ['.vscode/a', '.claude/logs/a', '.cursor/a']) machine.file(`home/me/jobs/app/${path}`);
    const write = ['.vscode', '.claude/logs'].map((path) => join(machine.project, path));
    const surveyed = machine.survey({ settings: { ...ASKED, write } });
    expect(surveyed.confinement.guarded).toEqual(['.keyzero.toml', '.claude', '.cursor'].map((path) => join(machine.project, path)));
    expect(writableIn(surveyed)).toEqual([machine.project, join(machine.project, '.claude/logs')]);
  });

  it('is kz’s own installation within the project, and outside what starts shells when `write` opens the home', () => {
    const machine = new FakeMachine();
    const own = machine.folder('home/me/jobs/app/node_modules/keyzero/dist');
    const bashrc = machine.file('home/me/.bashrc');
    machine.folder('home/me/.config/systemd/user');
    const { confinement, notes } = machine.survey({ own: [own], settings: { ...ASKED, write: [machine.home] } });
    for (const path of [own, bashrc, machine.path('home/me/.config/systemd')]) expect(confinement.guarded).toContain(path);
    expect(confinement.writable).toEqual([machine.home]);
    expect(notes.join()).toContain('which is your home folder');
    expect(machine.survey({ own: [own], settings: { ...ASKED, write: [own] } }).confinement.guarded).not.toContain(own);
  });

  it('kz elsewhere needs nothing, and below /tmp it is readable', () => {
    const machine = new FakeMachine();
    const own = [machine.folder('usr/lib/keyzero'), machine.folder('tmp/npx/keyzero')];
    const { readable, guarded } = machine.survey({ own }).confinement;
    expect(readable).toEqual([own[1]]);
    expect(guarded).toEqual([join(machine.project, '.keyzero.toml')]);
  });
});

describe('values in the project', () => {
  it('.env and its like are hidden, but not examples, folders of Python’s, and the config', () => {
    const machine = new FakeMachine();
    const hidden = [
      '.env',
      '.env.local',
      '.env.production.local',
      '.envrc',
      '.env-staging',
      '.dev.vars',
      '.env.keys',
      '.envs/.local/.django',
    ];
    const kept = ['.env.example', '.env.local.sample', '.env.template', '.env.dist', '.environment.yml', 'x.env', '.env.venv/pyvenv.cfg'];
    for (const path of [...hidden, ...kept]) machine.file(`home/me/jobs/app/${path}`);
    const config = machine.config({}, 'home/me/jobs/app/.env.kz.toml');
    const expected = [...hidden.slice(0, -1), '.envs'].map((path) => join(machine.project, path));
    expect(new Set(hiddenPaths(machine.survey({ config })))).toEqual(new Set(expected));
  });

  it('also above, up to the root of the repository, and on the way to where the program starts', () => {
    const machine = new FakeMachine();
    machine.folder('home/me/jobs/.git');
    const inner = machine.folder('home/me/jobs/app/a/b');
    const expected = ['jobs/.env', 'jobs/app/.env', 'jobs/app/a/.env', 'jobs/app/a/b/.env'].map((path) => machine.file(`home/me/${path}`));
    machine.file('home/.env');
    expect(hiddenPaths(machine.survey({ directory: inner })).toSorted()).toEqual(expected.toSorted());
  });

  it('a link leads to what is hidden, a FIFO is hidden, and a link to everything hides nothing', () => {
    const machine = new FakeMachine();
    const real = machine.file('home/me/vault/prod.txt');
    machine.link('home/me/jobs/app/.env', real);
    machine.link('home/me/jobs/app/.env.a', '/dev/null');
    machine.link('home/me/jobs/app/.env.b', machine.home);
    machine.link('home/me/jobs/app/.env.c', machine.path('nowhere'));
    machine.link('home/me/jobs/app/.env.e', machine.path('etc'));
    const fifo = machine.fifo('home/me/jobs/app/.env.d');
    const surveyed = machine.survey();
    expect(new Set(surveyed.confinement.hidden)).toEqual(new Set([real, fifo].map((path) => ({ path, kind: 'file' }))));
    expect(surveyed.notes).toContain(`${machine.home} is not hidden: it is your home folder`);
  });
});
