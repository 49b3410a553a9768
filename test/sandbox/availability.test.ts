import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bubblewrapFeatures, machineFacts, probeSandbox, sandboxTools, type ProbeOptions } from '../../src/sandbox/availability.ts';
import type { MachineFacts } from '../../src/sandbox/refusal.ts';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-availability-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const never = new AbortController().signal;

function program(name: string, text: string, mode = 0o755): string {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, mode);
  return path;
}

const HELP = '--args --cap-add --cap-drop --die-with-parent --json-status-fd --remount-ro --seccomp --unshare-user'
  .split(' ')
  .map((option) => `    ${option} X   some words about --nothing`)
  .join('\n');

interface Fake {
  readonly help?: string;
  /** What it prints for two layers and for one; undefined: it works. */
  readonly nest?: string;
  readonly single?: string;
}

/** In the place of bubblewrap: refuses with the words of the real one. */
function fake({ help = HELP, nest, single = nest }: Fake): string {
  const refuse = (text?: string): string => (text === undefined ? 'exit 0' : `printf '%s\\n' "bwrap: ${text}" >&2; exit 1`);
  return program(
    'bwrap',
    `case "$*" in --help) printf '%s\\n' '${help}';; --version) echo bubblewrap 0.9.1;; *--cap-add*) ${refuse(nest)};; *) ${refuse(single)};; esac`,
  );
}

const LINUX: MachineFacts = {
  uid: 1000,
  isContainer: false,
  kernel: 'Linux version 6.8.0',
  sysctl: () => undefined,
  exists: () => false,
  owner: () => 0,
};

function probe(bwrap: string | undefined, facts: Partial<MachineFacts> = {}, more: ProbeOptions = {}) {
  const tools = { platform: 'linux', bwrap, sh: '/bin/sh', perl: '/usr/bin/perl', ip: undefined, sandboxExec: undefined } as const;
  return probeSandbox(tools, { arch: 'x64', facts: { ...LINUX, ...facts }, ...more }, never);
}

describe('the tools', () => {
  it('are looked for in the folders of the system, never on PATH', () => {
    program('bin/bwrap', '');
    const { PATH: before } = process.env;
    process.env.PATH = `${join(folder, 'bin')}:${before ?? ''}`;
    try {
      expect(JSON.stringify(sandboxTools())).not.toContain(folder);
    } finally {
      process.env.PATH = before;
    }
  });

  it('are those of the platform', () => {
    for (const name of ['bwrap', 'sandbox-exec', 'perl', 'sh', 'ip']) program(name, '');
    const at = (name: string): string => join(folder, name);
    const both = { perl: at('perl'), sh: at('sh') };
    expect(sandboxTools('linux', [folder])).toEqual({
      ...both,
      platform: 'linux',
      bwrap: at('bwrap'),
      ip: at('ip'),
      sandboxExec: undefined,
    });
    expect(sandboxTools('darwin', [folder])).toMatchObject({ ...both, sandboxExec: at('sandbox-exec'), bwrap: undefined, ip: undefined });
  });

  it('that others may write are passed over, behind a link too', () => {
    program('one/bwrap', '', 0o775);
    program('two/real', '', 0o757);
    symlinkSync('real', join(folder, 'two/bwrap'));
    program('three/bwrap', '');
    chmodSync(join(folder, 'three'), 0o777);
    mkdirSync(join(folder, 'four/bwrap'), { recursive: true });
    program('five/bwrap', '');
    const folders = ['one', 'two', 'three', 'four', 'gone', 'five'].map((name) => join(folder, name));
    expect(sandboxTools('linux', folders).bwrap).toBe(join(folder, 'five/bwrap'));
    expect(sandboxTools('linux', folders.slice(0, -1)).bwrap).toBeUndefined();
  });
});

describe('what a bubblewrap can do', () => {
  it('is what its help lists', async () => {
    const features = await bubblewrapFeatures(fake({ help: `${HELP}\n    --disable-userns  y\n    --size BYTES  z` }), never);
    expect(features).toEqual({ disableUserns: true, size: true, perms: false, severalFilters: false, argv0: false, missing: [] });
  });

  it('may be too little', async () => {
    expect(await probe(fake({ help: HELP.replace('--json-status-fd', '--info-fd') }))).toMatchObject({
      level: 'none',
      version: '0.9.1',
      why: 'bubblewrap is too old: it does not know --json-status-fd',
      fix: 'install a newer bubblewrap',
    });
  });
});

