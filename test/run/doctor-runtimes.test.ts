import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findOnPath, findRuntimes, type Runtime } from '../../src/run/doctor-runtimes.ts';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-runtimes-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function program(name: string, script: string, mode = 0o755): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, mode);
  return path;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !existsSync('/proc') || !/^State:\s+Z/m.test(readFileSync(`/proc/${String(pid)}/status`, 'utf8'));
  } catch {
    return false;
  }
}

interface Look {
  readonly env?: Readonly<Record<string, string>>;
  readonly platform?: NodeJS.Platform;
  readonly limitMs?: number;
}

async function found({ env = {}, platform = 'linux', limitMs }: Look = {}): Promise<Record<string, Runtime>> {
  const options = { env: { PATH: folder, ...env }, platform, ...(limitMs === undefined ? {} : { limitMs }) };
  const all = await findRuntimes(options, new AbortController().signal);
  return Object.fromEntries(all.filter(({ path }) => path !== undefined).map((each) => [each.name, each]));
}

describe('versions', () => {
  it.each([
    ['node', 'echo v22.1.0', '22.1.0'],
    ['python3', 'echo Python 3.11.7', '3.11.7'],
    ['go', 'echo go version go1.22.1 linux/amd64', '1.22.1'],
    ['java', 'echo \'openjdk version "17.0.15" 2025-04-15\' >&2', '17.0.15'],
    ['java', 'echo \'openjdk version "24" 2025-03-18\' >&2', '24'],
    ['ruby', 'echo "ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]"', '3.1.2p20'],
    ['deno', 'echo "deno 2.1.4 (stable, release, x86_64-unknown-linux-gnu)"', '2.1.4'],
    ['bun', 'echo 1.1.38', '1.1.38'],
    ['php', 'echo "PHP 8.2.7 (cli) (built: Jun  9 2023)"', '8.2.7'],
    ['rustc', 'echo "rustc 1.80.0-nightly (05147 2024-07-21)"', '1.80.0-nightly'],
    ['curl', 'echo "curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1"', '7.88.1'],
    ['git', 'echo "git version 2.39.5 (Apple Git-154)"', '2.39.5'],
    ['wget', 'echo "GNU Wget2 2.1.0 - multithreaded"', '2.1.0'],
    ['node', 'echo what', undefined],
    ['node', 'echo v22.1.0; exit 1', undefined],
  ])('of %s: %s', async (name, script, version) => {
    const path = program(name, script);
    expect(Object.values(await found())).toMatchObject([{ path, version }]);
  });

  it('are asked for with few variables, and not in the project', async () => {
    program('node', 'echo "v20.1.0-${SECRET:-none}-${HOME}"; pwd >&2; test "$PWD" = /');
    expect((await found({ env: { SECRET: 'given', HOME: 'h' } })).node?.version).toBe('20.1.0-none-h');
  });

  it('are not waited for', async () => {
    program('node', 'exec sleep 60');
    program('git', `sleep 60 & echo $! > ${join(folder, 'pid')}; wait`);
    program('curl', 'echo curl 8.0.0');
    const { node, git, curl } = await found({ limitMs: 300, env: { PATH: `${folder}:/usr/bin:/bin` } });
    expect([node?.version, git?.version, curl?.version]).toEqual([undefined, undefined, '8.0.0']);
    // What it started is gone too, or about to be: a zombie until its parent's parent has looked.
    await expect.poll(() => isAlive(Number(readFileSync(join(folder, 'pid'), 'utf8')))).toBe(false);
  });

  it('are no longer asked for when the signal aborts', async () => {
    program('node', 'exec sleep 60');
    const [node] = await findRuntimes({ env: { PATH: `${folder}:/usr/bin:/bin` } }, AbortSignal.timeout(100));
    expect(node).toMatchObject({ name: 'node', version: undefined });
  });

  it('of what cannot be started are unknown', async () => {
    writeFileSync(join(folder, 'node'), 'no program', { mode: 0o755 });
    expect((await found()).node).toMatchObject({ path: join(folder, 'node'), version: undefined, warnings: [] });
  });
});

describe('warnings', () => {
  const warnings = async (name: string, says: string, platform: NodeJS.Platform = 'linux'): Promise<readonly string[]> => {
    program(name, `echo "${says}"`);
    return Object.values(await found({ platform })).flatMap((each) => each.warnings);
  };

  it.each(['v16.20.2', 'v18.19.1', 'v19.9.0', 'v27.0.0'])('name a Node that the preload does not know: %s', async (version) => {
    expect(await warnings('node', version)).toEqual([expect.stringContaining('preload knows Node 18.20')]);
  });

  it.each(['v18.20.0', 'v20.0.0', 'v20.20.2', 'v22.1.0', 'v26.3.0'])('say nothing of Node %s', async (version) => {
    expect(await warnings('node', version)).toEqual([]);
  });

  it('are for Go and Java on macOS only', async () => {
    program('java', 'echo 17.0.1');
    expect(await warnings('go', 'go version go1.22.1')).toEqual([]);
    expect(await warnings('go', 'go version go1.22.1', 'darwin')).toEqual([
      expect.stringContaining('ignore SSL_CERT_FILE'),
      expect.stringContaining('407'),
    ]);
  });

  it('name wget2, which may be called wget', async () => {
    expect(await warnings('wget', 'GNU Wget2 2.1.0 - multithreaded')).toEqual(['wget2 is not supported']);
    expect(await warnings('wget', 'GNU Wget 1.21.3 built on linux-gnu.')).toEqual([]);
  });
});

describe('PATH', () => {
  it('is searched in its order, for files that can be executed', () => {
    mkdirSync(join(folder, 'first/kz'), { recursive: true });
    mkdirSync(join(folder, 'second'));
    program('second/kz', '', 0o644);
    const right = program('kz', '');
    expect(findOnPath('kz', [join(folder, 'first'), join(folder, 'second'), folder].join(':'))).toBe(right);
  });

  it('leads to nothing that depends on where kz is started', () => {
    expect(findOnPath('package.json', '.:')).toBeUndefined();
    expect(findOnPath('sh', '../../../../../../bin')).toBeUndefined();
    expect(findOnPath('sh')).toBeUndefined();
  });

  it('prefers python3', async () => {
    program('python', 'echo Python 2.7.18');
    expect((await found()).python?.version).toBe('2.7.18');
    program('python3', 'echo Python 3.12.0');
    expect((await found()).python?.version).toBe('3.12.0');
  });
});
