// Both programs that open the doors, in a network namespace of their own: what reaches kz, what stays behind, and what goes wrong.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { Socket as Datagrams } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { Server, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sandboxTools } from '../../src/sandbox/availability.ts';
import { OUTER_ARGUMENTS } from '../../src/sandbox/bubblewrap.ts';
import { nodeDoorsCommand } from '../../src/sandbox/node-doors.ts';

const { bwrap, perl, ip, ...tools } = sandboxTools();
const sh = tools.sh ?? '/bin/sh';

let folder = '';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kz-doors-'));
  // An ordinary user starts them too.
  chmodSync(folder, 0o755);
  const source = fileURLToPath(new URL('../../src/stage/', import.meta.url));
  copyFileSync(join(source, 'doors.pl'), join(folder, 'doors.pl'));
  const outfile = join(folder, 'doors.cjs');
  await build({ entryPoints: [join(source, 'doors.ts')], outfile, bundle: true, platform: 'node', format: 'cjs', target: 'node18' });
  writeFileSync(join(folder, 'inside.cjs'), INSIDE);
  for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o644);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** The program in the sandbox: dials, asks the name server, and tells what it has. */
const INSIDE = `
const net = require('node:net');
const dial = (host, port) => new Promise((resolve) => {
  const socket = net.connect(port, host);
  let said = '';
  socket.setEncoding('utf8').on('data', (chunk) => (said += chunk)).on('end', () => resolve(said)).on('error', (error) => resolve(error.code));
});
const ask = (port) => new Promise((resolve) => {
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (datagram) => { socket.close(); resolve(String(datagram)); });
  socket.send('who?', port, '127.0.0.1');
});
const [anywhere, nearby, unlisted] = process.argv.slice(2);
(async () => {
  const said = [await dial('127.0.0.1', nearby), await dial('203.0.113.7', anywhere), await dial('127.0.0.1', unlisted)];
  const answer = await ask(53);
  process.stdout.write(JSON.stringify({ said, answer, environment: Object.keys(process.env).filter((name) => name.startsWith('NODE_')) }) + '\\n');
})();
`;

type User = readonly string[];

const ORDINARY: User = ['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups'];
const isRoot = process.getuid?.() === 0;

/** Why not here; undefined: it works. */
function problem(user: User): string | undefined {
  if (process.platform !== 'linux') return 'not on Linux';
  if (bwrap === undefined) return 'bubblewrap is not installed';
  const [program, ...args] = [...as(user), bwrap, ...OUTER_ARGUMENTS, '--', sh, '-c', ':'];
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0 ? undefined : 'a network namespace cannot be made';
}

type Opener = (how: 'any' | 'lo') => readonly string[];

const viaPerl: Opener = (how) => [perl ?? '', join(folder, 'doors.pl'), how];
const viaNode: Opener = (how) => nodeDoorsCommand({ sh, node: process.execPath, program: join(folder, 'doors.cjs'), ip, channel: 3 }, how);

const USERS: readonly (readonly [name: string, user: User])[] = isRoot
  ? [
      ['root', []],
      ['an ordinary user', ORDINARY],
    ]
  : [['this user', []]];

const CASES = USERS.flatMap(([who, user]) => {
  const why = problem(user);
  return [
    { what: 'doors.pl', opener: viaPerl, who, user, why: why ?? (perl === undefined ? 'there is no perl' : undefined) },
    { what: 'doors.ts', opener: viaNode, who, user, why: why ?? (ip === undefined ? 'there is no ip' : undefined) },
  ];
});

const ANYWHERE = 443;
const NEARBY = 3128;
const UNLISTED = 4444;
const DOORS = [`tcp:127.0.0.1:${String(NEARBY)}`, `tcp:0.0.0.0:${String(ANYWHERE)}`, 'udp:127.0.0.1:53', 'tcp:0.0.0.0:0'];

interface Started {
  readonly child: ChildProcess;
  readonly handles: Map<string, unknown>;
  readonly output: Promise<[stdout: string, stderr: string]>;
}

