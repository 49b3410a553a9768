// What a tool call gives back: an answer that fits, or a failure in our own words.
// Nothing that an Error says reaches the model, unless it is a ServerFailure, whose words are ours.
import { ServerFailure } from '../failure.ts';
import type { CallToolResult } from './mcp-sdk.ts';

/** Longest answer, in bytes on the wire. Clients stop reading at 10 MB, and no model can use this much. */
export const MAX_ANSWER_BYTES = 1_500_000;

/** More rounds than any body of ours needs: escapes are at most six times the text. */
const MAX_ROUNDS = 8;

/** Where a program finds the failure that the text tells the model. `structuredContent` has to conform to the tool's schema even then. */
const ERROR_META = 'keyzero/error';

/** A value and what is left of it when only this part (0 to 1) of it may stay. */
export type Shorten<T> = (value: T, part: number) => T;

/** As structured content and, for clients that do not know that, as text. Throws `too-large` for what does not get short enough. */
export function answer<T extends object>(value: T, shorten?: Shorten<T>): CallToolResult {
  let fitting = value;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const text = JSON.stringify(fitting);
    // Once as it is, and once more as a string inside of JSON.
    const bytes = Buffer.byteLength(text) + Buffer.byteLength(JSON.stringify(text));
    if (bytes <= MAX_ANSWER_BYTES) return { content: [{ type: 'text', text }], structuredContent: { ...fitting } };
    if (shorten === undefined) break;
    fitting = shorten(fitting, (MAX_ANSWER_BYTES / bytes) * 0.98);
  }
  throw new ServerFailure('too-large', 'the answer is too long to be given through MCP');
}

export function failedAnswer({ code, message, hint }: ServerFailure): CallToolResult {
  const text = hint === undefined ? `${code}: ${message}` : `${code}: ${message}\nhint: ${hint}`;
  return {
    isError: true,
    content: [{ type: 'text', text }],
    _meta: { [ERROR_META]: { code, message, ...(hint === undefined ? {} : { hint }) } },
  };
}

/** What a caller may be told of whatever was thrown. */
export function failureOf(error: unknown, signal: AbortSignal): ServerFailure {
  if (error instanceof ServerFailure) return error;
  if (signal.aborted) return new ServerFailure('cancelled', 'the call was cancelled');
  return new ServerFailure('internal', 'the server could not do this', { hint: 'the log of the server says why' });
}

/** Never ends inside of a character: half of one is not text. */
export function cutText(text: string, characters: number): string {
  const end = Math.max(0, Math.floor(characters));
  const last = text.charCodeAt(end - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? end - 1 : end);
}

/** Four characters of base64 are three bytes. */
export function cutBase64(text: string, characters: number): string {
  return text.slice(0, Math.max(0, Math.floor(characters / 4) * 4));
}
