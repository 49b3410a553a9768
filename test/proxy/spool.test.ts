import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readlinkSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { BodySwap } from '../../src/mask/body-text.ts';
import { spool } from '../../src/proxy/spool.ts';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-spool-'));
});

afterEach(() => {
  expect(readdirSync(folder)).toEqual([]);
  expect(openFiles()).toEqual([]);
  rmSync(folder, { recursive: true });
});

/** Twice as long as what goes in, and five more at the end. */
const twice: BodySwap = { push: (chunk) => Buffer.concat([chunk, chunk]), end: () => Buffer.from('CANAR') };

it('shows the rewriter what came in, in order', async () => {
  const bytes = randomBytes(500_000);
  const { measure, raw } = await spool(Readable.from(pieces(bytes, 999)), { folder });
  const seen: Buffer[] = [];
  await measure({ push: (chunk) => (seen.push(Buffer.from(chunk)), chunk), end: () => Buffer.alloc(0) });
  expect(Buffer.concat(seen).equals(bytes)).toBe(true);
  expect((await collect(raw)).equals(bytes)).toBe(true);
});

it('gives back what came in, as often as it takes to know the length of what it will become', async () => {
  const bytes = randomBytes(3 * 1024 * 1024 + 7);
  const seen: Buffer[] = [];
  const file = await spool(Readable.from(pieces(bytes, 50_000)), { folder, see: (chunk) => seen.push(chunk) });
  expect(Buffer.concat(seen).equals(bytes)).toBe(true);
  expect(file.length).toBe(bytes.length);
  expect(await file.measure(twice)).toBe(2 * bytes.length + 5);
  expect(await file.measure(twice)).toBe(2 * bytes.length + 5);
  expect((await collect(file.raw)).equals(bytes)).toBe(true);
});

it('takes an empty body', async () => {
  const { length, raw, measure } = await spool(Readable.from([]), { folder });
  expect(length).toBe(0);
  expect(await measure(twice)).toBe(5);
  expect(await collect(raw)).toEqual(Buffer.alloc(0));
});

it.runIf(process.platform === 'linux')('keeps a private file without a name, and only what the child sent in it', async () => {
  const value = `CANARY-${randomBytes(8).toString('hex')}`;
  const rewriter: BodySwap = { push: () => Buffer.from(value), end: () => Buffer.alloc(0) };
  const { raw, measure } = await spool(Readable.from([Buffer.from('kz_masked_token')]), { folder });
  expect(await measure(rewriter)).toBe(value.length);
  const [file = ''] = openFiles();
  expect(readlinkSync(file)).toMatch(/ \(deleted\)$/);
  expect(readFileSync(file, 'utf8')).toBe('kz_masked_token');
  expect(await fileMode(file)).toBe('600');
  await collect(raw);
});

it('closes the file when the reader gives up', async () => {
  const { raw } = await spool(Readable.from(pieces(randomBytes(500_000), 1000)), { folder });
  const closed = new Promise((resolve) => raw.once('close', resolve));
  raw.destroy();
  await closed;
});

it('reads no more than it can write', async () => {
  let given = 0;
  let seen = 0;
  const source = new Readable({
    highWaterMark: 1,
    read() {
      given++;
      this.push(given > 200 ? null : Buffer.alloc(10_000));
    },
  });
  const see = (chunk: Buffer): void => {
    seen += chunk.length;
    expect(given * 10_000 - seen).toBeLessThanOrEqual(20_000);
  };
  const { raw } = await spool(source, { folder, see });
  expect(seen).toBe(2_000_000);
  expect(await collect(raw)).toHaveLength(2_000_000);
});

it('passes on how the body failed', async () => {
  const failure = new Error('the child went away');
  const body = new PassThrough();
  body.write('half');
  const spooled = spool(body, { folder });
  body.destroy(failure);
  await expect(spooled).rejects.toBe(failure);
  const late = new PassThrough();
  const half = new Promise((resolve) => late.write('half', resolve));
  const spooledLate = spool(late, { folder });
  await half;
  late.destroy(failure);
  await expect(spooledLate).rejects.toBe(failure);
});

