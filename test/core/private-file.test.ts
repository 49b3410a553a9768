import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { readPrivateFile, writePrivateFile } from '../../src/core/private-file.ts';
import { bundle } from '../fixtures/bundle.ts';

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

let top: string;
let child: string;
let folder: string;

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'kz-private-'));
  chmodSync(top, 0o755);
  child = await bundle('contender', top);
});

beforeEach(() => {
  folder = mkdtempSync(join(top, 'case-'));
  if (isRoot) chownSync(folder, NOBODY, NOBODY);
});

afterAll(() => {
  rmSync(top, { recursive: true });
});

/** What the child prints; it is never root, because root may read and write everything. */
function asUser(...args: string[]): string {
  const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  return spawnSync(process.execPath, [child, ...args], { ...user, cwd: top, encoding: 'utf8' }).stdout.trim();
}

function text(path: string): string {
  return readFileSync(path, 'utf8');
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

async function writeFailure(path: string): Promise<KzError> {
  const error: unknown = await writePrivateFile(path, Buffer.from('new')).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KzError)) throw new Error(`${path} was written`);
  return error;
}

function readFailure(path: string): KzError {
  try {
    readPrivateFile(path);
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
  throw new Error(`${path} was read`);
}

describe('writePrivateFile', () => {
  it('creates the file 0600 and the folders that are missing 0700, whatever the umask', () => {
    const path = join(folder, 'a', 'b', 'file');
    expect(asUser('write', path)).toBe('ok');
    expect([mode(join(folder, 'a')), mode(join(folder, 'a', 'b')), mode(path)]).toEqual(['700', '700', '600']);
  });

  it('replaces the file instead of writing into it, and narrows its mode', async () => {
    const path = join(folder, 'file');
    writeFileSync(path, 'old, and longer', { mode: 0o644 });
    const before = statSync(path).ino;
    await writePrivateFile(path, Buffer.from('new'));
    expect(text(path)).toBe('new');
    expect(mode(path)).toBe('600');
    expect(statSync(path).ino).not.toBe(before);
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('gives back the bytes it was given', async () => {
    const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => index % 256);
    await writePrivateFile(join(folder, 'file'), bytes);
    expect(readPrivateFile(join(folder, 'file'))).toEqual(Buffer.from(bytes));
  });

  it.each([
    ['a symbolic link', 'target'],
    ['a symbolic link to another', 'middle'],
  ])('follows %s and keeps it', async (_, first) => {
    mkdirSync(join(folder, 'real'));
    writeFileSync(join(folder, 'real', 'target'), 'old');
    symlinkSync('target', join(folder, 'real', 'middle'));
    symlinkSync(join('real', first), join(folder, 'link'));
    await writePrivateFile(join(folder, 'link'), Buffer.from('new'));
    expect(lstatSync(join(folder, 'link')).isSymbolicLink()).toBe(true);
    expect(text(join(folder, 'real', 'target'))).toBe('new');
    expect(readdirSync(join(folder, 'real')).sort()).toEqual(['middle', 'target']);
  });

  it('creates the missing target of a symbolic link, also from a linked folder', async () => {
    mkdirSync(join(folder, 'deep', 'real'), { recursive: true });
    symlinkSync(join('deep', 'real'), join(folder, 'short'));
    symlinkSync('../elsewhere/file', join(folder, 'deep', 'real', 'link'));
    await writePrivateFile(join(folder, 'short', 'link'), Buffer.from('new'));
    expect(text(join(folder, 'deep', 'elsewhere', 'file'))).toBe('new');
  });

  it('refuses what is not a regular file, and leaves it alone', async () => {
    symlinkSync('/dev/null', join(folder, 'device'));
    mkdirSync(join(folder, 'folder'));
    for (const name of ['device', 'folder']) {
      const error = await writeFailure(join(folder, name));
      expect(error.code).toBe('write-failed');
      expect(error.message).toContain('not a regular file');
    }
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['device', 'folder']);
  });

  it('refuses symbolic links in a circle', async () => {
    symlinkSync('b', join(folder, 'a'));
    symlinkSync('a', join(folder, 'b'));
    expect(await writeFailure(join(folder, 'a'))).toMatchObject({
      code: 'write-failed',
      message: `cannot write ${join(folder, 'a')}: too many symbolic links`,
    });
  });

  it('names the path when a part of it is a file', async () => {
    writeFileSync(join(folder, 'file'), '');
    const path = join(folder, 'file', 'store');
    expect(await writeFailure(path)).toMatchObject({
      code: 'write-failed',
      message: `cannot write ${path}: a part of the path is not a folder`,
    });
  });

  it('names the path in a folder that it may not write to', () => {
    chmodSync(folder, 0o500);
    const path = join(folder, 'file');
    expect(asUser('write', path)).toBe(`write-failed: cannot write ${path}: permission denied (no hint)`);
    chmodSync(folder, 0o700);
  });

  it('leaves the old file and nothing else when the file becomes too large', () => {
    const path = join(folder, 'file');
    writeFileSync(path, 'old');
    const command = 'ulimit -f 8; exec "$0" "$@"';
    const { stdout } = spawnSync('sh', ['-c', command, process.execPath, child, 'write', path, '100000'], { encoding: 'utf8' });
    expect(stdout.trim()).toBe(`write-failed: cannot write ${path}: the file is too large (no hint)`);
    expect(text(path)).toBe('old');
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('leaves the old file and nothing else when the disk is full', (context) => {
    const inNamespace = (script: string): string =>
      execFileSync('unshare', ['-rm', 'sh', '-c', script], { encoding: 'utf8', stdio: 'pipe' });
    const mount = `mount -t tmpfs -o size=64k kz-test '${folder}'`;
    try {
      inNamespace(mount);
    } catch {
      context.skip('no mount namespaces here');
    }
    const path = join(folder, 'file');
    const write = `'${process.execPath}' '${child}' write '${path}' 100000`;
    const output = inNamespace(`${mount} && printf old > '${path}' && { ${write}; cat '${path}'; echo; ls -A '${folder}'; }`);
    expect(output.trim().split('\n')).toEqual([
      `write-failed: cannot write ${path}: no space left on the device (run \`df -h ${folder}\`)`,
      'old',
      'file',
    ]);
  });

  it.runIf(isRoot)('written by root, the file still belongs to its owner', async () => {
    const path = join(folder, 'file');
    writeFileSync(path, 'old', { mode: 0o600 });
    chownSync(path, NOBODY, NOBODY);
    await writePrivateFile(path, Buffer.from('new'));
    expect(statSync(path)).toMatchObject({ uid: NOBODY, gid: NOBODY });
  });
});

describe('readPrivateFile', () => {
  it('gives undefined for a file that is not there, and only then', () => {
    expect(readPrivateFile(join(folder, 'none'))).toBeUndefined();
    expect(readPrivateFile(join(folder, 'none', 'file'))).toBeUndefined();
    writeFileSync(join(folder, 'file'), '', { mode: 0o600 });
    expect(readPrivateFile(join(folder, 'file'))).toHaveLength(0);
    expect(readFailure(join(folder, 'file', 'below')).code).toBe('config-unreadable');
  });

  it.each(['600', '400', '700'])('reads a file of mode %s', (bits) => {
    const path = join(folder, 'file');
    writeFileSync(path, 'text');
    chmodSync(path, Number.parseInt(bits, 8));
    expect(readPrivateFile(path)).toEqual(Buffer.from('text'));
  });

  it.each(['644', '640', '604', '620', '602', '660', '610'])('refuses a file of mode %s', (bits) => {
    const path = join(folder, 'file');
    writeFileSync(path, 'text');
    chmodSync(path, Number.parseInt(bits, 8));
    expect(readFailure(path)).toMatchObject({
      code: 'config-untrusted',
      message: `${path} is open to other users (mode ${bits})`,
      hint: `run \`chmod 600 ${path}\``,
    });
  });

  it('looks at the target of a symbolic link', () => {
    writeFileSync(join(folder, 'target'), 'text', { mode: 0o644 });
    symlinkSync('target', join(folder, 'link'));
    expect(readFailure(join(folder, 'link')).code).toBe('config-untrusted');
    chmodSync(join(folder, 'target'), 0o600);
    expect(readPrivateFile(join(folder, 'link'))).toEqual(Buffer.from('text'));
  });

  it('refuses a file of another user', () => {
    expect(asUser('read', '/etc/passwd')).toBe(
      'config-untrusted: /etc/passwd belongs to another user (run `ls -l /etc/passwd` to see whose it is)',
    );
  });

  it('says so when it may not read', () => {
    const path = join(folder, 'file');
    writeFileSync(path, 'text', { mode: 0o000 });
    expect(asUser('read', path)).toBe(
      `config-unreadable: cannot read ${path}: permission denied (run \`ls -l ${path}\` to see whose it is)`,
    );
  });

  it('refuses a folder and a FIFO, without waiting for its writer', () => {
    execFileSync('mkfifo', ['-m', '600', join(folder, 'fifo')]);
    for (const path of [folder, join(folder, 'fifo')]) {
      expect(readFailure(path)).toMatchObject({ code: 'config-unreadable', message: `cannot read ${path}: it is not a regular file` });
    }
  });
});
