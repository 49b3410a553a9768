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
  /** Sees the whole body once; only the length of what it returns counts. */
  readonly measure: BodySwap;
  readonly openFile?: (path: string) => Promise<FileHandle>;
}

export interface Spooled {
  /** Of the body after rewriting. */
  readonly length: number;
  /** The body as it came. Owns the file: read it to its end or destroy it. */
  readonly raw: Readable;
}

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
    const length = await fill(body, options.measure, (chunk) => writeAll(file, path, chunk));
    const raw = file.createReadStream({ start: 0 }).on('error', ignore);
    return { length, raw: signal === undefined ? raw : addAbortSignal(signal, raw) };
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

async function fill(body: Readable, measure: BodySwap, write: (chunk: Buffer) => Promise<void>): Promise<number> {
  let length = 0;
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    length += measure.push(chunk).length;
    await write(chunk);
  }
  return length + measure.end().length;
}

async function writeAll(file: FileHandle, path: string, chunk: Buffer): Promise<void> {
  try {
    // A disk that fills up takes a part first.
    for (let offset = 0; offset < chunk.length;) offset += (await file.write(chunk, offset)).bytesWritten;
  } catch (error) {
    throw writeError(path, error);
  }
}
