// The filter is run by an interpreter written from the kernel's definition of classic BPF, and compared with what the rules say in plain code; then
// loaded by bubblewrap, where that works, and asked by real programs.
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { seccompFilter } from '../../src/sandbox/seccomp.ts';
import { ARCHES, BY_ARGUMENT, EAFNOSUPPORT, ENOSYS, EPERM, EPROTONOSUPPORT, REFUSED, type Arch } from '../fixtures/sandbox/system-calls.ts';

const AUDIT = { x64: 0xc000003e, arm64: 0xc00000b7 };
const FOREIGN = {
  i386: 0x40000003,
  arm: 0x40000028,
  ppc64le: 0xc0000015,
  s390x: 0x80000016,
  riscv64: 0xc00000f3,
  none: 0,
  all: 0xffffffff,
};

const LAST_KNOWN = 471;
const X32 = 0x40000000;

const NAMESPACES = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000];

interface Call {
  readonly nr: number;
  readonly args?: readonly bigint[];
  readonly audit?: number;
}

interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

function filterOf(arch: Arch): Buffer {
  const filter = seccompFilter(arch);
  if (filter === undefined) throw new Error(`no filter for ${arch}`);
  return filter;
}

/** `struct sock_filter`: u16 code, u8 jt, u8 jf, u32 k. */
function decode(filter: Buffer): Instruction[] {
  return Array.from({ length: filter.length / 8 }, (_, at) => ({
    code: filter.readUInt16LE(at * 8),
    jt: filter.readUInt8(at * 8 + 2),
    jf: filter.readUInt8(at * 8 + 3),
    k: filter.readUInt32LE(at * 8 + 4),
  }));
}

/** What the kernel would answer: 0 lets the call through, else the errno. `struct seccomp_data`: nr, arch, instruction pointer, six arguments. */
function answer(filter: readonly Instruction[], { nr, args = [], audit = AUDIT.x64 }: Call): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(nr >>> 0, 0);
  data.writeUInt32LE(audit >>> 0, 4);
  data.writeBigUInt64LE(0x00007f005a5a5a5an, 8);
  args.forEach((value, index) => data.writeBigUInt64LE(BigInt.asUintN(64, value), 16 + index * 8));
  const result = interpret(filter, data);
  if (result === 0x7fff0000) return 0;
  if (result >>> 16 !== 0x0005) throw new Error(`neither allowed nor an errno: ${result.toString(16)}`);
  return result & 0xffff;
}

/** As Documentation/networking/filter.rst of the kernel has it, as far as this filter uses it. */
function interpret(filter: readonly Instruction[], data: Buffer): number {
  let accumulator = 0;
  for (let at = 0; ; at += 1) {
    const instruction = filter[at];
    if (instruction === undefined) throw new Error('ran past the end');
    const { code, jt, jf, k } = instruction;
    if (code === 0x06) return k;
    if (code === 0x20) accumulator = data.readUInt32LE(k);
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else at += holds(code, accumulator, k) ? jt : jf;
  }
}

function holds(code: number, accumulator: number, k: number): boolean {
  if (code === 0x15) return accumulator === k;
  if (code === 0x25) return accumulator > k;
  if (code === 0x35) return accumulator >= k;
  if (code === 0x45) return (accumulator & k) !== 0;
  throw new Error(`not an instruction: ${code.toString(16)}`);
}

function socketAnswer(family: number, type: number, protocol: number): number {
  const kind = type & 0xf;
  if (![1, 2, 10, 16].includes(family)) return EAFNOSUPPORT;
  const types = family === 1 ? [1, 2, 5] : family === 16 ? [2, 3] : [1, 2];
  if (!types.includes(kind)) return EPERM;
  const protocols = family === 1 ? [0, 1] : family === 16 ? [0, 15] : [0, 6, 17];
  return protocols.includes(protocol) ? 0 : EPROTONOSUPPORT;
}

/** Nothing, one bit, all bits, and a pointer-like value, in the half that the kernel drops. */
const UPPER = [0n, 1n << 32n, 0xffffffffn << 32n, 0x00007ffen << 32n];

it('knows two machines', () => {
  for (const arch of ['ia32', 'arm', 'riscv64', 's390x', '', '__proto__']) expect(seccompFilter(arch)).toBeUndefined();
});

