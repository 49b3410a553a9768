// Why a sandbox cannot be made here, what helps, and whether it will be the same the next time: bubblewrap's words, and what this machine says of
// itself, in plain ones. Data in, words out. What bubblewrap printed is repeated only when nothing here knows it: its first line, as text.

/** What of a machine decides why it refuses. Whoever asks reads it with `machineFacts` of availability.ts. */
export interface MachineFacts {
  readonly uid: number;
  readonly isContainer: boolean;
  /** `/proc/version`. */
  readonly kernel: string;
  /** The number or word of a file below `/proc/sys`, undefined where there is none: `user/max_user_namespaces`. */
  readonly sysctl: (name: string) => string | undefined;
  readonly exists: (path: string) => boolean;
  /** The user that a file belongs to, undefined where there is none. */
  readonly owner: (path: string) => number | undefined;
}

export interface Refusal {
  /** A short clause. */
  readonly why: string;
  /** What to type or to change. */
  readonly fix?: string;
  /** A fact of this machine that is known here. Otherwise it may work the next time: a moment without memory, or words that nobody knows. */
  readonly isCertain: boolean;
}

/** `text` is what bubblewrap printed on standard error. */
export function explainRefusal(text: string, bwrap: string, facts: MachineFacts): Refusal {
  const told = [text, facts, bwrap] as const;
  const fact = firstOf(FACTS, told);
  if (fact !== undefined) return { ...fact, isCertain: true };
  const meaning = firstOf(WORDS, told);
  if (meaning !== undefined) return { ...meaning, isCertain: isForbidden(text) };
  const line = firstLine(text);
  return { why: line === '' ? 'bubblewrap failed and did not say why' : `bubblewrap failed: ${line}`, isCertain: false };
}

/** The same for a nest that fails where a single layer works. */
export function explainBasic(text: string, bwrap: string, facts: MachineFacts): Refusal {
  // Ubuntu's profile lets bubblewrap in, and takes all capabilities from what it starts.
  if (facts.exists(RESTRICTING_PROFILE) && isForbidden(text))
    return { why: 'AppArmor takes all rights from what bubblewrap starts', fix: profileFix(bwrap, facts), isCertain: true };
  return explainRefusal(text, bwrap, facts);
}

export function notInstalled(facts: MachineFacts): Refusal {
  return { why: 'bubblewrap is not installed', fix: installFix('bubblewrap', facts), isCertain: true };
}

export function installFix(name: string, { exists, uid }: MachineFacts): string {
  const found = INSTALLERS.find(([program]) => exists(program));
  return found === undefined ? `install ${name}` : `run \`${uid === 0 ? '' : 'sudo '}${found[1]} ${name}\``;
}

const INSTALLERS = [
  ['/usr/bin/apt-get', 'apt install'],
  ['/usr/bin/dnf', 'dnf install'],
  ['/usr/bin/yum', 'yum install'],
  ['/sbin/apk', 'apk add'],
  ['/usr/bin/pacman', 'pacman -S'],
  ['/usr/bin/zypper', 'zypper install'],
] as const;

type Explanation = Omit<Refusal, 'isCertain'>;

type Told = readonly [text: string, facts: MachineFacts, bwrap: string];
type Explain = (...told: Told) => Explanation | undefined;

function firstOf(table: readonly Explain[], told: Told): Explanation | undefined {
  for (const explain of table) {
    const explanation = explain(...told);
    if (explanation !== undefined) return explanation;
  }
  return undefined;
}

/** What the machine is and what it is set to: certain, whatever bubblewrap says. The first that knows wins. */
const FACTS: readonly Explain[] = [
  (_text, { kernel }) => {
    // WSL 2 writes it in lower case.
    return /\bMicrosoft\b/.test(kernel) && !kernel.includes('WSL2')
      ? { why: 'WSL 1 has no namespaces', fix: 'in Windows, run `wsl --set-version <distribution> 2`' }
      : undefined;
  },
  (text, { kernel }) => {
    const isGvisor = kernel.includes('Sun Jan 10 15:06:54 PST 2016');
    return isGvisor || /RTM_NEW\w+: File exists/.test(text)
      ? { why: 'bubblewrap cannot set up a network inside gVisor', fix: 'run kz outside of the container' }
      : undefined;
  },
  (text, _facts, bwrap) => {
    return text.includes('setuid') && !text.includes('must be installed setuid')
      ? {
          why: 'bubblewrap is installed setuid, which refuses options that kz needs',
          fix: `run \`sudo chmod u-s ${bwrap}\``,
        }
      : undefined;
  },
  (text) => {
    const option = /Unknown option (--[\w-]+)/.exec(text)?.[1];
    return option === undefined
      ? undefined
      : { why: `bubblewrap is too old: it does not know ${option}`, fix: 'install a newer bubblewrap' };
  },
  forbidden,
];

