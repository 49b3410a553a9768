// bubblewrap's own words, from its source, and those that the C library puts behind them.
import { describe, expect, it } from 'vitest';
import { explainBasic, explainRefusal, type MachineFacts, type Refusal } from '../../src/sandbox/refusal.ts';

const BWRAP = '/usr/bin/bwrap';

const LINUX: MachineFacts = {
  uid: 1000,
  isContainer: false,
  kernel: 'Linux version 6.8.0',
  sysctl: () => undefined,
  exists: () => false,
  owner: () => 0,
};

function explain(text: string, facts: Partial<MachineFacts> = {}): Refusal {
  return explainRefusal(text === '' ? '' : `bwrap: ${text}\n`, BWRAP, { ...LINUX, ...facts });
}

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
  ])('“%s” is explained (%o)', (text, facts, why, fix) => {
    const found = explain(text, facts);
    expect(found).toMatchObject({ why, isCertain: true });
    if (fix === undefined) expect(found.fix).toBeUndefined();
    else expect(found.fix).toMatch(fix);
  });

  it.each([
    'Creating new namespace failed: Resource temporarily unavailable',
    'Creating new namespace failed: Cannot allocate memory',
    'Creating new namespace failed: No space left on device',
    'loopback: Failed RTM_NEWADDR: Cannot allocate memory',
    "Can't mount proc on /newroot/proc: Device or resource busy",
    'Failed to mount tmpfs: Cannot allocate memory',
    'Failed to make / slave: No space left on device',
    'setting up uid map: Cannot allocate memory',
    "Can't fork for pid 1: Resource temporarily unavailable",
    'Dance failed',
  ])('“%s” is not sure to last', (text) => {
    expect(explain(text)).toMatchObject({ isCertain: false });
    expect(explain(text, { uid: 0, ...CONTAINER, ...APPARMOR })).toMatchObject({ isCertain: false });
    expect(explainBasic(text, BWRAP, { ...LINUX, exists: () => true })).toMatchObject({ isCertain: false });
    // Debian's switch is not for root.
    expect(explain(text, { uid: 0, ...set('kernel/unprivileged_userns_clone', '0') })).toMatchObject({ isCertain: false });
  });

  it('nor is silence', () => {
    expect(explain('')).toEqual({ why: 'bubblewrap failed and did not say why', isCertain: false });
  });
});