describe.each(ARCHES)('the filter for %s', (arch) => {
  const bytes = filterOf(arch);
  const filter = decode(bytes);
  const ask = (nr: number, ...args: readonly bigint[]): number => answer(filter, { nr, args, audit: AUDIT[arch] });
  const { socket, socketpair, ioctl, clone } = BY_ARGUMENT[arch];

  it('is a program that the kernel loads: jumps stay inside, every path returns, every instruction is reached', () => {
    expect(bytes.length % 8).toBe(0);
    expect(filter.length).toBeLessThanOrEqual(4096);
    const reached = new Set([0]);
    for (const [at, { code, jt, jf, k }] of filter.entries()) {
      if (!reached.has(at)) expect.fail(`instruction ${String(at)} is never reached`);
      if (code === 0x20) expect(k % 4 === 0 && k < 64).toBe(true);
      if (code === 0x06)
        expect([0x7fff0000, ...[EPERM, ENOSYS, EPROTONOSUPPORT, EAFNOSUPPORT].map((errno) => 0x50000 + errno)]).toContain(k);
      else for (const next of code % 8 === 5 ? [at + 1 + jt, at + 1 + jf] : [at + 1]) reached.add(next);
    }
    expect(Math.max(...reached)).toBe(filter.length - 1);
    expect(filter.at(-1)?.code).toBe(0x06);
  });

  it('refuses exactly these calls, whatever their arguments, and no other', () => {
    const column = arch === 'x64' ? 1 : 2;
    const expected = new Map(Object.values(REFUSED).map((row) => [row[column], row[0]]));
    for (const fill of [0n, 1n, 0xffffffffffffffffn]) {
      for (let nr = 0; nr <= LAST_KNOWN; nr += 1) {
        if (Object.values(BY_ARGUMENT[arch]).includes(nr)) continue;
        expect([nr, ask(nr, fill, fill, fill, fill, fill, fill)]).toEqual([nr, expected.get(nr) ?? 0]);
      }
    }
  });

  it('says of calls it has never heard of that there are none, x32 among them', () => {
    for (let nr = LAST_KNOWN + 1; nr < 1200; nr += 1) expect(ask(nr)).toBe(ENOSYS);
    for (let nr = 0; nr < 600; nr += 1) expect(ask(X32 + nr)).toBe(ENOSYS);
    for (const nr of [X32 - 1, 0x7fffffff, 0x80000000, 0xfffffffe]) expect(ask(nr)).toBe(ENOSYS);
  });

  it('lets a tracer skip a call', () => {
    expect(ask(-1)).toBe(0);
  });

  it('refuses every call of another machine', () => {
    const others = { ...FOREIGN, other: arch === 'x64' ? AUDIT.arm64 : AUDIT.x64 };
    for (const audit of [...Object.values(others), AUDIT[arch] - 0x80000000, AUDIT[arch] - 0x40000000]) {
      for (let nr = 0; nr <= LAST_KNOWN; nr += 1) expect(answer(filter, { nr, audit })).toBe(ENOSYS);
      expect(answer(filter, { nr: -1, audit })).toBe(ENOSYS);
    }
  });

  it('makes sockets of four families only, not raw, and of few protocols', () => {
    for (const nr of [socket, socketpair]) {
      for (let family = 0; family < 64; family += 1) {
        for (let type = 0; type < 16; type += 1) {
          for (const flags of [0, 0x10, 0x800, 0x80000, 0x80800]) {
            for (const protocol of [0, 1, 2, 4, 6, 9, 12, 15, 16, 17, 21, 58, 115, 132, 136, 255, 256, 262, 0xffffffff]) {
              const got = ask(nr, BigInt(family), BigInt(type | flags), BigInt(protocol));
              if (got !== socketAnswer(family, type, protocol)) expect.fail(JSON.stringify({ nr, family, type, flags, protocol, got }));
            }
          }
        }
      }
    }
  });

  it('does not mind the upper half of a socket’s arguments', () => {
    for (const upper of UPPER) {
      expect(ask(socket, upper + 40n, upper + 1n, upper)).toBe(EAFNOSUPPORT);
      expect(ask(socket, upper + 2n, upper + 3n, upper)).toBe(EPERM);
      expect(ask(socket, upper + 16n, upper + 3n, upper + 9n)).toBe(EPROTONOSUPPORT);
      expect(ask(socket, upper + 2n, upper + 0x80801n, upper + 6n)).toBe(0);
    }
    for (const family of [0xffffffffn, 0x10001n, 0x80000001n, 0x100n]) expect(ask(socket, family, 1n, 0n)).toBe(EAFNOSUPPORT);
  });

  it('does not type into a terminal, also not with a bit set in the upper half', () => {
    for (let command = 0x5400; command < 0x5480; command += 1) {
      const expected = [0x5412, 0x541c, 0x5423].includes(command) ? EPERM : 0;
      for (const upper of UPPER) expect(ask(ioctl, upper, upper + BigInt(command), 0x5412n)).toBe(expected);
    }
    for (const command of [0n, 0x15412n, 0x80005412n, 0xffffffffn]) expect(ask(ioctl, 0n, command, 0n)).toBe(0);
  });

  it('starts processes and threads, and no namespace', () => {
    const SIGCHLD = 17;
    const ordinary = {
      fork: 0x01200000 | SIGCHLD,
      vfork: 0x4100 | SIGCHLD,
      thread: 0x003d0f00,
      go: 0x00050f00,
      pidfd: 0x1000 | 0x4100 | SIGCHLD,
      none: 0,
      all: 0xffffffff - NAMESPACES.reduce((sum, flag) => sum + flag, 0),
    };
    for (const flags of Object.values(ordinary)) {
      for (let subset = 0; subset < 1 << NAMESPACES.length; subset += 1) {
        const wanted = NAMESPACES.filter((_, bit) => (subset >> bit) & 1).reduce((sum, flag) => sum + flag, 0);
        for (const upper of UPPER) expect(ask(clone, upper + BigInt((flags | wanted) >>> 0))).toBe(subset === 0 ? 0 : EPERM);
      }
    }
    for (let bit = 0; bit < 32; bit += 1) expect(ask(clone, 1n << BigInt(bit))).toBe(NAMESPACES.includes(2 ** bit) ? EPERM : 0);
  });
});

