import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { openFile } from '../../src/providers/file.ts';
import type { Outcome } from '../../src/providers/provider.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
const RANDOM_UUID = '/proc/sys/kernel/random/uuid';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kz-file-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

async function getAll(...texts: string[]): Promise<readonly Outcome[]> {
  const refs = texts.map((text) => ({ text, directory: folder }));
  return openFile({ HOME: folder }).get(refs, new AbortController().signal);
}

async function value(ref: string): Promise<string> {
  const [outcome] = await getAll(ref);
  if (outcome?.ok !== true) throw outcome?.error ?? new Error('no outcome');
  return outcome.secret.reveal();
}

async function failure(ref: string): Promise<KzError> {
  const [outcome] = await getAll(ref);
  if (outcome?.ok !== false) throw new Error(`${ref} was read`);
  expect(inspect(outcome.error, { depth: 9 })).not.toContain(CANARY);
  return outcome.error;
}

async function file(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(folder, name), content);
  return name;
}

describe('a whole file', () => {
  it.each([
    ['no newline', CANARY, CANARY],
    ['one newline', `${CANARY}\n`, CANARY],
    ['one CRLF', `${CANARY}\r\n`, CANARY],
    ['two newlines', `${CANARY}\n\n`, `${CANARY}\n`],
    ['a return', `${CANARY}\r`, `${CANARY}\r`],
    ['other space', ` ${CANARY} \n`, ` ${CANARY} `],
    ['several lines', `-----BEGIN\n${CANARY}\n-----END\n`, `-----BEGIN\n${CANARY}\n-----END`],
    ['a byte order mark', `\uFEFF${CANARY}\n`, CANARY],
    ['unicode', 'pässwörd 日本 🔑\n', 'pässwörd 日本 🔑'],
    ['nothing', '', ''],
    ['a newline only', '\n', ''],
    ['JSON', '{"a": 1}\n', '{"a": 1}'],
  ])('with %s', async (_case, content, expected) => {
    expect(await value(await file('whole', content))).toBe(expected);
  });

  it('is found relative to the config, absolute, and at home', async () => {
    await mkdir(join(folder, 'sub'));
    await file('sub/at', CANARY);
    for (const ref of ['sub/at', './sub/../sub/at', join(folder, 'sub/at'), '~/sub/at']) expect(await value(ref)).toBe(CANARY);
  });

  it('follows the links of a Kubernetes mount', async () => {
    const mount = join(folder, 'mount');
    await mkdir(join(mount, '..2026_01_02'), { recursive: true });
    await writeFile(join(mount, '..2026_01_02', 'TOKEN'), `${CANARY}\n`);
    await symlink('..2026_01_02', join(mount, '..data'));
    await symlink('..data/TOKEN', join(mount, 'TOKEN'));
    expect(await value('mount/TOKEN')).toBe(CANARY);
  });

  it('may have 1 MiB and not a byte more', async () => {
    expect(await value(await file('large', Buffer.alloc(1_048_576, 'a')))).toHaveLength(1_048_576);
    const error = await failure(await file('larger', Buffer.alloc(1_048_577, 'a')));
    expect([error.code, error.message]).toEqual(['secret-invalid', 'file "larger" is larger than 1 MiB']);
  });

  it('is UTF-8', async () => {
    const error = await failure(await file('bytes', Buffer.from([0x43, 0xff, 0xfe])));
    expect([error.code, error.message]).toEqual(['secret-invalid', 'file "bytes" is not UTF-8 text']);
  });

  it.skipIf(!existsSync(RANDOM_UUID))('is read once, and completely when it claims to be empty', async () => {
    const [first, second, document] = await getAll(RANDOM_UUID, RANDOM_UUID, `${RANDOM_UUID}#a`);
    if (first?.ok !== true || second?.ok !== true) throw new Error('not read');
    expect(first.secret.reveal()).toMatch(/^[0-9a-f-]{36}$/);
    expect(second.secret.reveal()).toBe(first.secret.reveal());
    expect(document?.ok).toBe(false);
    expect(await value(RANDOM_UUID)).not.toBe(first.secret.reveal());
  });
});

