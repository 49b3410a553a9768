// What stays as it is around what the program may write: whatever kz, or the user's tools, obey later. And what would, if it were there.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Surveyed } from '../../src/sandbox/surroundings.ts';
import { ASKED, FakeMachine, secret, source } from './fake-machine.ts';

describe('what kz obeys at its next start is guarded', () => {
  it('exposed files, authorities, and what exec runs', () => {
    const machine = new FakeMachine();
    const at = (path: string): string => machine.file(`home/me/jobs/app/${path}`);
    const file = at('.keyzero.toml');
    const [pem, ca, vault, root] = ['client.pem', 'ca.pem', 'v/ca.pem', 'root.pem'].map(at);
    const scripts = ['scripts/token.sh', 'ask.toml', 'my tool/x y.py', 'lib/a b.js', 'bin/show'].map(at);
    machine.folder('home/me/jobs/app/src');
    const exec = (ref: string): ReturnType<typeof secret> => secret(ref, file, { provider: 'exec' });
    const secrets = [
      secret('client.pem', file, { expose: true }),
      exec('./scripts/token.sh --config=ask.toml -C . --in src "" x=\0'),
      exec(`python3 "my tool/x y.py" lib/a\\ b.js`),
      exec('show'),
    ];
    const config = machine.config({
      secrets: new Map(secrets.map((each, index) => [String(index), each])),
      blind: { upstream_ca: ca },
      providers: { vault: { ca: vault } },
    });
    const env = { NODE_EXTRA_CA_CERTS: root, PATH: join(machine.project, 'bin') };
    const { guarded } = machine.survey({ env, config }).confinement;
    expect(new Set(guarded)).toEqual(new Set([file, pem, ca, vault, root, ...scripts]));
  });

  it('the words of [providers.exec] command, and of documents, from where the config is', () => {
    const machine = new FakeMachine();
    const file = machine.file('home/me/jobs/app/conf/.keyzero.toml', '');
    const [ask, rules] = ['conf/ask', 'conf/rules.txt'].map((path) => machine.file(`home/me/jobs/app/${path}`));
    const origin = { file: source(file, 'project'), path: [] };
    const config = machine.config(
      { documents: [{ provider: 'exec', ref: 'rules.txt', origin }], providers: { exec: { command: ['./ask'] } } },
      'home/me/jobs/app/conf/.keyzero.toml',
    );
    expect(machine.survey({ config }).confinement.guarded).toEqual([file, ask, rules]);
  });

  it('a program by way of a link is told: the link cannot be guarded', () => {
    const machine = new FakeMachine();
    const real = machine.file('home/me/jobs/app/node_modules/tool/cli.js');
    machine.link('home/me/jobs/app/node_modules/.bin/tool', '../tool/cli.js');
    const secrets = new Map([['A', secret('node_modules/.bin/tool get', join(machine.project, '.keyzero.toml'), { provider: 'exec' })]]);
    const { confinement, notes } = machine.survey({ config: machine.config({ secrets }) });
    expect(confinement.guarded).toContain(real);
    expect(notes).toEqual([
      'the ref of A names ~/jobs/app/node_modules/.bin/tool: what the program puts in the place of the link ~/jobs/app/node_modules/.bin/tool, kz obeys at its next start',
    ]);
  });

  it('a config further up than where the program starts, with what would come before it', () => {
    const machine = new FakeMachine();
    const inner = machine.folder('home/me/jobs/app/packages/one');
    const between = machine.file('home/me/jobs/app/packages/.keyzero.toml');
    const { confinement, absent } = machine.survey({ directory: inner });
    expect(confinement.guarded).toEqual([join(machine.project, '.keyzero.toml'), between]);
    expect(absent).toContain(join(inner, '.keyzero.toml'));
    expect(absent).toContain(join(machine.project, '.keyzero.local.toml'));
    // Only beside a config kz reads it.
    expect(absent).not.toContain(join(inner, '.keyzero.local.toml'));
  });

  it('a config by another name, in a folder that the program cannot write to, needs nothing', () => {
    const machine = new FakeMachine();
    const named = machine.file('home/me/jobs/app/deploy/kz.toml', '');
    const config = { ...machine.config(), files: [source(named, 'project')] };
    expect(machine.survey({ config }).confinement.guarded).toContain(named);
    const user = source(machine.file('home/me/.config/keyzero/config.toml', ''), 'user');
    expect(machine.survey({ config: { ...config, files: [user] } }).confinement.guarded).not.toContain(user.path);
  });
});

