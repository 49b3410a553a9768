// `kz audit`: what blind runs did, from logs that are written here as a run writes them.
import { appendFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import { AuditLog } from '../../src/audit/log.ts';
import { runFileName } from '../../src/audit/runs.ts';
import { BLOCKED, exchange, STARTED } from '../audit/samples.ts';
import { collect, Story } from './kz.ts';

let story: Story;
let folder: string;

beforeEach(() => {
  story = new Story();
  folder = join(story.home, '.local/state/keyzero/runs');
});

afterEach(() => {
  story.end();
});

const ENDED = { type: 'run-ended', time: '2026-11-21T07:56:00.000Z', status: 'exit 0', lost: 0 } as const;

function open(at: string, config = join(story.project, '.keyzero.toml')): AuditLog {
  const started = { ...STARTED, config: [config] };
  return AuditLog.open({ folder, started, remask: (text) => text, onLost: () => undefined, now: new Date(at) });
}

async function logged(at: string, events: readonly AuditEvent[], config?: string): Promise<AuditLog> {
  const log = open(at, config);
  for (const event of events) log.write(event);
  await log.close();
  return log;
}

const TODAY = '2026-11-21T07:55:54.123Z';
const kz = (words: readonly string[]) => story.kz(['audit', ...words], { env: { TZ: 'UTC' } });

describe('without a log', () => {
  it('says which command makes one', async () => {
    const hint = 'kz: hint: each blind run makes a log: `kz run --blind -- PROGRAM`\n';
    const stderr = `kz: error: no blind run is logged in ${folder}\n${hint}`;
    expect(await kz([])).toMatchObject({ code: 2, stdout: '', stderr });
    expect(await kz(['--json'])).toMatchObject({ code: 2, stdout: '', stderr });
    expect(await kz(['--list'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'kz: no blind run is logged yet; each one makes a log: `kz run --blind -- PROGRAM`\n',
    });
  });
});

describe('kz audit', () => {
  it('shows each exchange, what to do about it, and a summary', async () => {
    story.config('[secrets]\n');
    const { run } = await logged(TODAY, [
      exchange(),
      exchange({ host: 'localhost', port: 8080, tls: false, path: '/x?k=1', swapped: [], remasked: ['GITHUB_TOKEN'], status: 404 }),
      exchange({ ...BLOCKED }),
      exchange({ ...BLOCKED, path: '/again' }),
      exchange({ ...BLOCKED, host: 'b.example', port: 8443, why: 'no-match', rule: null }),
      exchange({
        path: '/gists',
        swapped: [],
        left: [
          { name: 'GITHUB_TOKEN', where: 'query k', reason: 'slot', allow: 'swap = ["query:k"]' },
          { name: 'OTHER', where: 'body', reason: 'encoding', allow: '' },
        ],
      }),
      exchange({ host: 'api.githbu.com', status: null, error: 'dns', swapped: [] }),
      { type: 'refused', time: '2026-11-21T07:55:55.000Z', why: 'no-credential', host: null, port: null },
      ENDED,
    ]);
    const { code, stdout, stderr } = await kz([]);
    expect(code).toBe(0);
    expect(stdout).toBe(`run ${run}: node, 2026-11-21 07:55:54, ${story.project}/.keyzero.toml
07:55:54.201  200      GET     api.github.com/user          GITHUB_TOKEN in header authorization
07:55:54.201  404      GET     http://localhost:8080/x?k=1  GITHUB_TOKEN masked in the answer
07:55:54.201  blocked  POST    evil.example/collect         by /home/me/app/.keyzero.toml:14
              to allow it, add above that rule:
                [[blind.connections]]
                allow = true
                host = "evil.example"
07:55:54.201  blocked  POST    evil.example/again           by /home/me/app/.keyzero.toml:14
07:55:54.201  blocked  POST    b.example:8443/collect       no rule allows it
              to allow it, add:
                [[blind.connections]]
                allow = true
                host = "b.example"
                port = 8443
07:55:54.201  200      GET     api.github.com/gists
              GITHUB_TOKEN not swapped in query k: not one of its places; to allow it: swap = ["query:k"]
              OTHER not swapped in body: the encoding of the body is in the way
07:55:54.201  failed   GET     api.githbu.com/user          the name of the host does not resolve
07:55:55.000  refused  -       -                            the client did not send the credential of this run

7 exchanges: 4 allowed (1 of them failed), 3 blocked
1 connection refused
swapped: GITHUB_TOKEN 1 time
not swapped: GITHUB_TOKEN 1 time, OTHER 1 time
ended: exit 0
`);
    expect(stderr).toBe('kz: `kz audit --suggest` prints config to paste\n');
  });

  it('shows only what did not go through with --blocked', async () => {
    await logged(TODAY, [
      exchange(),
      exchange(BLOCKED),
      { type: 'refused', time: TODAY, why: 'bad-tls', host: 'a.example', port: 443 },
      ENDED,
    ]);
    const { stdout } = await kz(['--blocked']);
    expect(stdout).not.toContain('api.github.com');
    expect(stdout).toContain('evil.example/collect');
    expect(stdout).toContain('a.example:443');
    const types = (await kz(['--blocked', '--json'])).stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as AuditEvent).type);
    expect(types).toEqual(['exchange', 'refused']);
  });

  it('prints the events as they are stored with --json, also those of a newer kz', async () => {
    const log = await logged(TODAY, [exchange(), ENDED]);
    const stored = readFileSync(log.path, 'utf8') + '{"type":"from-the-future"}\n';
    writeFileSync(log.path, `${stored}{"torn":`);
    expect(await kz(['--json'])).toMatchObject({ code: 0, stdout: stored, stderr: '' });
  });

  it('reads the log of a run that was killed', async () => {
    const log = await logged(TODAY, [exchange()]);
    const text = readFileSync(log.path, 'utf8').replace(/"pid":\d+/, '"pid":2147483647');
    writeFileSync(log.path, `${text}{"type":"exchange","ti`);
    const { code, stdout } = await kz([]);
    expect(code).toBe(0);
    expect(stdout).toContain('\n1 exchange: 1 allowed, 0 blocked\n');
    expect(stdout).toContain('\nkilled: its last line is missing\n');
  });

  it('shows no control characters that a host, a path or a program chose', async () => {
    const hostile = '\u001b[2J\u009b1m\u202e\nkz: error: fake';
    await logged(TODAY, [
      exchange({ ...BLOCKED, host: hostile, path: hostile, method: hostile }),
      exchange({ swapped: [{ name: 'A', where: hostile }], left: [{ name: 'A', where: hostile, reason: 'slot', allow: hostile }] }),
      { type: 'refused', time: TODAY, why: 'not-http', host: hostile, port: 1 },
      { ...ENDED, status: hostile },
    ]);
    for (const words of [[], ['--json'], ['--suggest']]) {
      const { stdout } = await kz(words);
      expect(stdout).toContain('fake');
      // eslint-disable-next-line no-control-regex -- these are the ones to find
      expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]|^kz: error/m);
    }
  });

  it('works while the config is broken, and names the one that is not there', async () => {
    story.config('not toml');
    await logged(TODAY, [ENDED]);
    expect(await kz([])).toMatchObject({ code: 0, stderr: '' });
    const { code, stderr } = await kz(['--config', 'nowhere.toml']);
    expect([code, stderr.includes('nowhere.toml, which is not there')]).toEqual([1, true]);
  });
});