const HEADERS: Record<Arch, readonly string[]> = {
  x64: ['/usr/include/x86_64-linux-gnu/asm/unistd_64.h', '/usr/include/asm/unistd_64.h'],
  arm64: ['/usr/include/asm-generic/unistd.h'],
};

describe.each(ARCHES)('the call numbers of %s', (arch) => {
  const header = HEADERS[arch].find((path) => existsSync(path)) ?? '';

  it.skipIf(header === '')('are those of the kernel’s headers (needs linux-libc-dev)', () => {
    const defined = [...readFileSync(header, 'utf8').matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)$/gm)];
    const known = new Map(defined.reverse().map(([, name, number]) => [name ?? '', Number(number)]));
    const rows = Object.entries(REFUSED).map(([name, [, x64, arm64]]) => [name, arch === 'x64' ? x64 : arm64] as const);
    for (const [name, number] of [...rows, ...Object.entries(BY_ARGUMENT[arch])]) {
      // What is newer than the headers cannot be looked up.
      if (known.has(name) || number === undefined) expect([name, known.get(name)]).toEqual([name, number]);
      else expect(number).toBeGreaterThan(423);
    }
  });
});

const FIXTURES = fileURLToPath(new URL('../fixtures/sandbox/', import.meta.url));
const BOX = ['--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc'];
const APART = ['--unshare-user', '--unshare-pid', '--unshare-net', '--unshare-ipc', '--cap-drop', 'ALL'];

const works = (program: string, ...args: string[]): boolean => spawnSync(program, args, { stdio: 'ignore' }).status === 0;
const here = ARCHES.find((arch) => process.platform === 'linux' && process.arch === arch);
const box = here !== undefined && works('bwrap', ...BOX, ...APART, 'true');
const python = box && works('python3', '-c', 'import ctypes');

