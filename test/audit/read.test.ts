import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventLine } from '../../src/audit/event.ts';
import { parseEvent, readEvents, readLines, readStart } from '../../src/audit/read.ts';
import { listRuns, runFileName, runsFolder } from '../../src/audit/runs.ts';
import { exchange, STARTED } from './samples.ts';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-audit-'));
  path = join(folder, runFileName(new Date('2026-11-21T07:55:54.123Z'), '0a1b2c3d'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const same = (text: string): string => text;

it('reads what a killed run left, cut at every byte', () => {
  const line = eventLine(exchange(), same);
  for (let length = 0; length < line.length; length++) {
    writeFileSync(path, line + line.slice(0, length));
    expect([...readEvents(path)]).toHaveLength(1);
  }
  writeFileSync(path, line + line);
  expect([...readEvents(path)]).toEqual([exchange(), exchange()]);
});

it('reads lines that are longer than a piece', () => {
  const lines = [1000, 300_000, 10, 600_000, 262_143].map((length) => 'é'.repeat(length));
  writeFileSync(path, `${lines.join('\n')}\n`);
  expect([...readLines(path)].flat()).toEqual(lines);
});

it('passes over what is no event, and goes on', () => {
  const strange = ['', 'null', '[]', '{}', '"x"', '{"type":"exchange"}', '{"type":"from-the-future","time":"now"}', '{"type":', '\0\0'];
  writeFileSync(path, strange.map((line) => `${line}\n`).join('') + eventLine(exchange(), same));
  expect([...readEvents(path)]).toEqual([exchange()]);
});

it('takes what a newer kz wrote: new keys are dropped, new codes are "other"', () => {
  const newer = { ...exchange(), why: 'by-moonlight', error: 'eclipse', phase: 'full' };
  expect(parseEvent(JSON.stringify(newer))).toEqual(exchange({ why: 'other', error: 'other' }));
  const refused = { type: 'refused', time: 'now', why: 'new', host: null, port: null };
  expect(parseEvent(JSON.stringify(refused))).toEqual({ ...refused, why: 'other' });
});

it('reads the start of a run with thousands of secrets', () => {
  const secrets = Array.from({ length: 3000 }, (_, index) => ({
    name: `S${String(index)}`,
    scope: ['a.example'],
    scope_from: 'hosts',
    exposed: false,
  }));
  const start = {
    type: 'run-started',
    schema_version: 1,
    time: '2026-11-21T07:55:54.123Z',
    run: '0a1b2c3d',
    pid: 1,
    ...STARTED,
    secrets,
  } as const;
  writeFileSync(path, eventLine(start, same));
  appendFileSync(path, eventLine(exchange(), same));
  expect(listRuns(folder).map(readStart)).toEqual([start]);
});

it('has no start for a log without a complete first line', () => {
  writeFileSync(path, '{"type":"run-started","pid":1');
  expect(listRuns(folder).map(readStart)).toEqual([undefined]);
});

it('lists the newest first, by name', () => {
  const dates = ['2025-12-31T23:59:59.999Z', '2026-11-21T07:55:54.123Z', '2026-01-01T00:00:00.000Z'];
  for (const date of dates) writeFileSync(join(folder, runFileName(new Date(date), '00000000')), '');
  expect(listRuns(folder).map(({ startedAt }) => new Date(startedAt).toISOString())).toEqual(dates.sort().reverse());
  expect(listRuns(join(folder, 'nowhere'))).toEqual([]);
});

it('keeps the logs where state belongs', () => {
  expect(runsFolder({ XDG_STATE_HOME: '/s', HOME: '/h' })).toBe('/s/keyzero/runs');
  expect(runsFolder({ XDG_STATE_HOME: 'relative', HOME: '/h' })).toBe('/h/.local/state/keyzero/runs');
  expect(runsFolder({ HOME: '/h' })).toBe('/h/.local/state/keyzero/runs');
});
