// Links that an earlier program may have left where it could write: nothing is given by way of one.
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { plantedLink } from '../../src/sandbox/links.ts';
import { ASKED, FakeMachine, hiddenPaths, problem, secret, source, writableIn } from './fake-machine.ts';

describe('a link that the program could have made', () => {
  it('is one in a folder that it can write to, however many others are on the way, and none from elsewhere into it', () => {
    const machine = new FakeMachine();
    const target = machine.file('home/me/.aws/credentials');
    const inner = machine.link('home/me/jobs/app/data/x', '../../../.aws');
    const outer = machine.link('home/me/short', machine.project);
    machine.link('home/me/jobs/app/a', 'data');
    const open = [machine.project];
    const planted = (path: string): string | undefined => plantedLink(path, open);
    expect(planted(join(inner, 'credentials'))).toBe(inner);
    expect(planted(join(outer, 'data/x/credentials'))).toBe(inner);
    expect(planted(join(machine.project, 'a/x/../.aws/credentials'))).toBe(join(machine.project, 'a'));
    expect(planted(join(outer, 'data'))).toBeUndefined();
    expect(planted(target)).toBeUndefined();
    expect(planted(`${machine.home}//work/./app/../app/data/`)).toBeUndefined();
    expect(plantedLink(inner, [machine.path('home/me/jobs/ap')])).toBeUndefined();
    // Dangling, and in a circle.
    const gone = machine.link('home/me/jobs/app/gone', '/nowhere/at/all');
    const circle = machine.link('home/me/jobs/app/circle', 'circle');
    expect([gone, circle].map(planted)).toEqual([gone, circle]);
  });

  it.skipIf(process.getuid?.() === 0 || lstatSync('/etc/mtab', { throwIfNoEntry: false })?.isSymbolicLink() !== true)(
    'is none where this user cannot write (left out for root, and without /etc/mtab)',
    () => {
      expect(plantedLink('/etc/mtab', ['/etc'])).toBeUndefined();
    },
  );
});

describe('`read` and `write`', () => {
  it.each(['read', 'write'] as const)('`%s` refuses one, also above what it names, in the project or in a cache', (key) => {
    const machine = new FakeMachine();
    machine.file('home/me/.aws/credentials');
    machine.file('home/me/.aws/sso/x');
    machine.link('home/me/jobs/app/data', '../../.aws');
    machine.link('home/me/jobs/app/sub/data', '../../../.aws/sso');
    machine.link('home/me/.npm/x', '../.aws');
    for (const [path, message, target] of [
      ['data', `names ~/jobs/app/data in \`${key}\`, a link that a program could have made`, '~/.aws'],
      ['data/sso', 'by way of the link ~/jobs/app/data,', '~/.aws/sso'],
      ['sub/data/x', 'by way of the link ~/jobs/app/sub/data,', '~/.aws/sso/x'],
      ['../../.npm/x', '~/.npm/x', '~/.aws'],
    ] as const) {
      const settings = { ...ASKED, [key]: [join(machine.project, path)] };
      expect(problem(() => machine.survey({ settings }))).toMatchObject({
        code: 'config-invalid',
        message: expect.stringContaining(message) as unknown,
        hint: `if it is yours, write "${target}" instead`,
      });
    }
  });

  it('refuse one in another folder that `write` names, or that a worktree needs', () => {
    const machine = new FakeMachine();
    machine.file('home/me/.ssh/id');
    const out = machine.folder('home/me/out');
    const link = machine.link('home/me/out/x', '../.ssh');
    expect(problem(() => machine.survey({ settings: { ...ASKED, read: [link], write: [out] } })).code).toBe('config-invalid');
    expect(problem(() => machine.survey({ settings: { ...ASKED, write: [link, out] } })).code).toBe('config-invalid');
    // Without that it is a link of the user's.
    expect(machine.survey({ settings: { ...ASKED, read: [link] } }).confinement.hidden).toEqual([]);
    const git = 'home/me/jobs/main/.git';
    machine.file(`${git}/HEAD`);
    machine.folder(`${git}/objects`);
    machine.file(`${git}/worktrees/app/gitdir`, `${machine.project}/.git\n`);
    machine.file('home/me/jobs/app/.git', `gitdir: ${machine.path(`${git}/worktrees/app`)}\n`);
    const left = machine.link(`${git}/x`, machine.path('home/me/.ssh'));
    expect(problem(() => machine.survey({ settings: { ...ASKED, read: [left] } })).code).toBe('config-invalid');
  });

  it('follow links of the user’s: the folder above the project, the home', () => {
    const machine = new FakeMachine();
    const keys = machine.file('home/me/dotfiles/aws/config');
    machine.link('home/me/.aws', 'dotfiles/aws');
    machine.link('home/me/code', 'jobs');
    const read = [machine.path('home/me/.aws/config'), machine.path('home/me/code/app')];
    const { confinement } = machine.survey({ settings: { ...ASKED, read, write: [machine.path('home/me/code/app')] } });
    expect([confinement.readable, confinement.hidden.map(({ path }) => path)]).toEqual([[keys], [machine.path('home/me/dotfiles/aws')]]);
  });

  it('`hide` follows every link, and says what it is worth', () => {
    const machine = new FakeMachine();
    const real = machine.file('home/me/notes.txt');
    const link = machine.link('home/me/jobs/app/notes', real);
    const surveyed = machine.survey({ settings: { ...ASKED, hide: [link] } });
    expect(hiddenPaths(surveyed)).toEqual([real]);
    expect(surveyed.notes).toEqual([expect.stringContaining('a link that the program can take away, so name ~/notes.txt itself')]);
    expect(machine.survey({ settings: { ...ASKED, hide: [machine.link('home/me/n', real)] } }).notes).toEqual([]);
  });
});