/** A program under the filter, or in the same box without it. */
function inBox(command: readonly string[], filtered = true): { status: number | null; out: string } {
  const folder = mkdtempSync(join(tmpdir(), 'kz-seccomp-'));
  const path = join(folder, 'filter');
  writeFileSync(path, filterOf(here ?? 'x64'), { mode: 0o600 });
  const fd = openSync(path, 'r');
  try {
    const filter = filtered ? ['--seccomp', '3'] : [];
    const done = spawnSync('bwrap', [...BOX, ...APART, ...filter, ...command], { stdio: ['ignore', 'pipe', 'pipe', fd], encoding: 'utf8' });
    return { status: done.status, out: done.stdout + done.stderr };
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}

function answersOf(calls: readonly (readonly number[])[], filtered = true): unknown {
  const answers: unknown = JSON.parse(inBox(['python3', join(FIXTURES, 'system-calls.py'), JSON.stringify(calls)], filtered).out);
  return answers;
}

describe('loaded by bubblewrap', () => {
  it.skipIf(!box)('holds for the program and for process 1 of its namespace (needs bubblewrap)', () => {
    const { out } = inBox(['grep', '-h', '^Seccomp:', '/proc/1/status', '/proc/self/status']);
    expect(out).toBe('Seccomp:\t2\nSeccomp:\t2\n');
  });

  it.skipIf(!python)('refuses (needs bubblewrap and python3)', () => {
    const rows = Object.entries(REFUSED).map(([name, [errno, x64, arm64]]) => ({ name, errno, nr: here === 'x64' ? x64 : arm64 }));
    const known = rows.filter((row) => row.nr !== undefined);
    const answers = answersOf(known.map(({ nr }) => [nr ?? -1]));
    expect(answers).toEqual(known.map(({ errno }) => errno));
  });

  it.skipIf(!python)('looks at arguments as the kernel does (needs bubblewrap and python3)', () => {
    const { socket, socketpair, ioctl, clone } = BY_ARGUMENT[here ?? 'x64'];
    const high = 2 ** 32;
    const calls: [expected: number, unfiltered: number | undefined, ...call: number[]][] = [
      [EAFNOSUPPORT, undefined, socket, 40, 1, 0],
      [EAFNOSUPPORT, undefined, socket, 38, 5, 0],
      [EAFNOSUPPORT, undefined, socketpair, 30, 1, 0],
      [EPERM, undefined, socket, 2, 3, 255],
      [EPERM, undefined, socket, 2, 10, 768],
      [EPROTONOSUPPORT, 0, socket, 16, 3, 16],
      [EPROTONOSUPPORT, 0, socket, high + 16, high + 3, high + 16],
      [0, 0, socket, 16, 0x80003, 0],
      [0, 0, socket, high + 2, 0x80801, 6],
      [EPERM, 25, ioctl, 0, 0x5412, 0],
      [EPERM, 25, ioctl, 0, high + 0x5412, 0],
      [EPERM, 25, ioctl, 0, 0x1ffff * high + 0x541c, 0],
      [25, 25, ioctl, 0, 0x5401, 0],
      [EPERM, undefined, clone, 0x10000011],
      [EPERM, undefined, clone, high + 0x10000011],
      [0, 0, clone, 17],
      [ENOSYS, 22, 435, 0, 0],
      [ENOSYS, undefined, 514, 0, 0x5412],
      [ENOSYS, undefined, X32 + 39],
    ];
    const asked = calls.map(([, , ...call]) => call);
    expect(answersOf(asked)).toEqual(calls.map(([expected]) => expected));
    // Without the filter the kernel answers otherwise: it is the filter that was heard above.
    const bare = answersOf(asked, false);
    expect(bare).toEqual(calls.map(([, unfiltered]): unknown => unfiltered ?? expect.any(Number)));
  });

  it.skipIf(!python || here !== 'x64')('refuses the i386 way into the kernel (needs bubblewrap, python3 and x64)', () => {
    expect(inBox(['python3', join(FIXTURES, 'int80.py')]).out.trim()).toBe(String(-ENOSYS));
  });

  it.skipIf(!python)('leaves alone what ordinary programs do (needs bubblewrap and python3)', () => {
    const command = ['python3', join(FIXTURES, 'ordinary.py')];
    const { out } = inBox(command);
    expect(out).toBe(inBox(command, false).out);
    for (const name of ['fork', 'threads', 'AF_UNIX', 'AF_INET', 'interfaces over netlink']) expect(out).toContain(`${name} ok\n`);
  });

  const PROGRAMS: Record<string, readonly string[]> = {
    node: [process.execPath, join(FIXTURES, 'ordinary.cjs')],
    npm: ['npm', '--version'],
    git: ['git', '--version'],
    perl: ['perl', '-MSocket', '-e', 'socket(my $s, AF_INET, SOCK_STREAM, 0) or die; fork // die; wait'],
    go: ['go', 'env', 'GOOS'],
    java: ['java', '-version'],
    strace: ['strace', '-f', '-o', '/dev/null', 'sh', '-c', 'true; true'],
    gdb: ['gdb', '-nx', '-batch', '-return-child-result', '-ex', 'run', '/bin/true'],
  };

  for (const [name, command] of Object.entries(PROGRAMS)) {
    it.skipIf(!box || !works('sh', '-c', 'command -v "$0"', command[0] ?? ''))(
      `runs ${name} (needs bubblewrap and ${name})`,
      ({ skip }) => {
        const { status, out } = inBox(command);
        if (status !== 0) skip(inBox(command, false).status !== 0, `${name} does not run in the box without the filter either`);
        expect({ status, out: status === 0 ? '' : out }).toEqual({ status: 0, out: '' });
        if (name === 'node') expect(out).toBe('hello 0\n');
      },
    );
  }
});