/** What bubblewrap's words usually mean, when the facts do not explain them. */
const WORDS: readonly Explain[] = [
  (text, facts, bwrap) => {
    if (!/RTM_NEW\w+: Operation not permitted|setting up [ug]id map: Permission denied/.test(text)) return undefined;
    if (facts.sysctl('kernel/apparmor_restrict_unprivileged_userns') !== '1') return undefined;
    return { why: 'AppArmor does not let programs make user namespaces', fix: profileFix(bwrap, facts) };
  },
  (text, { uid }) => {
    return uid === 0 && /setting up [ug]id map: Operation not permitted/.test(text)
      ? { why: 'kz runs as root without CAP_SETFCAP', fix: 'run kz as an ordinary user, or give the container `--cap-add SETFCAP`' }
      : undefined;
  },
  (text, { isContainer }) => {
    const what = REFUSED.find(([words]) => words.test(text))?.[1];
    if (what === undefined) return undefined;
    return isContainer ? { why: `${what} in this container`, fix: CONTAINER_FIX } : { why: `${what} by the system` };
  },
  (text, { isContainer }) => {
    if (!/No permissions to creat|Creating new namespace failed: (Operation not permitted|Permission denied)/.test(text)) return undefined;
    if (isContainer) return { why: 'this container does not allow new namespaces', fix: CONTAINER_FIX };
    return { why: 'the system does not allow new user namespaces', fix: 'if kz runs in a sandbox or a container, run it outside' };
  },
  (text) => {
    return /Creating new namespace failed: .*(ENOSPC|No space left)/.test(text)
      ? { why: 'no more namespaces are allowed here', fix: 'if kz runs in a sandbox already, run it outside' }
      : undefined;
  },
  (text) => {
    return /kernel does not support|Creating new namespace failed.*Invalid argument/.test(text)
      ? { why: 'the kernel has no user namespaces', fix: 'use a kernel with CONFIG_USER_NS' }
      : undefined;
  },
];

const REFUSED = [
  [/Can't mount proc/, 'a /proc of its own is refused'],
  [/RTM_NEW\w+/, 'setting up a network is refused'],
  [/setting up [ug]id map|setgroups/, 'mapping users is refused'],
  [/Failed to mount|Failed to make \/ slave|Unable to mount|pivot_root/, 'mounting is refused'],
] as const;

const CONTAINER_FIX =
  'start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, ' +
  'or run kz outside of it';

/**
 * Words of what lasts. Everything else that a call can fail with (EAGAIN, ENOMEM, ENOSPC, EBUSY) may be over in a moment; but a sandbox that allows
 * no namespaces says that their number is exceeded, and nobody else is likely to have used up all of the machine's.
 */
function isForbidden(text: string): boolean {
  return /namespaces exceeded|not permitted|Permission denied|No permissions|Invalid argument|not implemented|not supported|does not support/.test(
    text,
  );
}

/** Switched off by whoever administers the machine. */
function forbidden(text: string, { sysctl, uid }: MachineFacts): Explanation | undefined {
  // Root may make them all the same, where it is the real one.
  if (sysctl('kernel/unprivileged_userns_clone') === '0' && (uid !== 0 || isForbidden(text))) {
    return {
      why: 'user namespaces are switched off (kernel.unprivileged_userns_clone)',
      fix: 'run `sudo sysctl -w kernel.unprivileged_userns_clone=1`',
    };
  }
  const kind = ['user', 'net', 'pid', 'mnt', 'ipc', 'uts'].find((each) => sysctl(`user/max_${each}_namespaces`) === '0');
  if (kind === undefined) return undefined;
  const name = `user.max_${kind}_namespaces`;
  return { why: `namespaces are switched off (${name})`, fix: `run \`sudo sysctl -w ${name}=15000\`` };
}

const RESTRICTING_PROFILE = '/etc/apparmor.d/bwrap-userns-restrict';

/** In the place of Ubuntu's where that is: two profiles for one program would be none. */
function profileFix(bwrap: string, { exists }: MachineFacts): string {
  const file = exists(RESTRICTING_PROFILE) ? RESTRICTING_PROFILE : '/etc/apparmor.d/bwrap';
  const profile = `abi <abi/4.0>,\\nprofile bwrap ${bwrap} flags=(unconfined) { userns, }\\n`;
  return `run \`printf '${profile}' | sudo tee ${file} && sudo apparmor_parser -r ${file}\``;
}

const LONGEST_LINE = 160;

function firstLine(text: string): string {
  const [line = ''] = text.split('\n').filter((each) => each.trim() !== '');
  return line
    .replace(/^bwrap: /, '')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, LONGEST_LINE);
}
