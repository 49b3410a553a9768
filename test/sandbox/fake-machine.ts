// A whole machine in a temporary folder: a root with /tmp, /run, /etc, a home, a project. Everything in it is real: files, links, sockets, FIFOs.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import type { Declaration, SourceFile } from '../../src/config/load.ts';
import { confinementFor, type Surroundings, type Surveyed } from '../../src/sandbox/surroundings.ts';

const made: string[] = [];
const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
});

export function canary(): string {
  return `CANARY-${randomBytes(12).toString('hex')}`;
}

export class FakeMachine {
  readonly root: string;
  readonly home: string;
  readonly project: string;

  constructor() {
    this.root = realpathSync(mkdtempSync(join(tmpdir(), 'kz-m-')));
    made.push(this.root);
    this.home = this.folder('home/me');
    this.project = this.folder('home/me/jobs/app');
    for (const path of ['run', 'tmp', 'var/tmp', 'etc', 'proc', 'dev', 'usr/bin']) this.folder(path);
  }

  path(path: string): string {
    return join(this.root, path);
  }

  folder(path: string): string {
    mkdirSync(this.path(path), { recursive: true });
    return this.path(path);
  }

  /** Below the root, with what is above it. */
  file(path: string, text: string = canary()): string {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    writeFileSync(this.path(path), text);
    return this.path(path);
  }

  link(path: string, target: string): string {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    symlinkSync(target, this.path(path));
    return this.path(path);
  }

  fifo(path: string): string {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    execFileSync('mkfifo', [this.path(path)]);
    return this.path(path);
  }

  async socket(path: string): Promise<string> {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    const server = createServer();
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(this.path(path), resolve));
    return this.path(path);
  }

  /** As the kernel writes them. */
  socketTable(...paths: readonly string[]): void {
    const line = (path: string, index: number): string =>
      `0000000000000000: 00000002 00000000 00010000 0001 01 ${String(index + 10).padStart(5)} ${path}\n`;
    this.file('proc/net/unix', `Num       RefCount Protocol Flags    Type St Inode Path\n${paths.map(line).join('')}`);
  }

  config(overrides: Partial<Surroundings['config']> = {}, path = 'home/me/jobs/app/.keyzero.toml'): Surroundings['config'] {
    const files = [source(this.file(path, ''), 'project')];
    return { files, secrets: new Map(), documents: [], providers: {}, blind: undefined, ...overrides };
  }

  survey(overrides: Partial<Surroundings> = {}): Surveyed {
    const { env = {}, ...rest } = overrides;
    return confinementFor({
      env: { HOME: this.home, ...env },
      ...{ root: this.root, uid: 1000, accountHome: this.home, platform: 'linux', memoryBytes: 8 * 1024 ** 3 },
      ...{ directory: this.project, own: [], config: rest.config ?? this.config() },
      ...rest,
    });
  }
}

export function source(path: string, layer: SourceFile['layer']): SourceFile {
  return { path, layer, how: 'in a test', walkedTo: true, text: '' };
}

export function secret(ref: string, file: string, more: Partial<Declaration> = {}): Declaration {
  return { name: 'A', provider: 'file', ref, origin: { file: source(file, 'project'), path: ['secrets', 'A'] }, ...more };
}

export function hiddenPaths({ confinement }: Surveyed): readonly string[] {
  return confinement.hidden.map(({ path }) => path);
}

/** Without what is made for npm and uv on every machine. */
export function writableIn({ confinement, missing }: Surveyed): readonly string[] {
  return confinement.writable.filter((path) => !missing.includes(path));
}

export function problem(action: () => unknown): KzError {
  try {
    action();
  } catch (error) {
    if (error instanceof KzError) return error;
  }
  throw new Error('no KzError');
}

export const ASKED = { read: [], write: [], hide: [] };
