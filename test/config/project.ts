// A throw-away project folder for tests that load configurations.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach } from 'vitest';
import { loadConfig, type Config, type LoadOptions } from '../../src/config/load.ts';
import { KzError } from '../../src/core/errors.ts';

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Paths are relative to the project; `~/…` is the user's home. */
export class Project {
  readonly root = mkdtempSync(join(tmpdir(), 'kz-config-'));
  readonly home = join(this.root, 'home');
  readonly folder = join(this.root, 'project');

  constructor(files: Readonly<Record<string, string>>) {
    folders.push(this.root);
    mkdirSync(this.folder);
    mkdirSync(this.home);
    for (const [name, text] of Object.entries(files)) this.write(name, text);
  }

  write(name: string, text: string): string {
    const path = name.startsWith('~/') ? join(this.home, name.slice(2)) : join(this.folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  }

  load(options: Partial<LoadOptions> = {}): Promise<Config> {
    return loadConfig({ cwd: this.folder, ...options, env: { HOME: this.home, ...options.env } });
  }

  /** What loading complains about, one line each: `.keyzero.toml:2:3 message (hint)`. */
  async problems(options: Partial<LoadOptions> = {}): Promise<string[]> {
    try {
      await this.load(options);
      return [];
    } catch (error) {
      if (!(error instanceof KzError)) throw error;
      const all = error.code === 'several' ? error.problems : [error];
      return all.map(({ at, message, hint }) => {
        const place = at === undefined ? '' : `${at.file.slice(this.folder.length + 1)}:${String(at.line)}:${String(at.column)} `;
        return `${place}${message}${hint === undefined ? '' : ` (${hint})`}`;
      });
    }
  }
}

export const ENTRY = '{ provider = "env", ref = "X" }';
