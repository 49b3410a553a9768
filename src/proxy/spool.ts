// A large request body on its way through a file, because its new length has to be announced before its first byte is sent.
// What is written is what the child sent, masked tokens and all; the rewritten bytes are counted and never stored.
import { constants } from 'node:fs';
import { open, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { uniqueSuffix, writeError } from '../core/private-file.ts';
import type { BodySwap } from '../mask/body-text.ts';

export interface SpoolOptions {
  /** A folder of the run that only its owner may enter. */
  readonly folder: string;
  /** Sees the body as it comes. */
  readonly see?: (chunk: Buffer) => void;
  readonly openFile?: (path: string) => Promise<FileHandle>;
}

export interface Spooled {
  /** Of the body as it came. */
  readonly length: number;
  /** The body as it came. Owns the file: read it to its end or destroy it. */
  readonly raw: Readable;
  /** Reads the file once more, before `raw` is read: how long the body is after rewriting. Destroys `raw` when it fails. */
  readonly measure: (rewriter: BodySwap) => Promise<number>;
}

const READ_AT_ONCE = 128 * 1024;

/**
 * Throws `write-failed` when the disk will not have it, and leaves the body open then, so that the child can be answered; the body's own
 * failure is passed on as it is. The signal destroys the body, and `raw` as long as it is being read.
 */
export async function spool(body: Readable, options: SpoolOptions, signal?: AbortSignal): Promise<Spooled> {
  signal?.throwIfAborted();
  // A stream that fails while nobody listens ends the process; whoever reads it later still learns of it.
  body.on('error', ignore);
  const path = join(options.folder, `body-${uniqueSuffix()}`);
  const file = await (options.openFile ?? openUnlinked)(path).catch((error: unknown) => {
    throw writeError(path, error);
  });
  try {
    if (signal !== undefined) addAbortSignal(signal, body);
    const length = await fill(body, options.see, (bytes) => writeAll(file, path, bytes));
    const raw = file.createReadStream({ start: 0, highWaterMark: READ_AT_ONCE }).on('error', ignore);
    if (signal !== undefined) addAbortSignal(signal, raw);
    return { length, raw, measure: (rewriter) => measured(file, { raw, rewriter }, signal) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function ignore(): void {
  return undefined;
}

/** Without a name nobody else can open it, and nothing is left of it, however this process ends. */
async function openUnlinked(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    await unlink(path);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** In bytes. A write for each of the child's chunks would be most of what spooling costs. */
const WRITE_AT_ONCE = 256 * 1024;

async function fill(body: Readable, see: SpoolOptions['see'], write: (bytes: Buffer) => Promise<void>): Promise<number> {
  let length = 0;
  let waiting: Buffer[] = [];
  let size = 0;
  const flush = async (): Promise<void> => {
    const bytes = Buffer.concat(waiting);
    waiting = [];
    size = 0;
    await write(bytes);
  };
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    see?.(chunk);
    waiting.push(chunk);
    size += chunk.length;
    length += chunk.length;
    if (size >= WRITE_AT_ONCE) await flush();
  }
  await flush();
  return length;
}

async function writeAll(file: FileHandle, path: string, chunk: Buffer): Promise<void> {
  try {
    // A disk that fills up takes a part first.
    for (let offset = 0; offset < chunk.length;) offset += (await file.write(chunk, offset)).bytesWritten;
  } catch (error) {
    throw writeError(path, error);
  }
}

async function measured(file: FileHandle, { raw, rewriter }: { raw: Readable; rewriter: BodySwap }, signal?: AbortSignal): Promise<number> {
  try {
    const buffer = Buffer.allocUnsafe(READ_AT_ONCE);
    let length = 0;
    for (let position = 0; ;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return length + rewriter.end().length;
      length += rewriter.push(buffer.subarray(0, bytesRead)).length;
      position += bytesRead;
    }
  } catch (error) {
    raw.destroy();
    throw error;
  }
}
