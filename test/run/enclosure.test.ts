// A sandboxed program as the real bubblewrap makes it, without the rest of a run: in both shapes, with perl and without.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { build } from 'esbuild';
import { copyFileSync, existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ChildEnd } from '../../src/run/child-tree.ts';
import { Enclosure, reachOf, type Beginning, type Door, type EnclosureOptions, type EnclosureTools } from '../../src/run/enclosure.ts';
import { Signals } from '../../src/run/signals.ts';
import { bubblewrapFeatures, sandboxTools, type BubblewrapFeatures } from '../../src/sandbox/availability.ts';
import { innerArguments } from '../../src/sandbox/bubblewrap.ts';
import { expectedMounts } from '../../src/sandbox/mount-roots.ts';
import { seccompFilter } from '../../src/sandbox/seccomp.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from '../stories/isolation.ts';
import { isRunning, waitFor } from '../stories/processes.ts';

const STAGE = fileURLToPath(new URL('../../src/stage/', import.meta.url));
const PROXY: Door = 'tcp:127.0.0.1:3128';
const NAMES: Door = 'udp:127.0.0.1:53';
const SHAPES = ['nested', 'single'] as const;

const found = sandboxTools();
const SECCOMP = seccompFilter(process.arch);
const MISSING = NO_ISOLATION ?? (found.perl === undefined ? 'no perl' : undefined);

let folder: string;
let features: BubblewrapFeatures;
let open: Enclosure[] = [];
let signals: Signals;