describe('which run', () => {
  it('is the latest of this project, else the latest of all', async () => {
    const config = story.config('[secrets]\n');
    const own = await logged('2026-11-20T10:00:00.000Z', [ENDED]);
    const other = await logged('2026-11-20T11:00:00.000Z', [ENDED], '/elsewhere/.keyzero.toml');
    expect((await kz([])).stdout).toContain(`run ${own.run}:`);
    expect((await kz(['--run', other.run.slice(0, 7)])).stdout).toContain(`run ${other.run}:`);
    const third = story.write('third/.keyzero.toml', '');
    const { stdout, stderr } = await kz(['-c', third]);
    expect(stdout).toContain(`run ${other.run}:`);
    expect(stderr).toBe(`kz: no run of ${third} is logged; this is the latest of all\n`);
    expect((await kz(['--list'])).stdout).toBe(
      [
        'RUN       STARTED              STATE  COMMAND  CONFIG',
        `${other.run}  2026-11-20 11:00:00  ended  node     /elsewhere/.keyzero.toml`,
        `${own.run}  2026-11-20 10:00:00  ended  node     ${config}`,
        '',
      ].join('\n'),
    );
    expect(JSON.parse((await kz(['--list', '--json'])).stdout)).toMatchObject({
      schema_version: 1,
      runs: [
        { run: other.run, state: 'ended' },
        { run: own.run, started: '2026-11-20T10:00:00.000Z', path: own.path, config: [config] },
      ],
    });
  });

  it('must be one that is logged', async () => {
    mkdirSync(folder, { recursive: true });
    for (const id of ['aa000000', 'ab000000']) writeFileSync(join(folder, runFileName(new Date(TODAY), id)), '');
    const hint = 'kz: hint: run `kz audit --list`\n';
    expect(await kz(['--run', 'zz'])).toMatchObject({ code: 2, stderr: `kz: error: no run has the id "zz"\n${hint}` });
    expect(await kz(['--run', 'a'])).toMatchObject({ code: 2, stderr: `kz: error: 2 runs have ids that start with "a"\n${hint}` });
    expect((await kz(['--run', 'ab'])).code).toBe(0);
    expect((await kz(['--run', ''])).code).toBe(2);
    expect(await kz(['--list', '--follow'])).toMatchObject({
      code: 2,
      stderr: "kz: error: option '--list' cannot be used with option '--follow'\nkz: hint: run `kz audit --help`\n",
    });
  });
});