describe('kz’s own package in the project is guarded', () => {
  function install(machine: FakeMachine, root: string): string {
    for (const path of ['package.json', 'bin/kz.cjs', 'dist/kz.cjs']) machine.file(`${root}/${path}`);
    return machine.path(`${root}/dist`);
  }

  it('whole, with the package that it loads and the file that starts it', () => {
    const machine = new FakeMachine();
    const own = install(machine, 'home/me/jobs/app/node_modules/keyzero');
    const expected = ['keyzero', '@napi-rs/keyring', '@napi-rs/keyring-linux-x64-gnu'].map((name) =>
      machine.folder(`home/me/jobs/app/node_modules/${name}`),
    );
    machine.folder('home/me/jobs/app/node_modules/@napi-rs/canvas');
    machine.link('home/me/jobs/app/node_modules/.bin/kz', '../keyzero/bin/kz.cjs');
    const guarded = (): readonly string[] => machine.survey({ own: [own] }).confinement.guarded;
    expect(new Set(guarded())).toEqual(new Set([join(machine.project, '.keyzero.toml'), ...expected]));
    // pnpm's is a script.
    rmSync(join(machine.project, 'node_modules/.bin/kz'));
    const shim = machine.file('home/me/jobs/app/node_modules/.bin/kz');
    expect(guarded()).toContain(shim);
  });

  it('of whoever develops it only what runs', () => {
    const machine = new FakeMachine();
    const own = install(machine, 'home/me/jobs/app');
    expect(machine.survey({ own: [own] }).confinement.guarded).toEqual(
      ['.keyzero.toml', 'dist', 'bin'].map((path) => join(machine.project, path)),
    );
  });

  it('elsewhere not', () => {
    const machine = new FakeMachine();
    expect(machine.survey({ own: [install(machine, 'usr/lib/node_modules/keyzero')] }).confinement.guarded).toHaveLength(1);
  });
});

describe('absent', () => {
  function names({ absent }: Surveyed, folder: string): string[] {
    return absent.flatMap((path) => (path.startsWith(`${folder}/`) ? [path.slice(folder.length + 1)] : []));
  }

  it('is what would be guarded in writable places, each once, and nothing that is there', () => {
    const machine = new FakeMachine();
    machine.file('home/me/jobs/app/.mcp.json');
    machine.link('home/me/jobs/app/.vscode', '/nowhere/at/all');
    const surveyed = machine.survey();
    expect(names(surveyed, machine.project)).toEqual(
      expect.arrayContaining(['.keyzero.local.toml', '.claude', '.envrc', '.husky', '.git', 'lefthook.yml']),
    );
    expect(new Set(surveyed.absent).size).toBe(surveyed.absent.length);
    for (const name of ['.keyzero.toml', '.mcp.json', '.vscode']) expect(surveyed.absent).not.toContain(join(machine.project, name));
    expect(surveyed.absent.filter((path) => !path.startsWith(machine.project))).toEqual([]);
  });

  it('has what leads git astray, of every repository, but no hooks: those are made', () => {
    const machine = new FakeMachine();
    for (const path of ['.git', '.git/modules/lib'])
      for (const name of ['HEAD', 'config', 'objects/x']) machine.file(`home/me/jobs/app/${path}/${name}`, '');
    const surveyed = machine.survey();
    expect(names(surveyed, join(machine.project, '.git')).toSorted()).toEqual(
      ['', 'modules/lib/'].flatMap((folder) => ['commondir', 'config.worktree', 'info/attributes'].map((name) => folder + name)).toSorted(),
    );
    expect(surveyed.absent).not.toContain(join(machine.project, '.git'));
    machine.file('home/me/jobs/app/.git/commondir', '.\n');
    expect(machine.survey().confinement.guarded).toContain(join(machine.project, '.git/commondir'));
  });

  it('has what refs name, and what would be found first in PATH', () => {
    const machine = new FakeMachine();
    machine.file('usr/bin/gopass', '');
    const file = join(machine.project, '.keyzero.toml');
    const refs = [
      secret('late.pem', file, { expose: true }),
      secret('gopass show', file, { provider: 'exec' }),
      secret('op://a/b/c', file, { provider: '1password' }),
    ];
    const config = machine.config({ secrets: new Map(refs.map((each, index) => [String(index), each])) });
    const bin = machine.folder('home/me/jobs/app/node_modules/.bin');
    const PATH = [bin, machine.path('usr/bin'), join(machine.project, 'later')].join(':');
    const { absent } = machine.survey({ env: { PATH }, config });
    expect(absent).toEqual(expect.arrayContaining([join(machine.project, 'late.pem'), join(bin, 'gopass'), join(bin, 'op')]));
    expect(absent).not.toContain(join(machine.project, 'later/gopass'));
  });

  it('has nothing in what is hidden, guarded, temporary or read-only', () => {
    const machine = new FakeMachine();
    const project = machine.folder('home/me');
    const unwritable = machine.survey({ directory: project, config: machine.config({}, 'home/me/.keyzero.toml') });
    expect(unwritable.absent).toEqual([]);
    const guarded = machine.folder('home/me/jobs/app/.claude');
    const secrets = new Map([['A', secret('.claude/x', join(machine.project, '.keyzero.toml'), { expose: true })]]);
    const hidden = machine.folder('home/me/jobs/app/hidden');
    const settings = { ...ASKED, hide: [hidden] };
    const surveyed = machine.survey({ settings, config: machine.config({ secrets, blind: { upstream_ca: join(hidden, 'ca.pem') } }) });
    expect(surveyed.absent.filter((path) => path.startsWith(guarded) || path.startsWith(hidden))).toEqual([]);
  });

  it('has a home’s start files where `write` opens the home', () => {
    const machine = new FakeMachine();
    machine.folder('home/me/.config');
    const { absent } = machine.survey({ settings: { ...ASKED, write: [machine.home] } });
    expect(absent).toEqual(
      expect.arrayContaining(['.bashrc', '.config/autostart', 'go/bin'].map((path) => machine.path(`home/me/${path}`))),
    );
  });
});