describe('the level', () => {
  it('is full where two layers can be built', async () => {
    const found = await probe(fake({}));
    expect(found).toMatchObject({ level: 'full', backend: 'bubblewrap', version: '0.9.1' });
    expect([found.why, found.fix]).toEqual([undefined, undefined]);
  });

  it('is full with a word where nothing can make addresses lead to kz', async () => {
    const tools = { ...sandboxTools('linux', [folder]), bwrap: fake({}), sh: '/bin/sh' };
    expect(await probeSandbox(tools, { arch: 'x64', facts: LINUX }, never)).toMatchObject({
      level: 'full',
      why: expect.stringContaining('neither perl nor ip') as string,
      fix: 'install perl',
    });
  });

  it('is basic where only one can, as with Ubuntu’s profile', async () => {
    const nested = 'setting up uid map: Permission denied';
    const profile = '/etc/apparmor.d/bwrap-userns-restrict';
    const path = program('bwrap', `case "$*" in --help) echo '${HELP}';; *--cap-add*) echo 'bwrap: ${nested}' >&2; exit 1;; esac`);
    expect(await probe(path, { exists: (each) => each === profile })).toMatchObject({
      level: 'basic',
      why: 'AppArmor takes all rights from what bubblewrap starts',
      fix: expect.stringContaining(`| sudo tee ${profile} && sudo apparmor_parser -r ${profile}`) as string,
    });
    expect(await probe(path)).toMatchObject({ level: 'basic', why: 'mapping users is refused by the system' });
  });

  it.each(['freebsd', 'win32'] as const)('is none on %s', async (platform) => {
    const found = await probeSandbox(sandboxTools(platform, [folder]), {}, never);
    expect(found).toEqual({ level: 'none', backend: undefined, why: `kz cannot isolate programs on ${platform}` });
  });

  it('is none without bubblewrap', async () => {
    const why = 'bubblewrap is not installed';
    expect(await probe(undefined)).toMatchObject({ level: 'none', backend: undefined, why, fix: 'install bubblewrap' });
    const debian = (each: string): boolean => each === '/usr/bin/apt-get';
    expect(await probe(undefined, { exists: debian })).toMatchObject({ why, fix: 'run `sudo apt install bubblewrap`' });
    expect(await probe(undefined, { exists: debian, uid: 0 })).toMatchObject({ fix: 'run `apt install bubblewrap`' });
    const installed = (each: string): boolean => each === '/usr/bin/bwrap';
    expect(await probe(undefined, { exists: installed, owner: () => 65_534 })).toMatchObject({
      why: '/usr/bin/bwrap belongs to nobody here, as root does not exist in kz’s user namespace',
      fix: 'run kz outside of it',
    });
    expect(await probe(undefined, { exists: installed })).toMatchObject({
      why: '/usr/bin/bwrap belongs neither to root nor to you, or others may write it',
      fix: 'run `sudo chown root /usr/bin/bwrap && sudo chmod go-w /usr/bin/bwrap`',
    });
  });

  it('is none on a machine without a filter, and where bubblewrap hangs or is gone', async () => {
    expect(await probe(fake({}), {}, { arch: 'riscv64' })).toMatchObject({ why: 'kz has no filter of system calls for riscv64' });
    const hanging = program('slow', `case "$*" in --help) echo '${HELP}';; --version) ;; *) exec sleep 60;; esac`);
    expect(await probe(hanging, {}, { limitMs: 300 })).toMatchObject({ level: 'none', why: 'bubblewrap did not end within 300 ms' });
    expect(await probe(join(folder, 'gone'))).toMatchObject({ level: 'none', why: 'bubblewrap failed and did not say why' });
  });

  it('on macOS is what sandbox-exec says', async () => {
    const level = async (text: string) => {
      const sandboxExec = program('sandbox-exec', text);
      return probeSandbox({ ...sandboxTools('darwin', [folder]), sandboxExec }, {}, never);
    };
    expect(await level('exit 0')).toEqual({ level: 'basic', backend: 'sandbox-exec' });
    expect(await level('echo "sandbox-exec: sandbox_apply: Operation not permitted" >&2; exit 71')).toMatchObject({
      level: 'none',
      why: 'kz runs in a sandbox already',
    });
    expect(await level('exit 1')).toMatchObject({ level: 'none', why: 'sandbox-exec failed' });
    const gone = sandboxTools('darwin', []);
    expect(await probeSandbox(gone, {}, never)).toMatchObject({ level: 'none', why: 'there is no /usr/bin/sandbox-exec' });
  });
});

const UID_MAP = 'setting up uid map: Permission denied';
const LOOPBACK = 'loopback: Failed RTM_NEWADDR: Operation not permitted';
const NO_PERMISSION =
  "No permissions to create a new namespace, likely because the kernel does not allow non-privileged user namespaces. On e.g. debian this can be enabled with 'sysctl kernel.unprivileged_userns_clone=1'.";
const NO_SUPPORT =
  'Creating new namespace failed, likely because the kernel does not support user namespaces.  bwrap must be installed setuid on such systems.';
const TOO_MANY = 'Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)';
const PROC = "Can't mount proc on /newroot/proc: Operation not permitted";

function set(name: string, value: string): Pick<MachineFacts, 'sysctl'> {
  return { sysctl: (each) => (each === name ? value : undefined) };
}

const APPARMOR = set('kernel/apparmor_restrict_unprivileged_userns', '1');
const CONTAINER = { isContainer: true };