describe('kz audit --suggest', () => {
  it('prints config to paste', async () => {
    const { run } = await logged(TODAY, [exchange(), exchange(BLOCKED), ENDED]);
    const { code, stdout, stderr } = await kz(['--suggest']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.split('\n')[0]).toBe(`# What run ${run} of node needed, 2026-11-21 07:55:54. Read it before you paste it.`);
    expect(parse(stdout)).toEqual({
      secrets: { GITHUB_TOKEN: { hosts: ['api.github.com'] } },
      blind: {
        connections: [
          { allow: true, host: 'api.github.com' },
          { allow: false, host: '*' },
        ],
      },
    });
  });

  it('has nothing to say about a run without requests', async () => {
    const { run } = await logged(TODAY, [ENDED]);
    const stderr = `kz: nothing was requested in run ${run}, so there is nothing to suggest\n`;
    expect(await kz(['--suggest'])).toMatchObject({ code: 0, stdout: '', stderr });
  });
});

describe('kz audit --follow', () => {
  /** Until the output has it. */
  function seen(child: ReturnType<Story['start']>, stream: 'stdout' | 'stderr', text: string): Promise<void> {
    let got = '';
    return new Promise((resolve) => {
      child[stream]?.on('data', (chunk: Buffer) => {
        got += chunk.toString();
        if (got.includes(text)) resolve();
      });
    });
  }

  it('waits for a run, shows it as it goes on, and ends with it', async () => {
    const child = story.start(['audit', '--follow'], { env: { TZ: 'UTC' } });
    const ended = collect(child);
    await seen(child, 'stderr', 'waiting for one');
    const log = open(new Date().toISOString());
    const first = seen(child, 'stdout', 'api.github.com/user');
    log.write(exchange());
    await first;
    const second = seen(child, 'stdout', 'api.github.com/second');
    log.write(exchange({ path: '/second' }));
    await second;
    log.write(ENDED);
    await log.close();
    const { code, stdout } = await ended;
    expect(code).toBe(0);
    expect(stdout).toContain(`run ${log.run}:`);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('ended: exit 0');
  });

  it('shows the newest run that goes on, and ^C ends it', async () => {
    await logged('2026-11-21T11:00:00.000Z', [ENDED]);
    const log = open(new Date().toISOString());
    log.write(exchange());
    const child = story.start(['audit', '--follow', '--json']);
    const ended = collect(child);
    await seen(child, 'stdout', '"exchange"');
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ signal: 'SIGINT', stdout: readFileSync(log.path, 'utf8'), stderr: '' });
    await log.close();
  });

  it('ends when the run is killed', async () => {
    const log = await logged(TODAY, [exchange()]);
    appendFileSync(log.path, '{"type":"exch');
    writeFileSync(log.path, readFileSync(log.path, 'utf8').replace(/"pid":\d+/, '"pid":2147483647'));
    const { code, stdout } = await kz(['--follow', '--run', log.run]);
    expect(code).toBe(0);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('killed: its last line is missing');
  });
});

it('leaves the logs as they are', async () => {
  const { path } = await logged(TODAY, [exchange(), ENDED]);
  const before = [readFileSync(path, 'utf8'), statSync(path).mtimeMs];
  for (const words of [[], ['--json'], ['--suggest'], ['--list'], ['--follow', '--run', '']]) await kz(words);
  expect([readFileSync(path, 'utf8'), statSync(path).mtimeMs]).toEqual(before);
});
