import { chmodSync, lstatSync, mkdirSync, statSync, symlinkSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findConfig, refusePlanted, userDirectory } from '../../src/config/find.ts';
import { KzError } from '../../src/core/errors.ts';
import { ENTRY, Project } from './project.ts';

const TEXT = `[secrets]\nA = ${ENTRY}`;

it('prefers --config, then KEYZERO_CONFIG, then CLAUDE_PROJECT_DIR, then the working directory', () => {
  const project = new Project({ '.keyzero.toml': TEXT, 'a/.keyzero.toml': TEXT, 'b/other.toml': TEXT, 'c/x.toml': TEXT });
  const at = (name: string) => join(project.folder, name);
  const found = (explicit: string | undefined, env: Record<string, string>) =>
    findConfig({ explicit, env: { HOME: project.home, ...env }, cwd: project.folder }).files.map(({ path }) => path);
  const env = { KEYZERO_CONFIG: at('b/other.toml'), CLAUDE_PROJECT_DIR: at('a') };
  expect(found('c/x.toml', env)).toEqual([at('c/x.toml')]);
  expect(found(undefined, env)).toEqual([at('b/other.toml')]);
  expect(found(undefined, { CLAUDE_PROJECT_DIR: at('a') })).toEqual([at('a/.keyzero.toml')]);
  expect(found(undefined, {})).toEqual([at('.keyzero.toml')]);
  expect(found('a', {})).toEqual([at('a/.keyzero.toml')]);
});

it('walks up, and lists every place it looked at', () => {
  const project = new Project({ '.keyzero.toml': TEXT, '.keyzero.local.toml': TEXT });
  mkdirSync(join(project.folder, 'deep/er'), { recursive: true });
  const { files, searched } = findConfig({ env: { HOME: project.home }, cwd: join(project.folder, 'deep/er') });
  expect(files.map(({ layer }) => layer)).toEqual(['project', 'local']);
  expect(searched.slice(0, 3)).toEqual(['deep/er', 'deep', ''].map((folder) => join(project.folder, folder, '.keyzero.toml')));
  expect(searched.at(-1)).toBe(join(project.home, '.config/keyzero/config.toml'));
});

it('takes no local file for a config of another name', () => {
  const project = new Project({ 'x.toml': TEXT, '.keyzero.local.toml': TEXT });
  const { files } = findConfig({ explicit: 'x.toml', env: { HOME: project.home }, cwd: project.folder });
  expect(files).toHaveLength(1);
});

it('says which name led to a file that is not there', async () => {
  const project = new Project({});
  expect((await project.problems({ env: { KEYZERO_CONFIG: 'gone.toml' } }))[0]).toContain('KEYZERO_CONFIG names');
  expect((await project.problems({ explicit: 'gone.toml' }))[0]).toContain('--config names');
});

describe('a config that was walked to', () => {
  const ME = 1000;
  const stats = (uid: number, mode = 0o100644) => Object.assign(statSync('/'), { uid, mode });
  const problem = (path: string, opened: Stats, uid = ME): string | undefined => {
    try {
      refusePlanted(path, opened, uid);
      return undefined;
    } catch (error) {
      return error instanceof KzError ? error.message : String(error);
    }
  };

  it('is mine, or the system’s', () => {
    expect(problem('/', stats(ME))).toBeUndefined();
    expect(problem('/', stats(0))).toBeUndefined();
  });

  it('is refused when it is another user’s, or anybody’s to write', () => {
    expect(problem('/', stats(1001))).toContain('belongs to another user');
    expect(problem('/', stats(ME, 0o100666))).toContain('can be written by anybody');
  });

  it('is refused when another user made the symbolic link that leads to it', () => {
    const project = new Project({ 'mine.toml': TEXT });
    const link = join(project.folder, '.keyzero.toml');
    symlinkSync(join(project.folder, 'mine.toml'), link);
    const maker = lstatSync(link).uid;
    // Whoever runs the test made the link; to everybody else but root it is another user’s.
    expect(problem(link, stats(maker + 1), maker + 1)).toBe(maker === 0 ? undefined : `${link} belongs to another user`);
    expect(problem(link, stats(maker), maker)).toBeUndefined();
  });

  it('may be another user’s for root, unless everybody could have put it there', () => {
    const project = new Project({ '.keyzero.toml': TEXT });
    const path = join(project.folder, '.keyzero.toml');
    expect(problem(path, stats(1001), 0)).toBeUndefined();
    expect(problem(path, stats(1001, 0o100666), 0)).toContain('can be written by anybody');
    chmodSync(project.folder, 0o1777);
    expect(problem(path, stats(1001), 0)).toContain('belongs to another user');
  });

  it('is believed when somebody named it', async () => {
    const project = new Project({ '.keyzero.toml': TEXT });
    chmodSync(join(project.folder, '.keyzero.toml'), 0o666);
    expect(await project.problems({ explicit: '.keyzero.toml' })).toEqual([]);
    expect((await project.problems())[0]).toContain('can be written by anybody');
  });

  it('brings its local file under the same rule', async () => {
    const project = new Project({ '.keyzero.toml': TEXT, '.keyzero.local.toml': TEXT });
    chmodSync(join(project.folder, '.keyzero.local.toml'), 0o666);
    expect((await project.problems())[0]).toContain('.keyzero.local.toml can be written by anybody');
  });
});

it('ignores a relative XDG_CONFIG_HOME, as the specification says', () => {
  expect(userDirectory({ XDG_CONFIG_HOME: 'x', HOME: '/h' })).toBe('/h/.config/keyzero');
  expect(userDirectory({ XDG_CONFIG_HOME: '/x', HOME: '/h' })).toBe('/x/keyzero');
});
