// The arguments of bubblewrap, read by a model of what mounting does: whatever the order, each path has to be for the program what the
// confinement says of it. The same once more by bubblewrap itself, where there is one.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { innerArguments, OUTER_ARGUMENTS, type InnerOptions } from '../../src/sandbox/bubblewrap.ts';
import type { Confinement } from '../../src/sandbox/confinement.ts';
import { meant, mounted, NOTHING, operations, OPTIONS, randomConfinement, treeAt, type Meaning } from './mount-model.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from '../stories/isolation.ts';

function words(confinement: Partial<Confinement>, options: Partial<InnerOptions> = {}): string[] {
  return innerArguments({ ...NOTHING, ...confinement }, { ...OPTIONS, ...options });
}

/** What follows a word, each time. */
function after(option: string, all: readonly string[], count = 1): string[][] {
  return all.flatMap((word, index) => (word === option ? [all.slice(index + 1, index + 1 + count)] : []));
}

describe('what each path is for the program', () => {
  it('is what the confinement says, however the lists are laid into each other', () => {
    const { folders, files } = treeAt('/r');
    const seen = new Set<Meaning>();
    for (let seed = 1; seed <= 1000; seed += 1) {
      const confinement = randomConfinement(seed, '/r');
      const replacements = new Map(confinement.replaced.map(({ path }) => [path, '/run-folder/replaced']));
      const all = operations(innerArguments(confinement, { ...OPTIONS, replacements }));
      const paths = [...folders, ...files, '/r', '/', '/elsewhere/x', ...folders.map((folder) => join(folder, 'new'))];
      const wrong = paths.filter((path) => mounted(path, all) !== meant(path, confinement));
      expect(wrong, `seed ${String(seed)}`).toEqual([]);
      for (const path of paths) seen.add(meant(path, confinement));
    }
    expect(seen).toEqual(new Set(['read', 'write', 'gone', 'gone, write', 'replaced']));
  });

  it('is what the confinement says, also where something hidden is in something read-only that is in something writable', () => {
    const { folders, files } = treeAt('/r');
    for (let seed = 1; seed <= 200; seed += 1) {
      const confinement = randomConfinement(seed, '/r', true);
      const replacements = new Map(confinement.replaced.map(({ path }) => [path, '/run-folder/replaced']));
      const all = operations(innerArguments(confinement, { ...OPTIONS, replacements }));
      const wrong = [...folders, ...files].filter((path) => mounted(path, all) !== meant(path, confinement));
      expect(wrong, `seed ${String(seed)}`).toEqual([]);
    }
  });

  it('is not changed by the order in which paths are named', () => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const confinement = randomConfinement(seed, '/r');
      const reversed = Object.fromEntries(
        Object.entries(confinement).map(([key, value]: [string, unknown]) => [key, Array.isArray(value) ? value.toReversed() : value]),
      ) as unknown as Confinement;
      const [one, other] = [confinement, reversed].map((each) => operations(innerArguments(each, OPTIONS)));
      const { folders, files } = treeAt('/r');
      for (const path of [...folders, ...files])
        expect(mounted(path, other ?? []), `seed ${String(seed)}, ${path}`).toBe(mounted(path, one ?? []));
    }
  });

  it('starts from a system that can be read and not written, with its own /dev and /proc', () => {
    const all = words({});
    const devices = ['--dev', '/dev', '--size', '1000', '--tmpfs', '/dev/shm', '--remount-ro', '/dev'];
    expect(all.slice(0, 13)).toEqual(['--ro-bind', '/', '/', ...devices, '--proc', '/proc']);
    expect(all).not.toContain('--bind');
  });

  it('is mounted from the top down, as what comes later covers what is below', () => {
    const all = operations(words({ writable: ['/a/b', '/a/b/c/d'], hidden: [{ path: '/a/b/c', kind: 'folder' }], temporary: ['/a'] }));
    expect(all.filter(({ path }) => path.startsWith('/a'))).toEqual([
      { option: '--tmpfs', source: '/a', path: '/a' },
      { option: '--bind', source: '/a/b', path: '/a/b' },
      { option: '--tmpfs', source: '/a/b/c', path: '/a/b/c' },
      { option: '--bind', source: '/a/b/c/d', path: '/a/b/c/d' },
      { option: '--remount-ro', source: '/a/b/c', path: '/a/b/c' },
    ]);
  });

  it.each([
    ['temporary and hidden', { temporary: ['/x'], hidden: [{ path: '/x', kind: 'folder' as const }] }, 'gone'],
    ['writable and guarded', { writable: ['/x'], guarded: ['/x'] }, 'read'],
    ['hidden and readable', { hidden: [{ path: '/x', kind: 'file' as const }], readable: ['/x'] }, 'read'],
    ['readable and replaced', { readable: ['/x'], replaced: [{ path: '/x', contents: '' }] }, 'gone'],
  ])('that is in two lists, %s, is what the later one says, mounted once', (_, confinement, meaning) => {
    const all = operations(words(confinement));
    expect(mounted('/x', all)).toBe(meaning);
    expect(all.filter(({ path, option }) => path === '/x' && option !== '--remount-ro')).toHaveLength(1);
  });
});

