// The JSON body of a request: never more than the limit in memory, never a depth that hurts, and its errors in words of our own, because those of
// a parser quote what they parse.
import type { IncomingMessage } from 'node:http';
import { ServerFailure } from '../failure.ts';
import { HttpRefusal, type Exchange } from './http-answer.ts';

/** Of arrays and objects within each other. */
const DEEPEST = 32;

/** All that can be told before anything of the body is read. Throws `HttpRefusal` 415 or `too-large`. */
export function checkJsonHead({ headers }: IncomingMessage, most: number): void {
  const [type = '', ...parameters] = (headers['content-type'] ?? '').toLowerCase().split(';');
  const isUtf8 = parameters.every((parameter) => /^\s*(charset\s*=\s*"?utf-8"?)?\s*$/.test(parameter));
  if (type.trim() !== 'application/json' || !isUtf8) {
    throw new HttpRefusal(415, 'media-type', 'the body must be JSON in UTF-8, with content-type: application/json', {
      accept: 'application/json',
    });
  }
  if ((headers['content-encoding'] ?? 'identity').toLowerCase() !== 'identity') {
    throw new HttpRefusal(415, 'media-type', 'the body must not be compressed', { 'accept-encoding': 'identity' });
  }
  if (Number(headers['content-length'] ?? 0) > most) throw tooLarge(most);
}

/**
 * Of two equal keys the last one counts, as everywhere in JavaScript. No key is `__proto__`. Throws `request-invalid`, `too-large`, or `cancelled`
 * for a client that went away.
 */
export async function readJson({ request, response, awaitsContinue }: Exchange, most: number): Promise<unknown> {
  if (awaitsContinue) response.writeContinue();
  const value = parsed(await readBody(request, most));
  checkShape(value, DEEPEST);
  return value;
}

function readBody(request: IncomingMessage, most: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const stop = (error: ServerFailure): void => {
      request.off('data', take);
      request.pause();
      reject(error);
    };
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > most) stop(tooLarge(most));
      else chunks.push(chunk);
    };
    const gone = (): void => {
      stop(new ServerFailure('cancelled', 'the client went away'));
    };
    // It went while somebody found out who it is: nothing of it would be heard any more, and what waits for it would wait for ever.
    if (request.destroyed) {
      gone();
      return;
    }
    request.on('data', take);
    request.once('end', () => {
      request.off('close', gone);
      resolve(Buffer.concat(chunks, size));
    });
    request.once('error', gone).once('close', gone);
  });
}

function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // Not as a cause: the parser's message holds a piece of the body.
    throw new ServerFailure('request-invalid', 'the body is not JSON in UTF-8');
  }
}

function checkShape(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth === 0) throw new ServerFailure('request-invalid', `the body is nested more than ${String(DEEPEST)} deep`);
  // JSON.parse makes it an ordinary property; a later copy of the object could turn it into the prototype.
  if (Object.hasOwn(value, '__proto__')) throw new ServerFailure('request-invalid', 'the body has a key `__proto__`');
  for (const each of Object.values(value)) checkShape(each, depth - 1);
}

function tooLarge(most: number): ServerFailure {
  return new ServerFailure('too-large', `the body is larger than ${String(most / 1024)} KiB`);
}