it('passes on how who sees the body failed, and leaves the body open', async () => {
  const failure = new Error('no such encoding');
  const see = (): void => {
    throw failure;
  };
  const body = new PassThrough();
  body.write('half');
  await expect(spool(body, { folder, see })).rejects.toBe(failure);
  expect(body.destroyed).toBe(false);
});

it('passes on how the measuring failed, and closes the file', async () => {
  const failure = new Error('no such encoding');
  const rewriter: BodySwap = {
    push() {
      throw failure;
    },
    end: () => Buffer.alloc(0),
  };
  const { measure, raw } = await spool(Readable.from([Buffer.alloc(10)]), { folder });
  const closed = new Promise((resolve) => raw.once('close', resolve));
  await expect(measure(rewriter)).rejects.toBe(failure);
  await closed;
});

it('says that a folder is not there', async () => {
  const missing = join(folder, 'missing');
  await expect(spool(Readable.from(['x']), { folder: missing })).rejects.toMatchObject({
    code: 'write-failed',
    message: expect.stringContaining(`cannot write ${missing}/body-`) as string,
  });
});

it.runIf(existsSync('/dev/full'))('says that the disk is full, and leaves the body open for an answer', async () => {
  const body = new PassThrough();
  body.write('x'.repeat(300_000));
  const openFile = () => open('/dev/full', 'r+');
  await expect(spool(body, { folder, openFile })).rejects.toMatchObject({
    code: 'write-failed',
    message: expect.stringMatching(/^cannot write .*: no space left on the device$/) as string,
    hint: `run \`df -h ${folder}\``,
  });
  expect(body.destroyed).toBe(false);
});

it('stops at the signal, while the body is late', async () => {
  const stop = new AbortController();
  const body = new PassThrough();
  const spooled = spool(body, { folder }, stop.signal);
  body.write('half', () => {
    stop.abort();
  });
  await expect(spooled).rejects.toMatchObject({ name: 'AbortError' });
  expect(body.destroyed).toBe(true);
});

it('stops at the signal, while it measures', async () => {
  const stop = new AbortController();
  const { raw, measure } = await spool(Readable.from(pieces(randomBytes(500_000), 1000)), { folder }, stop.signal);
  const closed = new Promise((resolve) => raw.once('close', resolve));
  const push = (chunk: Buffer): Buffer => {
    stop.abort();
    return chunk;
  };
  await expect(measure({ push, end: () => Buffer.alloc(0) })).rejects.toMatchObject({ name: 'AbortError' });
  await closed;
});

it('stops at the signal, while the file is read', async () => {
  const stop = new AbortController();
  const { raw } = await spool(Readable.from(pieces(randomBytes(500_000), 1000)), { folder }, stop.signal);
  const closed = new Promise((resolve) => raw.once('close', resolve));
  const read = collect(raw);
  stop.abort();
  await expect(read).rejects.toMatchObject({ name: 'AbortError' });
  await closed;
});

it('stops at the signal, before anybody reads the file', async () => {
  const stop = new AbortController();
  const { raw } = await spool(Readable.from([Buffer.alloc(10)]), { folder }, stop.signal);
  const closed = new Promise((resolve) => raw.once('close', resolve));
  stop.abort();
  await closed;
  await expect(collect(raw)).rejects.toMatchObject({ name: 'AbortError' });
});

it('opens nothing when the signal came first', async () => {
  await expect(spool(new PassThrough(), { folder }, AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' });
});

function* pieces(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The descriptors of this process that lead into the folder, or to /dev/full; none where that cannot be known. */
function openFiles(): string[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc/self/fd')
    .map((name) => `/proc/self/fd/${name}`)
    .filter((path) => {
      const target = targetOf(path);
      return target.startsWith(folder) || target === '/dev/full';
    });
}

function targetOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

async function fileMode(path: string): Promise<string> {
  const file = await open(path);
  const { mode } = await file.stat();
  await file.close();
  return (mode & 0o777).toString(8);
}