describe('caches', () => {
  it('are none where a link in another one, or in the project, leads', () => {
    const machine = new FakeMachine();
    const dotfiles = machine.folder('home/me/dotfiles');
    for (const path of ['.yarn/berry/cache', '.yarn/berry/metadata', '.gradle/wrapper/dists', '.npm/deep/uv', 'jobs/app/.cache'])
      machine.link(`home/me/${path}`, dotfiles);
    const env = {
      PATH: machine.path('usr/bin'),
      UV_CACHE_DIR: machine.path('home/me/.npm/deep/uv'),
      PIP_CACHE_DIR: machine.path('home/me/jobs/app/.cache'),
      DENO_DIR: machine.path('home/me/jobs/app/.cache/deno/'),
      UV_TOOL_DIR: machine.path('home/me/jobs/app/.cache/tools'),
    };
    for (const name of ['npx', 'uvx']) machine.file(`usr/bin/${name}`, '');
    machine.folder('home/me/dotfiles/deno');
    machine.folder('home/me/.gradle/wrapper');
    const surveyed = machine.survey({ env });
    const { confinement, missing, notes } = surveyed;
    expect([...confinement.writable, ...missing].filter((path) => path.startsWith(dotfiles))).toEqual([]);
    expect(writableIn(surveyed)).toEqual(
      expect.arrayContaining(['.yarn/berry', '.gradle/wrapper', '.npm'].map((path) => machine.path(`home/me/${path}`))),
    );
    expect(notes.filter((note) => note.includes('a link that a program could have made'))).toHaveLength(5);
  });

  it('may be links of the user’s, and a link to another cache is as good as that', () => {
    const machine = new FakeMachine();
    const target = machine.folder('srv/npm');
    machine.link('home/me/.npm', target);
    const found = machine.survey();
    expect([writableIn(found), found.notes]).toEqual([[machine.project, target], []]);
  });

  it('one whose name is shorter than that of the cache it leads through', () => {
    const machine = new FakeMachine();
    const dotfiles = machine.folder('home/me/dotfiles');
    machine.link('home/me/.cache/uv/x', dotfiles);
    const link = machine.link('u', machine.path('home/me/.cache/uv/x'));
    expect(machine.survey({ env: { npm_config_cache: link } }).confinement.writable).not.toContain(dotfiles);
  });
});

describe('the config itself', () => {
  it('is refused as a link in the project, and taken as one elsewhere', () => {
    const machine = new FakeMachine();
    const real = machine.file('home/me/dotfiles/app.toml', '');
    const link = machine.link('home/me/jobs/app/.keyzero.toml', real);
    const config = { ...machine.config({}, 'home/me/dotfiles/other.toml'), files: [source(link, 'project')] };
    expect(problem(() => machine.survey({ config }))).toMatchObject({
      code: 'config-untrusted',
      message: expect.stringContaining(`${link} leads by the link`) as unknown,
    });
    const outer = machine.link('home/me/code', 'jobs');
    machine.file('home/me/jobs/app/kz.toml', '');
    expect(machine.survey({ config: { ...config, files: [source(join(outer, 'app/kz.toml'), 'project')] } }).confinement.guarded).toEqual([
      join(machine.project, 'kz.toml'),
    ]);
  });

  it('is refused when a folder of the program’s is a link on the way', () => {
    const machine = new FakeMachine();
    machine.file('home/me/other/.keyzero.toml', '');
    const link = machine.link('home/me/jobs/app/sub', '../../other');
    const config = { ...machine.config(), files: [source(join(link, '.keyzero.toml'), 'project')] };
    expect(problem(() => machine.survey({ config })).code).toBe('config-untrusted');
  });
});

describe('files that refs and providers name', () => {
  const CASES = [
    ['file', true],
    ['file', false],
    ['age', false],
  ] as const;

  it.each(CASES)('%s, exposed: %s: refused by way of a link that could be planted', (provider, expose) => {
    const machine = new FakeMachine();
    const target = machine.file('home/me/.vault-token');
    const name = provider === 'age' ? 'x.age' : 'client.pem';
    machine.link(`home/me/jobs/app/${name}`, target);
    const declared = secret(`./${name}`, join(machine.project, '.keyzero.toml'), { provider, expose });
    const config = machine.config({ secrets: new Map([['A', declared]]) });
    expect(problem(() => machine.survey({ config }))).toMatchObject({
      code: 'config-invalid',
      message: `the ref of A names ~/jobs/app/${name}, a link that a sandboxed program could have made`,
      hint: 'if it is yours, name ~/.vault-token itself',
    });
  });

  it('a folder of values is refused with such a link in it; authorities and logins are, too', () => {
    const machine = new FakeMachine();
    machine.link('home/me/jobs/app/values/A', machine.file('home/me/.vault-token'));
    const link = join(machine.project, 'values/A');
    const folder = secret('values#A', join(machine.project, '.keyzero.toml'));
    const about: Parameters<FakeMachine['config']>[0][] = [
      { secrets: new Map([['A', folder]]) },
      { blind: { upstream_ca: link } },
      { providers: { vault: { ca: link } } },
      { providers: { vault: { jwt_file: link } } },
      { providers: { keyzero: { ca: link } } },
      { providers: { keyzero: { jwt_file: link } } },
      { providers: { age: { identity: link } } },
      { providers: { store: { path: link } } },
    ];
    for (const overrides of about) expect(problem(() => machine.survey({ config: machine.config(overrides) })).code).toBe('config-invalid');
    const { notes } = machine.survey({ env: { NODE_EXTRA_CA_CERTS: link } });
    expect(notes).toEqual([expect.stringContaining('NODE_EXTRA_CA_CERTS names ~/jobs/app/values/A: what the program puts in the place')]);
  });
});
