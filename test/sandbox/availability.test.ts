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
    expect(found).toEqual({ level: 'none', backend: undefined, why: `kz cannot isolate programs on ${platform}`, isCertain: true });
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
    expect(await level('exit 0')).toEqual({ level: 'basic', backend: 'sandbox-exec', isCertain: true });
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
const NO_PERMISSION = 'No permissions to create a new namespace, likely because the kernel does not allow non-privileged user namespaces.';

describe('a refusal', () => {
  it('comes with what helps', async () => {
    const found = await probe(fake({ nest: NO_PERMISSION }), { sysctl: (name) => (name === 'user/max_net_namespaces' ? '0' : undefined) });
    expect(found).toMatchObject({
      level: 'none',
      backend: 'bubblewrap',
      why: 'namespaces are switched off (user.max_net_namespaces)',
      fix: expect.stringContaining('sysctl -w user.max_net_namespaces=') as string,
      isCertain: true,
    });
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

describe('what is not sure to last is told from what is', () => {
  const missing = { isCertain: true, level: 'none' };
  const perhaps = { isCertain: false, level: 'none' };

  it('what is missing, or never was possible, lasts', async () => {
    const installed = (each: string): boolean => each === '/usr/bin/bwrap';
    expect(await probe(undefined)).toMatchObject(missing);
    expect(await probe(undefined, { exists: installed })).toMatchObject(missing);
    expect(await probe(undefined, { exists: installed, owner: () => 65_534 })).toMatchObject(missing);
    expect(await probe(fake({}), {}, { arch: 'riscv64' })).toMatchObject(missing);
    expect(await probe(fake({ help: HELP.replace('--json-status-fd', '--info-fd') }))).toMatchObject(missing);
    const withoutSh = { ...sandboxTools('linux', []), bwrap: fake({}) };
    expect(await probeSandbox(withoutSh, { arch: 'x64', facts: LINUX }, never)).toMatchObject(missing);
  });

  it('what is there is certain', async () => {
    expect(await probe(fake({}))).toMatchObject({ isCertain: true, level: 'full' });
  });

  it('what keeps two layers from being built where one is may or may not', async () => {
    const profile = { exists: (each: string) => each === '/etc/apparmor.d/bwrap-userns-restrict' };
    const path = (text: string) => program('bwrap', `case "$*" in --help) echo '${HELP}';; *--cap-add*) ${text}; exit 1;; esac`);
    expect(await probe(path(`echo 'bwrap: ${UID_MAP}' >&2`), profile)).toMatchObject({ level: 'basic', isCertain: true });
    const moment = "echo 'bwrap: Creating new namespace failed: Cannot allocate memory' >&2";
    expect(await probe(path(moment), profile)).toMatchObject({
      level: 'basic',
      isCertain: false,
      why: 'bubblewrap failed: Creating new namespace failed: Cannot allocate memory',
    });
    expect(await probe(path(`echo 'bwrap: ${UID_MAP}' >&2; kill -9 $$`), profile)).toMatchObject({ level: 'basic', isCertain: false });
  });

  it('a bubblewrap that is late, is killed, or cannot be started does not', async () => {
    const acting = (text: string) => program('bwrap', `case "$*" in --help) echo '${HELP}';; --version) ;; *) ${text};; esac`);
    expect(await probe(acting('exec sleep 60'), {}, { limitMs: 300 })).toMatchObject(perhaps);
    expect(await probe(acting('case "$*" in *--cap-add*) exit 1;; *) exec sleep 60;; esac'), {}, { limitMs: 300 })).toMatchObject(perhaps);
    expect(await probe(acting(`echo 'bwrap: ${NO_PERMISSION}' >&2; kill -9 $$`))).toMatchObject(perhaps);
    expect(await probe(join(folder, 'gone'))).toMatchObject(perhaps);
  });

  it('a help that broke off does not make a bubblewrap too old', async () => {
    const path = program('bwrap', `case "$*" in --help) echo '    --args X'; kill -9 $$;; --version) echo 0.9.1;; *) exit 1;; esac`);
    expect(await probe(path)).toMatchObject({ ...perhaps, why: 'bubblewrap failed and did not say why' });
  });

  it('on macOS too', async () => {
    const found = (text: string, limitMs = 3_000) =>
      probeSandbox({ ...sandboxTools('darwin', []), sandboxExec: program('sandbox-exec', text) }, { limitMs }, never);
    expect(await found('echo "sandbox-exec: sandbox_apply: Operation not permitted" >&2; exit 71')).toMatchObject(missing);
    expect(await found('echo "sandbox-exec: sandbox_apply: Cannot allocate memory" >&2; exit 71')).toMatchObject(perhaps);
    expect(await found('exit 1')).toMatchObject(perhaps);
    expect(await found('exec sleep 60', 300)).toMatchObject(perhaps);
    expect(await probeSandbox(sandboxTools('darwin', []), {}, never)).toMatchObject(missing);
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