describe('a key of a file', () => {
  it('is found in each format', async () => {
    await file('a.json', `{"db": {"password": "${CANARY}"}, "port": 5432}\n`);
    await file('a.yaml', `db:\n  password: ${CANARY}\npem: |\n  a\n  b\n`);
    await file('a.toml', `[db]\npassword = "${CANARY}"\n`);
    await file('.env', `export PASSWORD="${CANARY}" # note\n`);
    await file('.env.local', `PASSWORD=${CANARY}\r\n`);
    await file('noext-json', ` {"PASSWORD": "${CANARY}"}`);
    await file('noext', `PASSWORD=${CANARY}`);
    const refs = ['a.json#db.password', 'a.yaml#db.password', 'a.toml#db.password'];
    for (const ref of refs) expect(await value(ref)).toBe(CANARY);
    for (const name of ['.env', '.env.local', 'noext-json', 'noext']) expect(await value(`${name}#PASSWORD`)).toBe(CANARY);
    expect(await value('a.json#port')).toBe('5432');
    expect(await value('a.yaml#pem')).toBe('a\nb\n');
  });

  it('is behind the last #', async () => {
    await file('we#ird.env', `A=${CANARY}`);
    expect(await value('we#ird.env#A')).toBe(CANARY);
  });

  it('is missing when it is null or not there', async () => {
    await file('b.json', '{"PASSWORD": "x", "none": null}');
    const error = await failure('b.json#PASWORD');
    expect([error.code, error.message]).toEqual(['secret-missing', 'file "b.json" has no key "PASWORD"']);
    expect(error.hint).toContain('did you mean "PASSWORD"?');
    expect((await failure('b.json#none')).code).toBe('secret-missing');
  });

  it('needs a document', async () => {
    await file('c.json', `["${CANARY}"]`);
    await file('d.json', `{"a": ${CANARY}`);
    expect((await failure('c.json#0')).message).toBe('file "c.json" holds a list instead of keys and values');
    expect((await failure('d.json#a')).message).toBe('file "d.json" is not valid JSON');
  });
});

describe('what is no file', () => {
  it('is missing when nothing is there', async () => {
    await file('plain', 'x');
    for (const ref of ['nope', 'nope/nope', 'plain/nope', 'nope.json#a']) expect((await failure(ref)).code).toBe('secret-missing');
    expect((await failure('nope')).hint).toBe(`there is no file at ${join(folder, 'nope')}`);
  });

  it('is refused without waiting', async () => {
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    await symlink('fifo', join(folder, 'fifo-link'));
    const server = createServer().listen(join(folder, 'socket'));
    await new Promise((done) => server.once('listening', done));
    const expected = [
      ['.', 'a folder'],
      ['~/', 'a folder'],
      ['fifo', 'a FIFO'],
      ['fifo-link', 'a FIFO'],
      ['socket', 'a socket'],
      ['/dev/null', 'a device'],
    ] as const;
    for (const [ref, kind] of expected) {
      const error = await failure(ref);
      expect([error.code, error.message]).toEqual(['ref-invalid', `file ${JSON.stringify(ref)} is ${kind}, not a regular file`]);
    }
    await new Promise((done) => server.close(done));
  });

  it('is refused when links go in circles', async () => {
    await symlink('loop', join(folder, 'loop'));
    const error = await failure('loop');
    expect([error.code, error.message]).toEqual(['provider-failed', 'cannot read file "loop": ELOOP']);
  });

  it.skipIf(process.getuid?.() === 0)('is denied when the owner says so', async () => {
    await chmod(join(folder, await file('secret', CANARY)), 0o000);
    const error = await failure('secret');
    expect([error.code, error.message]).toEqual(['provider-denied', 'kz may not read file "secret"']);
  });

  it.each(['', '#a', 'a#', 'a\0b', '#'])('%j is not a ref', async (ref) => {
    expect((await failure(ref)).code).toBe('ref-invalid');
  });
});

it('keeps the order, and one bad ref hides no good one', async () => {
  await file('one', 'one');
  await file('two', 'two');
  const outcomes = await getAll('two', 'nope', 'one', '#');
  expect(outcomes.map((outcome) => (outcome.ok ? outcome.secret.reveal() : outcome.error.code))).toEqual([
    'two',
    'secret-missing',
    'one',
    'ref-invalid',
  ]);
});

it('does not start for a signal that is aborted', async () => {
  await expect(openFile({}).get([{ text: 'one', directory: folder }], AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop');
});
