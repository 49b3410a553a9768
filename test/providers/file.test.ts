import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { KzError } from '../../src/core/errors.ts';
import { parseDocument } from '../../src/providers/document.ts';
import { openFile } from '../../src/providers/file.ts';
import type { Outcome } from '../../src/providers/provider.ts';
import { Access } from '../../src/providers/resolve.ts';
import { resolveSecrets } from '../../src/providers/secrets.ts';
import { KubernetesMount } from '../fixtures/kubernetes-mount.ts';

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
    await new KubernetesMount(join(folder, 'mount')).update({ TOKEN: `${CANARY}\n` });
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

  it.skipIf(process.getuid?.() === 0)('is denied as a folder, too', async () => {
    await mkdir(join(folder, 'closed'), { mode: 0o000 });
    const error = await failure('closed');
    expect([error.code, error.message]).toEqual(['provider-denied', 'kz may not read folder "closed"']);
  });

  it.each(['', '#a', 'a#', 'a\0b', '#'])('%j is not a ref', async (ref) => {
    expect((await failure(ref)).code).toBe('ref-invalid');
  });
});

describe('a folder', () => {
  const B = `CANARY-${randomBytes(8).toString('hex')}`;

  it('is a document with a key for each file', async () => {
    await mkdir(join(folder, 'db/sub'), { recursive: true });
    await file('db/USER', 'app\n');
    await file('db/PASSWORD', `${CANARY}\n\n`);
    await file('db/tls.crt', '-----BEGIN\r\n');
    await file('db/__proto__', '"quoted" \u2028');
    await file('db/.hidden', 'x');
    await file('db/sub/DEEP', 'x');
    execFileSync('mkfifo', [join(folder, 'db/fifo')]);
    const expected = [
      ['PASSWORD', `${CANARY}\n`],
      ['USER', 'app'],
      ['__proto__', '"quoted" \u2028'],
      ['tls.crt', '-----BEGIN'],
    ];
    for (const ref of ['db', 'db/', './db/../db', join(folder, 'db')]) {
      expect([...(await parseDocument(await value(ref), 'json', ref))]).toEqual(expected);
    }
    const [outcome, plain] = await getAll('db', 'db/USER');
    expect([outcome, plain].map((each) => each?.ok === true && each.isFolder)).toEqual([true, undefined]);
  });

  it('gives one file as a key', async () => {
    expect(await value('db#USER')).toBe('app');
    expect(await value('db/#tls.crt')).toBe('-----BEGIN');
    for (const key of ['PASWORD', '.hidden', 'sub', 'sub/DEEP', '../one', 'fifo', '..data']) {
      const error = await failure(`db#${key}`);
      expect([error.code, error.message]).toEqual(['secret-missing', `folder "db" has no key "${key}"`]);
    }
    expect((await failure('db#PASWORD')).hint).toContain('did you mean "PASSWORD"?');
  });

  it('fails by the name of a file that cannot be read, and the others can be named', async () => {
    await mkdir(join(folder, 'mixed'));
    expect(await value('mixed')).toBe('{}');
    await file('mixed/GOOD', CANARY);
    const broken: [string, () => Promise<unknown>, string, string][] = [
      ['BYTES', () => file('mixed/BYTES', Buffer.from([0xff])), 'secret-invalid', 'is not UTF-8 text'],
      ['LARGE', () => file('mixed/LARGE', Buffer.alloc(1_048_577, 'a')), 'secret-invalid', 'is larger than 1 MiB'],
      ['LOST', () => symlink('nowhere', join(folder, 'mixed/LOST')), 'provider-failed', 'does not exist'],
      ['LOOP', () => symlink('LOOP', join(folder, 'mixed/LOOP')), 'provider-failed', ''],
    ];
    for (const [name, make, code, problem] of broken) {
      await make();
      const error = await failure('mixed');
      expect(error.code).toBe(code);
      expect(error.message).toContain(`file "mixed/${name}"`);
      expect(error.message).toContain(problem);
      expect(error.hint).toContain('`ref = "mixed#NAME"`');
      expect(await value('mixed#GOOD')).toBe(CANARY);
      await rm(join(folder, 'mixed', name));
    }
    expect(await value('mixed')).toBe(`{"GOOD":"${CANARY}"}`);
  });

  it('has up to 1000 files', async () => {
    await mkdir(join(folder, 'many'));
    await Promise.all(Array.from({ length: 1000 }, (_, index) => file(`many/K${String(index)}`, 'x')));
    expect(Object.keys(JSON.parse(await value('many')) as object)).toHaveLength(1000);
    await file('many/MORE', 'x');
    expect((await failure('many')).message).toBe('folder "many" has more than 1000 files');
  });

  it('is one version of a Kubernetes mount, while it is replaced', async () => {
    const mounted = new KubernetesMount(join(folder, 'k8s'));
    const names = Array.from({ length: 20 }, (_, index) => `K${String(index)}`);
    const version = (count: number) => Object.fromEntries(names.map((name) => [name, `${CANARY}-${String(count)}\n`]));
    await mounted.update(version(0));
    for (let count = 1; count <= 40; count++) {
      const swap = await mounted.prepare(version(count));
      const reading = getAll('k8s', 'k8s/K1', 'k8s#K2', 'k8s/K19');
      // A little later each time, so that every step of the reading meets the swap.
      for (let step = 0; step < count * 3; step++) await setImmediate();
      await swap();
      const [document, ...single] = (await reading).map((outcome) => (outcome.ok ? outcome.secret.reveal() : outcome.error.message));
      expect(new Set([...single, ...Object.values(JSON.parse(document ?? '') as Record<string, string>)]).size).toBe(1);
    }
    expect(await value('k8s#K7')).toBe(`${CANARY}-40`);
  });

  it.each(['app.d', 'env', 'conf.yaml', 'conf.toml/', 'secrets.env', 'x.age'])('is [[secrets_from]] %s', async (name) => {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'DB_URL'), `${CANARY}\n`);
    await writeFile(join(folder, name, 'ID'), '12345678901234567890');
    expect(await resolved(`[[secrets_from]]\nprovider = "file"\nref = "${name}"\n`)).toEqual({
      DB_URL: CANARY,
      ID: '12345678901234567890',
    });
  });

  it('fills a template and has fields, and is no value by itself', async () => {
    await mkdir(join(folder, 'pg'));
    await file('pg/user', 'app\n');
    await file('pg/password', `${B}\n`);
    const config = `[secrets]
      URL = { provider = "file", ref = "pg", template = "postgres://{user}:{password}@db" }
      PASS = { provider = "file", ref = "pg", json_key = "password" }
      PLAIN = { provider = "file", ref = "pg/" }
      MISSING = { provider = "file", ref = "pg#token", required = false }`;
    expect(await resolved(config)).toEqual({
      URL: `postgres://app:${B}@db`,
      PASS: B,
      PLAIN: 'ref-invalid: PLAIN: file "pg/" is a folder (name a file in it, as `pg#NAME`, or use it in [[secrets_from]])',
      MISSING: 'absent',
    });
  });

  it('that is not there is missing, and may be optional', async () => {
    const config = (more: string): string => `[[secrets_from]]\nprovider = "file"\nref = "later"\nkeys = ["A"]\n${more}`;
    expect((await resolved(config(''))).A).toContain('file "later" does not exist');
    expect(await resolved(config('required = false'))).toEqual({ A: 'absent' });
  });
});

/** What each name resolves to: its value, or what is wrong with it. */
async function resolved(toml: string): Promise<Record<string, string>> {
  await file('.keyzero.toml', toml);
  const config = await loadConfig({ cwd: folder, env: { HOME: folder } });
  const access = new Access({}, { env: { HOME: folder }, userDirectory: folder });
  const { secrets } = await resolveSecrets(config, {}, access, new AbortController().signal);
  return Object.fromEntries(
    secrets.map((each) => {
      if (each.state === 'set') return [each.name, each.secret.reveal()];
      return [each.name, each.state === 'absent' ? 'absent' : `${each.error.code}: ${each.error.message} (${each.error.hint ?? ''})`];
    }),
  );
}

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
