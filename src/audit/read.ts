// Reads the log of a run, also of one that was killed in the middle of a line or was written by a newer kz: unknown keys are dropped,
// unknown codes become `other`, and what is no event at all is the caller's to skip.
import { closeSync, openSync, readSync } from 'node:fs';
import * as z from 'zod/mini';
import { KzError, systemCode } from '../core/errors.ts';
import {
  DECISIONS,
  EXCHANGE_ERRORS,
  EXCHANGE_WHYS,
  LEFT_REASONS,
  PROTOCOLS,
  REFUSED_WHYS,
  ROTATION_RESULTS,
  type AuditEvent,
  type RunStarted,
} from './event.ts';
import { firstLine, type Run } from './runs.ts';

/** The complete lines, a piece of the file at a time: a log may be larger than memory. */
export function* readLines(path: string): Generator<readonly string[]> {
  const reader = new LineReader(path);
  try {
    for (let lines = reader.next(); lines.length > 0; lines = reader.next()) yield lines;
  } finally {
    reader.close();
  }
}

/** The events of a log, without what cannot be read. */
export function* readEvents(path: string): Generator<AuditEvent> {
  for (const lines of readLines(path)) {
    for (const line of lines) {
      const event = parseEvent(line);
      if (event !== undefined) yield event;
    }
  }
}

/** Undefined for a line that is torn, or of a kind that this kz does not know. */
export function parseEvent(line: string): AuditEvent | undefined {
  try {
    return eventSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

export function readStart(run: Run): RunStarted | undefined {
  const event = parseEvent(firstLine(run.path) ?? '');
  return event?.type === 'run-started' ? event : undefined;
}

const PIECE = 262_144;

export class LineReader {
  readonly #descriptor: number;
  readonly #piece = Buffer.alloc(PIECE);
  #rest = Buffer.alloc(0);

  constructor(path: string) {
    try {
      this.#descriptor = openSync(path, 'r');
    } catch (error) {
      throw new KzError('config-unreadable', `cannot read ${path} (${systemCode(error) ?? 'unknown error'})`, { cause: error });
    }
  }

  /** Empty when the file has no further complete line, yet. */
  next(): readonly string[] {
    for (;;) {
      const length = readSync(this.#descriptor, this.#piece, 0, PIECE, null);
      if (length === 0) return [];
      const bytes = Buffer.concat([this.#rest, this.#piece.subarray(0, length)]);
      const end = bytes.lastIndexOf(NEWLINE);
      this.#rest = bytes.subarray(end + 1);
      if (end >= 0) return bytes.toString('utf8', 0, end).split('\n');
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

const NEWLINE = 0x0a;

const text = z.string();
const nullableNumber = z.nullable(z.number());

const runStarted = z.object({
  type: z.literal('run-started'),
  schema_version: z.literal(1),
  time: text,
  run: text,
  pid: z.number(),
  version: text,
  command: text,
  config: z.array(text),
  secrets: z.array(z.object({ name: text, scope: z.array(text), scope_from: text, exposed: z.boolean() })),
  rules: z.number(),
});

const exchange = z.object({
  type: z.literal('exchange'),
  time: text,
  ms: z.number(),
  id: z.number(),
  protocol: z.catch(z.enum(PROTOCOLS), 'raw'),
  tls: z.boolean(),
  method: z.nullable(text),
  host: text,
  port: z.number(),
  path: z.nullable(text),
  status: nullableNumber,
  decision: z.enum(DECISIONS),
  rule: z.nullable(z.object({ index: z.number(), at: z.nullable(text) })),
  why: z.catch(z.enum(EXCHANGE_WHYS), 'other'),
  swapped: z.array(z.object({ name: text, where: text })),
  left: z.array(z.object({ name: text, where: text, reason: z.catch(z.enum(LEFT_REASONS), 'slot'), allow: text })),
  remasked: z.array(text),
  bytes_up: z.number(),
  bytes_down: z.number(),
  error: z.nullable(z.catch(z.enum(EXCHANGE_ERRORS), 'other')),
});

const refused = z.object({
  type: z.literal('refused'),
  time: text,
  why: z.catch(z.enum(REFUSED_WHYS), 'other'),
  host: z.nullable(text),
  port: nullableNumber,
});

const rotation = z.object({
  type: z.literal('rotation'),
  time: text,
  names: z.array(text),
  result: z.catch(z.enum(ROTATION_RESULTS), 'other'),
  why: z.nullable(text),
});

const runEnded = z.object({ type: z.literal('run-ended'), time: text, status: text, lost: z.number() });

const eventSchema: z.ZodMiniType<AuditEvent> = z.discriminatedUnion('type', [runStarted, exchange, refused, rotation, runEnded]);