beforeAll(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'kz-enclosure-')));
  for (const name of ['doors.pl', 'start.pl']) copyFileSync(join(STAGE, name), join(folder, name));
  await build({
    entryPoints: [join(STAGE, 'doors.ts')],
    outfile: join(folder, 'doors.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
  });
  writeFileSync(join(folder, 'empty'), '');
  if (found.bwrap !== undefined) features = await bubblewrapFeatures(found.bwrap, new AbortController().signal);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

afterEach(() => {
  for (const enclosure of open) enclosure.close();
  open = [];
});

interface Wanted {
  readonly shape: EnclosureOptions['shape'];
  readonly tools?: Partial<EnclosureTools>;
  readonly doors?: readonly Door[];
  readonly startMs?: number | undefined;
}

function tools(changed: Partial<EnclosureTools> = {}): EnclosureTools {
  const { sh, bwrap, perl, ip } = found;
  if (sh === undefined || bwrap === undefined) throw new Error('this needs bubblewrap');
  return { sh, bwrap, perl, ip, ...changed };
}

function enclose(command: EnclosureOptions['command'], { shape, tools: changed, doors = [PROXY], startMs }: Wanted): Enclosure {
  if (SECCOMP === undefined) throw new Error('this needs a filter');
  const options = { tools: tools(changed), stage: folder, command, doors, seccomp: SECCOMP, output: undefined, shape, startMs };
  const enclosure = Enclosure.open(options);
  open.push(enclosure);
  return enclosure;
}

/** The folder of the test is the only one that can be written to. */
function innerWords(shape: EnclosureOptions['shape'], environment: Record<string, string> = {}): string[] {
  const confinement = {
    ...{ directory: folder, temporary: [], emptied: [], guarded: [], hidden: [], readable: [], replaced: [], temporaryBytes: 1_000_000 },
    writable: [folder],
  };
  return innerArguments(confinement, {
    ...{ features, emptyFile: join(folder, 'empty'), replacements: new Map<string, string>(), alone: shape === 'single' },
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    environment: { ...ENVIRONMENT, ...environment },
  });
}

const ENVIRONMENT = { PATH: process.env.PATH ?? '' };

async function run(enclosure: Enclosure, words: readonly string[], more: Partial<Beginning> = {}): Promise<ChildEnd> {
  signals = new Signals();
  try {
    enclosure.build(words);
    return await enclosure.run({ mounts: [], environment: ENVIRONMENT, ...more }, { graceMs: 500, signals });
  } finally {
    signals.close();
  }
}

/** Answers each connection with what it is told. */
function answering(text: string): (server: unknown) => void {
  return (server) => {
    if (!(server instanceof Server)) throw new Error('this is no door');
    server.on('connection', (socket: Socket) => socket.on('error', () => undefined).end(text));
  };
}

/** Writes what it gets from each address to the file `seen`: bash knows no proxy. */
function dial(...addresses: readonly string[]): EnclosureOptions['command'] {
  const program = `const net = require('net'), fs = require('fs');
    const dial = (address) => new Promise((resolve) => { const [host, port] = address.split(' '); let text = '';
      net.connect({ host, port: Number(port) }).on('data', (chunk) => (text += chunk)).on('end', () => resolve(text)).on('error', (error) => resolve(error.code)) });
    Promise.all(process.argv.slice(1).map(dial)).then((seen) => { fs.writeFileSync('seen', JSON.stringify(seen)); process.exit(3) })`;
  return [process.execPath, '-e', program, ...addresses];
}

function seen(): unknown {
  return JSON.parse(execFileSync('cat', [join(folder, 'seen')], { encoding: 'utf8' }));
}

const WAYS = [
  ['with perl', {}],
  ['without perl', { perl: undefined }],
] as const;

describe.skipIf(MISSING !== undefined)(`an enclosure${MISSING === undefined ? '' : ISOLATION_NOTE || ` (skipped: ${MISSING})`}`, () => {
  describe.each(SHAPES)('%s', (shape) => {
    it.each(WAYS)('%s gives kz its doors, and the program comes by them and by nothing else', async (_, changed) => {
      const elsewhere = new Server().listen(0, '127.0.0.1');
      await once(elsewhere, 'listening');
      const address = elsewhere.address();
      const port = typeof address === 'object' ? String(address?.port) : '';
      try {
        const enclosure = enclose(dial('127.0.0.1 3128', `127.0.0.1 ${port}`), { shape, tools: changed });
        let isOpen = false;
        const doors = enclosure.doors.then((each) => {
          isOpen = true;
          return each;
        });
        // A single one has no namespaces before it is told of everything.
        if (shape === 'nested') await doors;
        else expect(isOpen).toBe(false);
        const end = run(enclosure, innerWords(shape));
        answering('the proxy')((await doors).get(PROXY));
        expect(await end).toEqual({ code: 3 });
        expect(seen()).toEqual(['the proxy', 'ECONNREFUSED']);
        await expect(reach(3128)).resolves.toBe('ECONNREFUSED');
      } finally {
        elsewhere.close();
      }
    });

    it.each(WAYS)('%s ends as the program does', async (_, changed) => {
      for (const [script, end] of [
        ['exit 0', { code: 0 }],
        ['exit 7', { code: 7 }],
        ['kill -KILL $$', { code: 137 }],
      ] as const) {
        const enclosure = enclose(['/bin/sh', '-c', script], { shape, tools: changed });
        expect(await run(enclosure, innerWords(shape))).toEqual(end);
      }
    });

    it.each(WAYS)('%s leaves the program nothing open, and the environment that it is given', async (_, changed) => {
      const script = 'ls /proc/self/fd > fds; env | sort > environment; cat /proc/self/status > status';
      const enclosure = enclose(['/bin/sh', '-c', script], { shape, tools: changed });
      const odd = { ODD: 'a\nb', EMPTY: '' };
      expect(await run(enclosure, innerWords(shape, odd), { environment: { ...ENVIRONMENT, ...odd } })).toEqual({ code: 0 });
      const read = (name: string): string => execFileSync('cat', [join(folder, name)], { encoding: 'utf8' });
      // The last one is the folder that ls itself reads; what a shell cannot close is what started the tests' to close.
      const fds = read('fds').trim().split('\n').map(Number);
      expect(fds.filter((each) => changed === WAYS[0][1] || each < 10).sort()).toEqual([0, 1, 2, 3]);
      expect(read('environment')).toContain('ODD=a\n');
      expect(read('environment')).not.toMatch(/NODE_CHANNEL|KZ_/);
      expect(read('status')).toMatch(/^CapEff:\s+0{16}$/m);
      expect(read('status')).toMatch(/^CapBnd:\s+0{16}$/m);
      expect(read('status')).toMatch(/^Seccomp:\s+2$/m);
      expect(read('status')).toMatch(/^NoNewPrivs:\s+1$/m);
    });

    it('that cannot be built is told by what bubblewrap says, and the program is not started', async () => {
      const enclosure = enclose(['/bin/sh', '-c', ': > started'], { shape });
      const words = [...innerWords(shape), '--bind', '/nowhere', '/nowhere'];
      await expect(run(enclosure, words)).rejects.toMatchObject({
        code: 'sandbox-failed',
        message: expect.stringMatching(/^the sandbox could not be built: bwrap: .*\/nowhere/) as string,
      });
      expect(existsSync(join(folder, 'started'))).toBe(false);
    });

    it('that is closed leaves no process, whatever it waits for', async () => {
      const enclosure = enclose(['sleep', '86400'], { shape });
      if (shape === 'nested') await enclosure.doors;
      await waitFor('the sandbox', () => isRunning(folder));
      enclosure.close();
      await waitFor('its end', () => !isRunning(folder));
    });
  });

  describe.each(SHAPES)('%s, whose program is told what should be mounted where,', (shape) => {
    it('starts it when that is so', async () => {
      const mounts = expectedMounts([{ path: folder, source: folder }]);
      expect(mounts).toHaveLength(1);
      expect(await run(enclose(['true'], { shape }), innerWords(shape), { mounts })).toEqual({ code: 0 });
    });

    it.each([
      ['something else is there', () => ({ path: folder, root: '/elsewhere' })],
      ['nothing is there', () => ({ path: '/etc', root: '/etc' })],
    ])('does not when %s', async (_, mount) => {
      const enclosure = enclose(['/bin/sh', '-c', ': > started'], { shape });
      await expect(run(enclosure, innerWords(shape), { mounts: [mount()] })).rejects.toMatchObject({
        code: 'sandbox-failed',
        message: expect.stringContaining('was exchanged while the sandbox was built') as string,
      });
      expect(existsSync(join(folder, 'started'))).toBe(false);
    });
  });

  it('takes a program with more arguments than bubblewrap does', async () => {
    const words = Array.from({ length: 20_000 }, (_, index) => String(index));
    const enclosure = enclose(['/bin/sh', '-c', 'exit $(($# == 20000 ? 5 : 6))', 'sh', ...words], { shape: 'nested' });
    expect(await run(enclosure, innerWords('nested'))).toEqual({ code: 5 });
  });

  it('does not start a program of which half is known', async () => {
    const enclosure = enclose(['/bin/sh', '-c', ': > started'], { shape: 'nested' });
    await enclosure.doors;
    enclosure.close();
    await waitFor('its end', () => !isRunning(folder));
    expect(existsSync(join(folder, 'started'))).toBe(false);
  });

  it('nested leads every address to its doors, and questions for names', async () => {
    const direct: Door = 'tcp:0.0.0.0:443';
    const enclosure = enclose(dial('203.0.113.7 443', '10.0.0.1 443', '203.0.113.7 22'), {
      shape: 'nested',
      doors: [PROXY, direct, NAMES],
    });
    const doors = await enclosure.doors;
    expect([...doors.keys()]).toEqual([PROXY, direct, NAMES]);
    const dialled: (string | undefined)[] = [];
    const server = doors.get(direct);
    if (!(server instanceof Server)) throw new Error('this is no door');
    server.on('connection', (socket: Socket) => dialled.push(socket.localAddress));
    answering('direct')(server);
    expect(await run(enclosure, innerWords('nested'))).toEqual({ code: 3 });
    expect(seen()).toEqual(['direct', 'direct', 'ECONNREFUSED']);
    expect(dialled.sort()).toEqual(['10.0.0.1', '203.0.113.7']);
  });

  it.each(SHAPES)('%s leads no other address anywhere, with neither perl nor ip', async (shape) => {
    const enclosure = enclose(dial('127.0.0.1 3128', '203.0.113.7 3128'), { shape, tools: { perl: undefined, ip: undefined } });
    void enclosure.doors.then((doors) => {
      answering('the proxy')(doors.get(PROXY));
    });
    if (shape === 'nested') await enclosure.doors;
    expect(await run(enclosure, innerWords(shape))).toEqual({ code: 3 });
    expect(seen()).toEqual(['the proxy', 'ENETUNREACH']);
  });

  it('that is sent TERM while kz has not heard yet that the program runs ends by TERM', async () => {
    const [sh, go, began] = ['sh', 'go', 'began'].map((name) => join(folder, name)) as [string, string, string];
    writeFileSync(sh, `#!/bin/sh\nuntil [ -e ${go} ]; do sleep 0.01; done; echo started >&2; : > ${began}; exec sleep 86400\n`, {
      mode: 0o755,
    });
    const ending = run(enclose(['true'], { shape: 'nested', tools: { sh } }), []);
    // Nothing is heard while this waits.
    execFileSync('sh', ['-c', `: > ${go}; until [ -e ${began} ]; do sleep 0.01; done`], { timeout: 20_000 });
    process.emit('SIGTERM', 'SIGTERM');
    expect(await ending).toEqual({ signal: 'SIGTERM' });
  });

  it('that has started while kz could not hear it is not late', async () => {
    const [sh, go, began, done] = ['sh', 'go', 'began', 'done'].map((name) => join(folder, name)) as [string, string, string, string];
    const until = (path: string): string => `until [ -e ${path} ]; do sleep 0.01; done`;
    writeFileSync(sh, `#!/bin/sh\n${until(go)}; echo started >&2; : > ${began}; ${until(done)}; exit 7\n`, { mode: 0o755 });
    const ending = run(enclose(['true'], { shape: 'nested', tools: { sh }, startMs: 1 }), []);
    // As when a machine is put to sleep: kz finds the time over, and what was said meanwhile.
    execFileSync('sh', ['-c', `: > ${go}; ${until(began)}`], { timeout: 20_000 });
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    writeFileSync(done, '');
    expect(await ending).toEqual({ code: 7 });
  });

  it('whose tool is not there says so', () => {
    expect(() => enclose(['true'], { shape: 'nested', tools: { sh: join(folder, 'no-shell') } })).toThrow(
      expect.objectContaining({ code: 'start-failed' }) as Error,
    );
  });

  it('that ends before its doors are open says why, to whoever waits for them', async () => {
    const enclosure = enclose(['true'], { shape: 'nested', tools: { perl: join(folder, 'no-perl') } });
    await expect(enclosure.doors).rejects.toMatchObject({
      code: 'sandbox-failed',
      message: expect.stringContaining('no-perl') as string,
    });
    await expect(run(enclosure, innerWords('nested'))).rejects.toMatchObject({ code: 'sandbox-failed' });
  });
});

describe('the reach of the doors', () => {
  it.each([
    ['nested', '/usr/bin/perl', undefined, 'any'],
    ['nested', undefined, '/sbin/ip', 'any'],
    ['nested', undefined, undefined, 'lo'],
    ['single', '/usr/bin/perl', '/sbin/ip', 'lo'],
  ] as const)('%s, with perl %s and ip %s, is %s', (shape, perl, ip, reach) => {
    expect(reachOf(shape, { perl, ip })).toBe(reach);
  });
});

/** What this machine's own loopback says. */
function reach(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code ?? 'error');
    });
  });
}
