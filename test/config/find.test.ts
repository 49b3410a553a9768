import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { findConfig, userDirectory } from '../../src/config/find.ts';
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

it.skipIf(process.getuid?.() === 0)('refuses a config that anybody can write (not asked of root)', async () => {
  const project = new Project({ '.keyzero.toml': TEXT });
  chmodSync(join(project.folder, '.keyzero.toml'), 0o666);
  expect((await project.problems())[0]).toContain('can be written by anybody');
});

it('ignores a relative XDG_CONFIG_HOME, as the specification says', () => {
  expect(userDirectory({ XDG_CONFIG_HOME: 'x', HOME: '/h' })).toBe('/h/.config/keyzero');
  expect(userDirectory({ XDG_CONFIG_HOME: '/x', HOME: '/h' })).toBe('/x/keyzero');
});
