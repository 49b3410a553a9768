import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Layer } from '../../src/config/find.ts';
import type { SourceFile } from '../../src/config/load.ts';
import { isTrusted, trust } from '../../src/config/trust.ts';
import { KzError } from '../../src/core/errors.ts';

const NOBODY = 65_534;

let top: string;
/** Not there yet, and neither is its parent. */
let user: string;
let list: string;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'kz-trust-'));
  user = join(top, 'config', 'keyzero');
  list = join(user, 'trusted');
});

afterEach(() => {
  rmSync(top, { recursive: true });
});

function file(path: string, text = '[secrets]\n', layer: Layer = 'project'): SourceFile {
  return { path, text, layer, how: 'walking up', walkedTo: true };
}

const PROJECT = file('/app/.keyzero.toml');
const LOCAL = file('/app/.keyzero.local.toml', '[secrets]\n', 'local');
const USER = file('/home/me/.config/keyzero/config.toml', '[secrets]\n', 'user');

function failure(action: () => unknown): KzError {
  try {
    action();
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
  throw new Error('did not throw');
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

describe('a config', () => {
  it('is not trusted until it is', () => {
    expect(isTrusted([PROJECT], user)).toBe(false);
    expect(trust([PROJECT], user)).toEqual([PROJECT.path]);
    expect(isTrusted([PROJECT], user)).toBe(true);
  });

  it('is trusted once', () => {
    trust([PROJECT], user);
    const before = readFileSync(list, 'utf8');
    expect(trust([PROJECT], user)).toEqual([]);
    expect(readFileSync(list, 'utf8')).toBe(before);
  });

  it('has to be trusted again when its text changes, and not when it changes back', () => {
    trust([PROJECT], user);
    const changed = file(PROJECT.path, `${PROJECT.text}# more\n`);
    expect(isTrusted([changed], user)).toBe(false);
    expect(trust([changed], user)).toEqual([PROJECT.path]);
    expect([isTrusted([changed], user), isTrusted([PROJECT], user)]).toEqual([true, true]);
  });

  it('is not trusted because its text is, at another path', () => {
    trust([PROJECT], user);
    expect(isTrusted([file('/other/.keyzero.toml', PROJECT.text)], user)).toBe(false);
    // The same characters, cut at another place.
    expect(isTrusted([file(PROJECT.path + PROJECT.text.slice(0, 1), PROJECT.text.slice(1))], user)).toBe(false);
  });

  it('is trusted only together with the files it is layered with', () => {
    trust([PROJECT], user);
    expect(isTrusted([PROJECT, LOCAL], user)).toBe(false);
    expect(trust([USER, PROJECT, LOCAL], user)).toEqual([LOCAL.path]);
    expect(isTrusted([USER, PROJECT, LOCAL], user)).toBe(true);
  });

  it('of the user is always trusted', () => {
    expect(isTrusted([USER], user)).toBe(true);
    expect(isTrusted([USER, PROJECT], user)).toBe(false);
    expect(trust([USER], user)).toEqual([]);
    expect(() => statSync(user)).toThrow('ENOENT');
  });
});

describe('the list', () => {
  it('is 0600, in folders that are 0700', () => {
    trust([PROJECT], user);
    expect([mode(list), mode(user), mode(join(top, 'config'))]).toEqual(['600', '700', '700']);
    trust([LOCAL], user);
    expect(mode(list)).toBe('600');
  });

  it('names each path in a line, whatever is in it', () => {
    const odd = file('/app\n/"é/.keyzero.toml');
    trust([PROJECT, odd], user);
    const lines = readFileSync(list, 'utf8').split('\n');
    expect(lines.map((line) => line.slice(64))).toEqual([` ${JSON.stringify(PROJECT.path)}`, ` ${JSON.stringify(odd.path)}`, '']);
    expect(isTrusted([PROJECT, odd], user)).toBe(true);
  });

  it.each([
    ['words', 'not a fingerprint\n\n  \n'],
    ['a line without its end', 'cut off'],
    ['bytes that are not text', Buffer.from([0xff, 0xfe, 0, 0x80])],
    ['nothing', ''],
    ['other line endings', '# kz\r\n'],
  ])('may hold %s', (_what, garbage) => {
    mkdirSync(user, { recursive: true });
    writeFileSync(list, garbage, { mode: 0o600 });
    expect(isTrusted([PROJECT], user)).toBe(false);
    trust([PROJECT], user);
    expect(isTrusted([PROJECT], user)).toBe(true);
    expect(readFileSync(list).subarray(0, garbage.length)).toEqual(Buffer.from(garbage));
  });

  it.each(['644', '620', '602', '660', '666'])('is not believed when its mode is %s', (bits) => {
    trust([PROJECT], user);
    chmodSync(list, Number.parseInt(bits, 8));
    const before = readFileSync(list, 'utf8');
    for (const action of [() => isTrusted([PROJECT], user), () => trust([PROJECT], user), () => trust([LOCAL], user)]) {
      expect(failure(action)).toMatchObject({
        code: 'config-untrusted',
        message: `${list} is open to other users (mode ${bits})`,
        hint: `run \`rm ${list}\`, then \`kz trust\` again in every folder`,
      });
    }
    expect(readFileSync(list, 'utf8')).toBe(before);
    expect(isTrusted([USER], user)).toBe(true);
  });

  it('is not believed when it belongs to somebody else', async () => {
    mkdirSync(user, { recursive: true });
    symlinkSync('/etc/passwd', list);
    expect(await isTrustedAsUser()).toBe(`config-untrusted: ${list} belongs to another user`);
  });

  it('is an error when it is no file, or cannot be written', () => {
    mkdirSync(list, { recursive: true });
    expect(failure(() => isTrusted([PROJECT], user)).code).toBe('config-unreadable');
    expect(failure(() => trust([PROJECT], user)).code).toBe('config-unreadable');
    rmSync(list, { recursive: true });
    symlinkSync(join(top, 'missing', 'list'), list);
    expect(isTrusted([PROJECT], user)).toBe(false);
    expect(failure(() => trust([PROJECT], user))).toMatchObject({ code: 'write-failed', message: `cannot write ${list}: ENOENT` });
  });
});

/** In a process that is not root, whom every file is private to. */
async function isTrustedAsUser(): Promise<string> {
  const program = join(top, 'program.mjs');
  await build({
    stdin: {
      contents: `import { isTrusted } from './trust.ts';
        try { console.log(isTrusted([${JSON.stringify(PROJECT)}], ${JSON.stringify(user)})); }
        catch (error) { console.log(error.code + ': ' + error.message); }`,
      resolveDir: join(import.meta.dirname, '../../src/config'),
    },
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });
  chmodSync(top, 0o755);
  const nobody = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if (process.getuid?.() === 0) for (const path of [top, join(top, 'config'), user]) chownSync(path, NOBODY, NOBODY);
  return execFileSync(process.execPath, [program], { ...nobody, cwd: top, encoding: 'utf8' }).trim();
}