function start(words: readonly string[]): Started {
  const [program = '', ...args] = words;
  const child = spawn(program, args, { env: {}, stdio: ['pipe', 'pipe', 'pipe', 'ipc'] });
  const handles = new Map<string, unknown>();
  child.on('message', (message: { readonly door?: string }, handle: unknown) => {
    if (message.door !== undefined) handles.set(message.door, handle);
  });
  if (child.stdout === null || child.stderr === null) throw new Error('no pipes');
  return { child, handles, output: Promise.all([text(child.stdout), text(child.stderr)]) };
}

function nested(user: User, rest: readonly string[]): string[] {
  return [...as(user), bwrap ?? '', ...OUTER_ARGUMENTS, '--', ...rest];
}

/** By its path: there is no PATH. */
function as([program, ...args]: User): string[] {
  return program === undefined ? [] : [`/usr/bin/${program}`, ...args];
}

/** `socket:[4711]` of this process's own descriptors. */
function ownSockets(): Set<string> {
  return new Set(
    readdirSync('/proc/self/fd').flatMap((name) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${name}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
}

/** The inodes of what is open in this process's own network, listening or not. */
function inOwnNetwork(): string[] {
  return ['tcp', 'udp'].flatMap((kind) =>
    readFileSync(`/proc/self/net/${kind}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[9] ?? ''),
  );
}

describe.each(CASES)('$what, as $who', ({ opener, user, why }) => {
  const skipped = why === undefined ? '' : ` (skipped: ${why})`;

  it.skipIf(why !== undefined)(`gives kz what listens in there${skipped}`, async () => {
    const before = ownSockets();
    const ready = `[ -e /proc/$$/fd/3 ] && echo channel; head -c 5; echo; exec "$@"`;
    const inside = [process.execPath, join(folder, 'inside.cjs'), String(ANYWHERE), String(NEARBY), String(UNLISTED)];
    const { child, handles, output } = start(nested(user, [...opener('any'), ...DOORS, '--', sh, '-c', ready, 'sh', ...inside]));
    await once(child, 'disconnect');
    expect([...handles.keys()]).toEqual(DOORS);
    expect([...handles.values()].map((handle) => handle instanceof Server)).toEqual([true, true, false, true]);

    const sockets = [...ownSockets()].filter((inode) => !before.has(inode));
    expect(sockets.length).toBeGreaterThanOrEqual(DOORS.length);
    expect(inOwnNetwork().filter((inode) => sockets.includes(inode))).toEqual([]);

    for (const handle of handles.values()) {
      if (handle instanceof Server) {
        handle.on('connection', (socket: Socket) => socket.end(`${String(socket.localAddress)}:${String(socket.localPort)}`));
      } else if (handle instanceof Datagrams) {
        handle.on('message', (datagram, { port, address }) => {
          handle.send(`you, who ask ${String(datagram)}`, port, address);
        });
      }
    }
    expect((handles.get('tcp:0.0.0.0:0') as Server).address()).toMatchObject({
      port: expect.any(Number) as number,
    } satisfies Partial<AddressInfo>);
    child.stdin?.end('input');
    const [stdout, stderr] = await output;
    expect(stderr).toBe('');
    const [first, second = ''] = stdout.split('\n');
    // The program's input is whole, and the channel is not there.
    expect(first).toBe('input');
    expect(JSON.parse(second)).toEqual({
      said: [`127.0.0.1:${String(NEARBY)}`, `203.0.113.7:${String(ANYWHERE)}`, 'ECONNREFUSED'],
      answer: 'you, who ask who?',
      environment: [],
    });
    for (const handle of handles.values()) (handle as Server).close();
  });

  it.skipIf(why !== undefined)(`opens loopback only, when that is asked for${skipped}`, async () => {
    const dial = `require('node:net').connect(9, '203.0.113.7').on('error', (error) => process.stdout.write(error.code))`;
    const { output, handles } = start(nested(user, [...opener('lo'), 'tcp:127.0.0.1:3128', '--', process.execPath, '-e', dial]));
    expect(await output).toEqual(['ENETUNREACH', '']);
    (handles.get('tcp:127.0.0.1:3128') as Server).close();
  });

  it.skipIf(why !== undefined)(`becomes the program: its words, its status${skipped}`, async () => {
    const words = ['', 'a b', '--', '$HOME', '*'];
    const program = [sh, '-c', 'printf "<%s>" "$@"; exit 7', 'sh', ...words];
    const { child, output } = start(nested(user, [...opener('lo'), '--', ...program]));
    expect((await output)[0]).toBe(words.map((word) => `<${word}>`).join(''));
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode).toBe(7);
  });

  it.skipIf(why !== undefined)(`says in one line what cannot be opened${skipped}`, async () => {
    const twice = start(nested(user, [...opener('lo'), 'tcp:127.0.0.1:3128', 'tcp:127.0.0.1:3128', '--', sh, '-c', 'echo started']));
    expect(await ended(twice)).toEqual([
      1,
      '',
      expect.stringMatching(/^kz: cannot open the doors of the sandbox: tcp:127\.0\.0\.1:3128: [^\n]+\n$/),
    ]);
    const elsewhere = start(nested(user, [...opener('lo'), 'tcp:203.0.113.7:80', '--', sh, '-c', 'echo started']));
    expect(await ended(elsewhere)).toEqual([
      1,
      '',
      expect.stringMatching(/^kz: cannot open the doors of the sandbox: tcp:203\.0\.113\.7:80: [^\n]+\n$/),
    ]);
    // Without capabilities.
    const bare = [...as(user), bwrap ?? '', '--bind', '/', '/', '--dev-bind', '/dev', '/dev', '--unshare-user'];
    const noRoute = [
      ...bare,
      '--uid',
      '1000',
      '--unshare-net',
      '--cap-drop',
      'ALL',
      '--',
      ...opener('any'),
      'tcp:127.0.0.1:3128',
      '--',
      sh,
    ];
    expect(await ended(start(noRoute))).toEqual([
      1,
      '',
      expect.stringMatching(/^kz: cannot open the doors [^\n]* (?:route|mounts)[^\n]*\n$/),
    ]);
  });
});

async function ended({ child, output }: Started): Promise<[status: number | null, stdout: string, stderr: string]> {
  child.stdin?.end();
  const [stdout, stderr] = await output;
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return [child.exitCode, stdout, stderr];
}

describe.skipIf(process.platform === 'win32' || !existsSync(sh))('doors.ts', () => {
  const said = async (words: readonly string[]): Promise<string> => {
    const [status, stdout, stderr] = await ended(start(words));
    expect([status, stdout]).toEqual([1, '']);
    return stderr;
  };
  const node = process.execPath;
  const line = (what: string): string => `kz: cannot open the doors of the sandbox: ${what}\n`;

  it('needs an `ip` that is there to lead every address to kz', async () => {
    const program = join(folder, 'doors.cjs');
    const tools = { sh, node, program, channel: 3 };
    const words = ['tcp:127.0.0.1:0', '--', sh, '-c', 'echo started'];
    expect(await said([...nodeDoorsCommand({ ...tools, ip: '/nowhere/ip' }, 'any'), ...words])).toBe(line('route: /nowhere/ip: ENOENT'));
    expect(await said([...nodeDoorsCommand({ ...tools, ip: undefined }, 'any'), ...words])).toBe(
      line('route: without perl it takes `ip`, which is not installed'),
    );
  });

  it('knows what a door is', async () => {
    expect(await said([...viaNode('lo'), 'tcp:somewhere:80', '--', sh, '-c', 'echo started'])).toBe(line('tcp:somewhere:80 is no door'));
  });

  it('ends when kz does, and without kz', async () => {
    const early = start([node, join(folder, 'doors.cjs'), 'lo', 'tcp:127.0.0.1:0', '--']);
    early.child.disconnect();
    expect(await ended(early)).toEqual([1, '', line('kz is gone')]);
    const alone = spawnSync(node, [join(folder, 'doors.cjs'), 'lo', 'tcp:127.0.0.1:0', '--'], { env: {}, encoding: 'utf8' });
    expect([alone.status, alone.stderr]).toEqual([1, line('there is no channel to kz')]);
  });
});