describe('an empty folder', () => {
  it('becomes read-only when everything in it is in its place, the inner ones first', () => {
    const all = operations(
      words({ emptied: ['/run'], hidden: [{ path: '/run/b/secret', kind: 'folder' }], readable: ['/run/b', '/run/b/secret/x'] }),
    );
    const last = all.slice(-2);
    expect(last).toEqual([
      { option: '--remount-ro', source: '/run/b/secret', path: '/run/b/secret' },
      { option: '--remount-ro', source: '/run', path: '/run' },
    ]);
  });

  it('for temporary files stays writable', () => {
    expect(after('--remount-ro', words({ temporary: ['/tmp'] }), 1)).toEqual([['/dev']]);
  });

  it('has a size where bubblewrap can say so, each of its own', () => {
    const confinement = { temporary: ['/tmp', '/var/tmp'], emptied: ['/run'], temporaryBytes: 4711 };
    const all = words(confinement);
    expect(after('--size', all, 3)).toEqual([
      ['4711', '--tmpfs', '/dev/shm'],
      ['4711', '--tmpfs', '/tmp'],
      ['4711', '--tmpfs', '/var/tmp'],
    ]);
    expect(words(confinement, { features: { disableUserns: true, size: false } })).not.toContain('--size');
  });
});

describe('a guarded path', () => {
  it('has every folder above it, up to the writable one, mounted: what is mounted cannot be renamed', () => {
    const all = words({ writable: ['/w/project'], guarded: ['/w/project/sub/.git/hooks', '/w/project/.keyzero.toml'] });
    expect(after('--bind', all, 2)).toEqual([
      ['/w/project', '/w/project'],
      ['/w/project/sub', '/w/project/sub'],
      ['/w/project/sub/.git', '/w/project/sub/.git'],
    ]);
    expect(after('--ro-bind', all, 2).slice(1)).toEqual([
      ['/w/project/.keyzero.toml', '/w/project/.keyzero.toml'],
      ['/w/project/sub/.git/hooks', '/w/project/sub/.git/hooks'],
    ]);
  });

  it('counts from the nearest writable folder, also when that is the root', () => {
    expect(after('--bind', words({ writable: ['/w', '/w/a/b'], guarded: ['/w/a/b/c/g'] }), 2).map(([path]) => path)).toEqual([
      '/w',
      '/w/a/b',
      '/w/a/b/c',
    ]);
    expect(after('--bind', words({ writable: ['/'], guarded: ['/etc/ssh/g'] }), 2).map(([path]) => path)).toEqual([
      '/',
      '/etc',
      '/etc/ssh',
    ]);
  });

  it('is not held by a folder whose name only starts the same', () => {
    expect(after('--bind', words({ writable: ['/w/pro'], guarded: ['/w/project/x/g'] }), 2)).toEqual([['/w/pro', '/w/pro']]);
  });
});

