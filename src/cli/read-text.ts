// A value from a pipe or a file: text of up to 1 MiB, read as it comes. A FIFO or `<(command)` is as good as a file.
import { closeSync, openSync, readSync } from 'node:fs';
import { KzError, systemCode } from '../core/errors.ts';
import { decodeText, MAX_TEXT_BYTES, withoutFinalNewline } from '../providers/document.ts';

/** Of a path, or of standard input (0). One newline at the end is the editor's or echo's, not the secret's. */
export function readText(from: string | 0): string {
  const what = from === 0 ? 'standard input' : from;
  const bytes = readBytes(from, what);
  if (bytes === undefined) throw new KzError('secret-invalid', `the value from ${what} is larger than 1 MiB`);
  const text = decodeText(bytes);
  if (text === undefined) throw new KzError('secret-invalid', `cannot read the value from ${what}: it is not UTF-8 text`);
  return withoutFinalNewline(text);
}

function readBytes(from: string | 0, what: string): Uint8Array | undefined {
  try {
    if (from === 0) return readAll(0);
    const descriptor = openSync(from, 'r');
    try {
      return readAll(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw new KzError('secret-invalid', `cannot read the value from ${what}: ${systemCode(error) ?? 'unknown error'}`, { cause: error });
  }
}

/** Undefined when there is more than a secret can have. */
function readAll(descriptor: number): Uint8Array | undefined {
  const buffer = Buffer.alloc(MAX_TEXT_BYTES + 1);
  for (let length = 0; length < buffer.length;) {
    const count = readSome(descriptor, buffer.subarray(length));
    if (count === 0) return buffer.subarray(0, length);
    length += count;
  }
  return undefined;
}

/** Standard input may be a pipe that somebody else made non-blocking: wait for its writer, as a blocking read would. */
function readSome(descriptor: number, buffer: Uint8Array): number {
  for (;;) {
    try {
      return readSync(descriptor, buffer);
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