describe('a refusal', () => {
  it.each<[text: string, facts: Partial<MachineFacts>, why: string, fix: RegExp | undefined]>([
    [
      UID_MAP,
      APPARMOR,
      'AppArmor does not let programs make user namespaces',
      /profile bwrap .* \{ userns, \}.*tee \/etc\/apparmor\.d\/bwrap /,
    ],
    [LOOPBACK, APPARMOR, 'AppArmor does not let programs make user namespaces', /apparmor_parser -r \/etc\/apparmor\.d\/bwrap`/],
    [LOOPBACK, {}, 'setting up a network is refused by the system', undefined],
    [LOOPBACK, CONTAINER, 'setting up a network is refused in this container', /seccomp=unconfined/],
    [NO_PERMISSION, CONTAINER, 'this container does not allow new namespaces', /--security-opt seccomp=unconfined/],
    ['Creating new namespace failed: Operation not permitted', CONTAINER, 'this container does not allow new namespaces', /outside/],
    [NO_PERMISSION, {}, 'the system does not allow new user namespaces', /outside/],
    [
      NO_PERMISSION,
      set('kernel/unprivileged_userns_clone', '0'),
      'user namespaces are switched off (kernel.unprivileged_userns_clone)',
      /sysctl -w kernel\.unprivileged_userns_clone=1/,
    ],
    [
      TOO_MANY,
      set('user/max_user_namespaces', '0'),
      'namespaces are switched off (user.max_user_namespaces)',
      /sysctl -w user\.max_user_namespaces=/,
    ],
    [TOO_MANY, set('user/max_net_namespaces', '0'), 'namespaces are switched off (user.max_net_namespaces)', /user\.max_net_namespaces=/],
    [TOO_MANY, set('user/max_user_namespaces', '96365'), 'no more namespaces are allowed here', /in a sandbox already/],
    [PROC, CONTAINER, 'a /proc of its own is refused in this container', /systempaths=unconfined/],
    [PROC, {}, 'a /proc of its own is refused by the system', undefined],
    ['setting up uid map: Operation not permitted', { uid: 0 }, 'kz runs as root without CAP_SETFCAP', /--cap-add SETFCAP/],
    [NO_SUPPORT, {}, 'the kernel has no user namespaces', /CONFIG_USER_NS/],
    [NO_SUPPORT, { kernel: 'Linux version 4.4.0-19041-Microsoft' }, 'WSL 1 has no namespaces', /wsl --set-version/],
    [NO_PERMISSION, { kernel: 'Linux version 5.15.0-microsoft-standard-WSL2' }, 'the system does not allow new user namespaces', /outside/],
    ['loopback: Failed RTM_NEWADDR: File exists', CONTAINER, 'bubblewrap cannot set up a network inside gVisor', /outside/],
    [
      'loopback: Failed RTM_NEWADDR: Operation not permitted',
      { kernel: 'Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016' },
      'bubblewrap cannot set up a network inside gVisor',
      /outside/,
    ],
    [
      '--cap-add in setuid mode can be used only by root',
      {},
      'bubblewrap is installed setuid, which refuses options that kz needs',
      /chmod u-s .*bwrap/,
    ],
    ['Unknown option --cap-drop', {}, 'bubblewrap is too old: it does not know --cap-drop', /newer/],
  ])('“%s” is explained (%o)', async (text, facts, why, fix) => {
    const found = await probe(fake({ nest: text }), facts);
    expect(found).toMatchObject({ level: 'none', backend: 'bubblewrap', why });
    if (fix === undefined) expect(found.fix).toBeUndefined();
    else expect(found.fix).toMatch(fix);
  });

  it('that is not known is repeated: its first line, as text', async () => {
    const found = await probe(
      program('bwrap', `[ "$1" = --help ] && echo '${HELP}' && exit; printf 'bwrap: Dance \\033[31m\\r failed\\nmore\\n' >&2; exit 1`),
    );
    expect(found.why).toBe('bubblewrap failed: Dance ?[31m? failed');
  });

  it('is cut when it is long', async () => {
    const { why = '' } = await probe(fake({ nest: 'x'.repeat(5_000) }));
    expect(why.length).toBeLessThan(200);
  });
});

it('throws only when it is to stop', async () => {
  const stop = new AbortController();
  const hanging = program('slow', 'exec sleep 60');
  const tools = { ...sandboxTools('linux', []), bwrap: hanging, sh: '/bin/sh' };
  const found = probeSandbox(tools, { arch: 'x64', facts: LINUX }, stop.signal);
  stop.abort(new Error('enough'));
  await expect(found).rejects.toThrow('enough');
  await expect(probeSandbox(tools, { arch: 'x64', facts: LINUX }, stop.signal)).rejects.toThrow('enough');
});

it('knows its own machine', async () => {
  const facts = machineFacts();
  expect(facts.uid).toBe(process.getuid?.() ?? -1);
  expect(facts.exists('/')).toBe(true);
  const found = await probeSandbox(sandboxTools(), {}, never);
  expect(['full', 'basic', 'none']).toContain(found.level);
  // Whatever is not full says why, but for macOS, where basic is all there is.
  if (found.level === 'none') expect(found.why).toMatch(/^\S[^\n]+$/);
  if (process.platform === 'linux' && existsSync('/proc/version')) expect(facts.kernel).toMatch(/^Linux version /);
});
