// Real files, real events. Where a test is about events the poll is too far away to help; where it is about the poll, no event comes.
import { build } from 'esbuild';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, open, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileReader, inotifyWatches } from '../fixtures/file-reader.ts';
import { KubernetesMount } from '../fixtures/kubernetes-mount.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
const NEVER_MS = 2 ** 30;
const FAST_MS = 20;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

let folder: string;
let stop: AbortController;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kz-watch-'));
  stop = new AbortController();
});
afterEach(async () => {
  stop.abort();
  await rm(folder, { recursive: true });
});

async function watching(texts: readonly string[], pollMs = NEVER_MS): Promise<FileReader> {
  const reader = new FileReader(texts, folder, pollMs);
  await reader.values();
  reader.watch(stop.signal);
  return reader;
}

function at(...names: string[]): string {
  return join(folder, ...names);
}

/** Beside it, and over it. */
async function replace(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

/** Two more changes of this other file are told: what happened before them has been looked at. */
async function settled(other: FileReader, path: string): Promise<void> {
  for (const round of ['first', 'second']) {
    await replace(path, round);
    await other.until(round);
  }
}

describe('a file', () => {
  it('that another one is renamed over', async () => {
    await writeFile(at('token'), 'one');
    const reader = await watching(['token']);
    for (const value of ['two', 'three', 'four']) {
      await replace(at('token'), value);
      await reader.until(value);
    }
  });

  it('that is written in place', async () => {
    await writeFile(at('token'), 'one');
    const reader = await watching(['token']);
    await writeFile(at('token'), 'two');
    await reader.until('two');
    const handle = await open(at('token'), 'r+');
    await handle.write('wot', 0);
    await reader.until('wot');
    await handle.close();
  });

  it('that goes and comes back', async () => {
    await writeFile(at('token'), 'one');
    const reader = await watching(['token']);
    await unlink(at('token'));
    await reader.until(undefined);
    await writeFile(at('token'), 'two');
    await reader.until('two');
  });

  it('whose last change is at the end of many', async () => {
    await writeFile(at('token'), 'one');
    const reader = await watching(['token']);
    const last = reader.until('99');
    for (let count = 0; count < 100; count++) await replace(at('token'), String(count));
    await last;
    expect(reader.told.length).toBeLessThan(50);
  });

  it('that changed between the reading and the watching', async () => {
    await writeFile(at('token'), 'one');
    const reader = new FileReader(['token'], folder, NEVER_MS);
    await reader.values();
    await replace(at('token'), 'two');
    reader.watch(stop.signal);
    await reader.until('two');
  });

  it('is told once for each ref, and only for those that it concerns', async () => {
    await writeFile(at('a.json'), '{"X": 1, "Y": 2}');
    await writeFile(at('b'), 'one');
    const reader = await watching(['a.json#X', 'a.json#Y', 'b', '', '#']);
    await replace(at('a.json'), '{"X": 3, "Y": 4}');
    await reader.until('3', '4', 'one', undefined, undefined);
    expect(reader.told).toEqual(['a.json#X', 'a.json#Y']);
  });

  it('is not told for what happens around it', async () => {
    await writeFile(at('token'), 'one');
    await writeFile(at('other'), 'one');
    const [reader, other] = [await watching(['token']), await watching(['other'])];
    await mkdir(at('sub'));
    await writeFile(at('token.bak'), 'x');
    await writeFile(at('sub/token'), 'x');
    readdirSync(folder);
    readFileSync(at('token'));
    await chmod(folder, 0o750);
    await settled(other, at('other'));
    expect(reader.told).toEqual([]);
  });
});

describe('a mount of Kubernetes', () => {
  it('is told by the swap of ..data', async () => {
    const mount = new KubernetesMount(at('db'));
    await mount.update({ USER: 'app', PASSWORD: `${CANARY}-1` });
    const reader = await watching(['db/PASSWORD', 'db/USER', 'db#PASSWORD']);
    for (const count of [2, 3, 4]) {
      const value = `${CANARY}-${String(count)}`;
      await mount.update({ USER: 'app', PASSWORD: value });
      await reader.until(value, 'app', value);
    }
  });

  it('is told as a folder', async () => {
    const mount = new KubernetesMount(at('db'));
    await mount.update({ A: '1' });
    const reader = await watching(['db']);
    await mount.update({ A: '2' });
    await reader.until('{"A":"2"}');
    await mount.update({ A: '2', B: '3' });
    await reader.until('{"A":"2","B":"3"}');
  });

  it('may be reached over links, and they may change', async () => {
    const [blue, green] = [new KubernetesMount(at('blue')), new KubernetesMount(at('green'))];
    await blue.update({ A: 'blue' });
    await green.update({ A: 'green' });
    await mkdir(at('links'));
    await symlink('../blue', at('links/current'));
    await symlink(at('links/current/A'), at('A'));
    const reader = await watching(['A']);
    await symlink('../green', at('links/next'));
    await rename(at('links/next'), at('links/current'));
    await reader.until('green');
    await green.update({ A: 'greener' });
    await reader.until('greener');
    await replace(at('A'), 'plain');
    await reader.until('plain');
  });

  it('may come late', async () => {
    const reader = await watching(['run/secrets/db/A', 'run/secrets/db#A', 'run/secrets/db']);
    await new KubernetesMount(at('run/secrets/db')).update({ A: CANARY });
    await reader.until(CANARY, CANARY, `{"A":"${CANARY}"}`);
  });
});

describe('a folder', () => {
  it('is told when a file of it changes, comes or goes', async () => {
    await mkdir(at('db'));
    await writeFile(at('db/A'), '1');
    const reader = await watching(['db']);
    await writeFile(at('db/A'), '2');
    await reader.until('{"A":"2"}');
    await replace(at('db/B'), '3');
    await reader.until('{"A":"2","B":"3"}');
    await unlink(at('db/A'));
    await reader.until('{"B":"3"}');
  });

  it('is told of what happens while it is being looked at', async () => {
    await mkdir(at('db'));
    const names = Array.from({ length: 60 }, (_, index) => `K${String(index).padStart(3, '0')}`);
    await Promise.all(names.map((name) => writeFile(at('db', name), 'x')));
    const reader = await watching(['db#K000']);
    for (let round = 1; round <= 4; round++) {
      const last = reader.until(`${String(round)}-${String(round * 10)}`);
      for (let count = 1; count <= round * 10; count++) await writeFile(at('db/K000'), `${String(round)}-${String(count)}`);
      await last;
    }
  });

  it('is told when a file elsewhere changes that a link leads to', async () => {
    await mkdir(at('db'));
    await mkdir(at('vault'));
    await writeFile(at('vault/A'), '1');
    await symlink('../vault/A', at('db/A'));
    const reader = await watching(['db']);
    await replace(at('vault/A'), '2');
    await reader.until('{"A":"2"}');
  });

  it('is not told for hidden files and subfolders', async () => {
    await mkdir(at('db/sub'), { recursive: true });
    await writeFile(at('other'), 'one');
    const [reader, other] = [await watching(['db']), await watching(['other'])];
    await writeFile(at('db/.hidden'), 'x');
    await writeFile(at('db/sub/A'), 'x');
    await mkdir(at('db/more'));
    await settled(other, at('other'));
    expect(reader.told).toEqual([]);
  });

  it('may be exchanged as a whole, again and again', async () => {
    await mkdir(at('db'));
    await writeFile(at('db/A'), '0');
    const reader = await watching(['db/A', 'db']);
    for (const value of ['1', '2', '3']) {
      await rm(at('db'), { recursive: true });
      await mkdir(at('db'));
      await writeFile(at('db/A'), value);
      await reader.until(value, `{"A":"${value}"}`);
    }
    await replace(at('db/A'), 'after');
    await reader.until('after', '{"A":"after"}');
  });
});

describe('the poll', () => {
  it('finds what has no event', async () => {
    await mkdir(at('a/b/c'), { recursive: true });
    await mkdir(at('next/b/c'), { recursive: true });
    await writeFile(at('a/b/c/token'), 'one');
    await writeFile(at('next/b/c/token'), 'two');
    const reader = await watching(['a/b/c/token'], FAST_MS);
    // Of these names nobody watches the folder.
    await rename(at('a'), at('before'));
    await rename(at('next'), at('a'));
    await reader.until('two');
    await replace(at('a/b/c/token'), 'three');
    await reader.until('three');
  });

  it('tells nothing while nothing changes', async () => {
    await writeFile(at('token'), 'one');
    await symlink('loop', at('loop'));
    await writeFile(at('other'), 'one');
    const [reader, other] = [await watching(['token', 'nowhere', 'loop', '.'], FAST_MS), await watching(['other'], FAST_MS)];
    await settled(other, at('other'));
    expect(reader.told.filter((text) => text !== '.')).toEqual([]);
  });
});

describe('the watching', () => {
  it.skipIf(process.platform !== 'linux')('takes one watch per folder, and gives all back at the end', async () => {
    const before = inotifyWatches();
    const names = Array.from({ length: 50 }, (_, index) => `K${String(index)}`);
    await Promise.all(names.map((name) => writeFile(at(name), 'x')));
    const reader = await watching(names);
    await replace(at('K7'), 'y');
    await reader.until(...names.map((name) => (name === 'K7' ? 'y' : 'x')));
    expect(inotifyWatches()).toBe(before + 1);
    stop.abort();
    expect(inotifyWatches()).toBe(before);
  });

  it.skipIf(process.platform !== 'linux')('lets go of versions that are gone', async () => {
    const before = inotifyWatches();
    const mount = new KubernetesMount(at('db'));
    await mount.update({ A: '0' });
    const reader = await watching(['db']);
    for (const value of ['1', '2', '3']) {
      await mount.update({ A: value });
      await reader.until(`{"A":"${value}"}`);
    }
    // The folder above, the mount, and its version.
    expect(inotifyWatches() - before).toBeLessThanOrEqual(3);
  });

  it('ends with the signal', async () => {
    await writeFile(at('token'), 'one');
    const reader = await watching(['token'], FAST_MS);
    await replace(at('token'), 'two');
    await reader.until('two');
    stop.abort();
    const heard = reader.told.length;
    stop = new AbortController();
    await writeFile(at('other'), 'one');
    const other = await watching(['other'], FAST_MS);
    await replace(at('token'), 'three');
    await settled(other, at('other'));
    expect(reader.told).toHaveLength(heard);
    stop.abort();
    reader.watch(stop.signal);
    expect(reader.told).toHaveLength(heard);
  });

  it('does not keep the process alive', async () => {
    await writeFile(at('token'), 'one');
    const program = at('program.mjs');
    await build({
      stdin: { contents: PROGRAM, resolveDir: ROOT, loader: 'ts' },
      bundle: true,
      platform: 'node',
      format: 'esm',
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
      outfile: program,
      logLevel: 'error',
    });
    const child = spawn(process.execPath, [program, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    const output = child.stdout.setEncoding('utf8').toArray();
    const [code] = (await once(child, 'close')) as unknown[];
    expect([code, (await output).join('')]).toEqual([0, 'changed']);
  });
});

/** Hears of one change, and has nothing more to do. */
const PROGRAM = `
  import { writeFileSync } from 'node:fs';
  import { openFile } from './src/providers/file.ts';
  const refs = [{ text: 'token', directory: process.argv[2] }];
  const provider = openFile({}, 20);
  await provider.get(refs, new AbortController().signal);
  const awake = setInterval(() => {}, 1000);
  provider.watch(refs, () => { process.stdout.write('changed'); clearInterval(awake); }, new AbortController().signal);
  writeFileSync(process.argv[2] + '/token', 'two');
`;