describe('the rest', () => {
  it('is the user, without capabilities, in namespaces of its own, gone with kz', () => {
    const all = words({ directory: '/srv/x' });
    expect(after('--uid', all)).toEqual([['1000']]);
    expect(after('--gid', all)).toEqual([['100']]);
    expect(after('--cap-drop', all)).toEqual([['ALL']]);
    expect(after('--chdir', all)).toEqual([['/srv/x']]);
    expect(all).toEqual(expect.arrayContaining(['--unshare-user', '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--die-with-parent']));
    expect(all).not.toContain('--cap-add');
  });

  it('has a network of its own where there is no outer one', () => {
    expect(words({})).not.toContain('--unshare-net');
    expect(words({}, { alone: true })).toContain('--unshare-net');
    expect(OUTER_ARGUMENTS).toContain('--unshare-net');
  });

  it('forbids further user namespaces where bubblewrap can', () => {
    expect(words({})).toContain('--disable-userns');
    expect(words({}, { features: { disableUserns: false, size: true } })).not.toContain('--disable-userns');
  });

  it('takes odd paths and values as they are', () => {
    const odd = ['/w/a b', '/w/--ro-bind', '/w/new\nline', '/w/-x', '/w/it\'s "$HOME" `x`', '/w/ü', '/w/*'];
    const environment = { EMPTY: '', ODD: '--setenv X Y\n=', OPTION: '--bind' };
    const all = words({ writable: odd, directory: '/w/--ro-bind' }, { environment });
    // `operations` fails on a value that is taken for an option.
    expect(operations(all).filter(({ option }) => option === '--bind')).toEqual(
      odd.map((path) => ({ option: '--bind', source: path, path })),
    );
    expect(after('--setenv', all, 2)).toEqual(Object.entries(environment));
    expect(after('--chdir', all)).toEqual([['/w/--ro-bind']]);
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`bubblewrap itself${ISOLATION_NOTE}`, () => {
  let root: string;
  let aside: string;

  beforeAll(() => {
    // Not below /tmp of the tests' own: the root that is confined is a folder like others.
    root = realpathSync(mkdtempSync(join(tmpdir(), 'kz-bwrap-')));
    aside = realpathSync(mkdtempSync(join(tmpdir(), 'kz-aside-')));
    writeFileSync(join(aside, 'empty'), '', { mode: 0o600 });
    writeFileSync(join(aside, 'replaced'), 'replaced');
  });

  afterAll(() => {
    for (const folder of [root, aside]) rmSync(folder, { recursive: true, force: true });
  });

  /** What is at a path, in the words of `meant`. */
  const LOOK = `
    import { accessSync, constants, readFileSync, readdirSync, statSync } from 'node:fs';
    const can = (path) => { try { accessSync(path, constants.W_OK); return true } catch { return false } };
    const look = (path) => {
      try {
        const isFolder = statSync(path).isDirectory();
        const text = isFolder ? '' : readFileSync(path, 'utf8');
        const isOwn = isFolder ? readdirSync(path).includes('own') : text === 'own';
        return [isFolder ? 'folder' : 'file', isOwn ? (can(path) ? 'write' : 'read') : text === 'replaced' ? 'replaced' : can(path) ? 'gone, write' : 'gone'];
      } catch { return ['nothing'] }
    };
    process.stdout.write(JSON.stringify(JSON.parse(process.argv[1]).map(look)));`;

  it('makes the same of a confinement as the model', () => {
    const { folders, files } = treeAt(root);
    for (const folder of folders) {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'own'), 'own');
    }
    for (const file of files) writeFileSync(file, 'own');
    const paths = [...folders, ...files];
    for (let seed = 1; seed <= 12; seed += 1) {
      const confinement = randomConfinement(seed, root);
      const replacements = new Map(confinement.replaced.map(({ path }) => [path, join(aside, 'replaced')]));
      const options = {
        ...OPTIONS,
        uid: process.getuid?.() ?? 0,
        gid: process.getgid?.() ?? 0,
        replacements,
        emptyFile: join(aside, 'empty'),
      };
      const all = innerArguments(
        { ...confinement, temporaryBytes: 1_000_000 },
        { ...options, features: { disableUserns: false, size: false } },
      );
      const program = [process.execPath, '--input-type=module', '-e', LOOK, JSON.stringify(paths)];
      const seen = JSON.parse(execFileSync('bwrap', [...all, '--', ...program], { encoding: 'utf8' })) as string[][];
      const where = (path: string): string => `seed ${String(seed)}, ${path}`;
      for (const [index, path] of paths.entries()) expect(agrees(path, confinement, seen[index] ?? []), where(path)).toBe(true);
    }
    expect(existsSync(join(root, 'a/own')) && statSync(join(root, 'a/f')).size).toBe(3);
  });

  /** In an empty folder nothing else is there but what is mounted in it, and the folders that lead to that. */
  function agrees(path: string, confinement: Confinement, [kind, meaning]: readonly string[]): boolean {
    const { temporary, emptied, hidden } = confinement;
    const expected = meant(path, confinement);
    const isListed = [...temporary, ...emptied, ...hidden.map((each) => each.path)].includes(path);
    if (isListed || !expected.startsWith('gone')) return meaning === expected;
    return kind === 'nothing' || (kind === 'folder' && meaning === expected);
  }
});
