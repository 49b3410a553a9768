// What can isolate a program here, and when nothing can, why. The tools are looked for in the system's own folders and nowhere else: a
// project that puts a `bwrap` of its own on PATH must not be what isolates it. A run does not ask; it starts the real thing.
import { execFile, type ExecFileException } from 'node:child_process';
import { existsSync, readFileSync, realpathSync, statSync, type Stats } from 'node:fs';
import { dirname, join } from 'node:path';
import { reasonOf } from '../core/abort.ts';
import { OUTER_ARGUMENTS } from './bubblewrap.ts';
import { explainBasic, explainRefusal, installFix, notInstalled, type MachineFacts, type Refusal } from './refusal.ts';
import { seccompFilter } from './seccomp.ts';

/** Absolute paths; undefined for what is not there, or could be changed by others. */
export interface SandboxTools {
  readonly platform: NodeJS.Platform;
  readonly bwrap: string | undefined;
  readonly sandboxExec: string | undefined;
  readonly perl: string | undefined;
  readonly sh: string | undefined;
  readonly ip: string | undefined;
}

/**
 * `full`: a network of its own, and every client in it is led through kz; `basic`: nothing but kz can be reached, and only clients that know
 * a proxy get there.
 */
export interface SandboxAvailability {
  readonly level: 'full' | 'basic' | 'none';
  readonly backend: 'bubblewrap' | 'sandbox-exec' | undefined;
  readonly version?: string;
  /** What is missing or refused: a short clause. */
  readonly why?: string;
  /** What to type or to change. */
  readonly fix?: string;
  /** False: it may be more the next time, as something was late, was killed, or failed for a reason that is not known to last. */
  readonly isCertain: boolean;
  /** Of bubblewrap. */
  readonly features?: BubblewrapFeatures;
}

/** What not every bubblewrap can do. */
export interface BubblewrapFeatures {
  /** `--disable-userns`: from 0.8. */
  readonly disableUserns: boolean;
  /** `--size`: from 0.7. */
  readonly size: boolean;
  /** `--perms` and `--chmod`: from 0.5. */
  readonly perms: boolean;
  /** `--add-seccomp-fd`: from 0.6. */
  readonly severalFilters: boolean;
  /** `--argv0`: from 0.9. */
  readonly argv0: boolean;
  /** Options without which there is no sandbox, as far as this one does not have them. */
  readonly missing: readonly string[];
}

export interface ProbeOptions {
  readonly limitMs?: number;
  readonly arch?: NodeJS.Architecture;
  readonly facts?: MachineFacts;
}

/** Looks at some twenty files, and starts nothing. */
export function sandboxTools(platform: NodeJS.Platform = process.platform, folders: readonly string[] = FOLDERS): SandboxTools {
  const find = (name: string, on?: NodeJS.Platform): string | undefined => {
    return on === undefined || on === platform ? folders.map((folder) => join(folder, name)).find(isTrusted) : undefined;
  };
  return {
    platform,
    bwrap: find('bwrap', 'linux'),
    sandboxExec: find('sandbox-exec', 'darwin'),
    perl: find('perl'),
    sh: find('sh'),
    ip: find('ip', 'linux'),
  };
}

/** Builds what a run builds, around a program that does nothing. Throws only when the signal aborts. */
export async function probeSandbox(tools: SandboxTools, options: ProbeOptions, signal: AbortSignal): Promise<SandboxAvailability> {
  const { platform } = tools;
  if (platform === 'darwin') return probeSeatbelt(tools, options, signal);
  if (platform !== 'linux') return none({ why: `kz cannot isolate programs on ${platform}`, isCertain: true });
  return probeBubblewrap(tools, { arch: process.arch, limitMs: LIMIT_MS, facts: machineFacts(), ...options }, signal);
}

/** What `bwrap --help` lists, as distributions add options to old versions. Takes 2 ms. Throws only when the signal aborts. */
export async function bubblewrapFeatures(bwrap: string, signal: AbortSignal): Promise<BubblewrapFeatures> {
  return featuresIn(await run(bwrap, ['--help'], { limitMs: LIMIT_MS }, signal));
}

function featuresIn({ stdout, stderr }: Ran): BubblewrapFeatures {
  // Old ones print it on standard error.
  const known = new Set((stdout + stderr).match(/(?<=^ +)--[\w-]+/gm));
  return {
    disableUserns: known.has('--disable-userns'),
    size: known.has('--size'),
    perms: known.has('--perms'),
    severalFilters: known.has('--add-seccomp-fd'),
    argv0: known.has('--argv0'),
    missing: NEEDED.filter((option) => !known.has(option)),
  };
}

/** The same from the program's own text, where it is one: a run does not wait for it to be started. What cannot be told is not used. */
export function quickFeatures(bwrap: string): Pick<BubblewrapFeatures, 'disableUserns' | 'size'> {
  const text = readFileSync(bwrap);
  return { disableUserns: text.includes('--disable-userns\0'), size: text.includes('--size\0') };
}

/** The machine that kz runs on. */
export function machineFacts(): MachineFacts {
  return {
    uid: process.getuid?.() ?? -1,
    isContainer:
      ['/.dockerenv', '/run/.containerenv'].some((path) => existsSync(path)) || process.env.KUBERNETES_SERVICE_HOST !== undefined,
    kernel: textOf('/proc/version') ?? '',
    sysctl: (name) => textOf(`/proc/sys/${name}`)?.trim(),
    exists: existsSync,
    owner: (path) => statSync(path, { throwIfNoEntry: false })?.uid,
  };
}

const FOLDERS = [
  '/usr/bin',
  '/bin',
  '/usr/sbin',
  '/sbin',
  '/usr/local/bin',
  '/usr/local/sbin',
  // NixOS has its programs nowhere else.
  '/run/wrappers/bin',
  '/run/current-system/sw/bin',
];

const NEEDED = [
  '--args',
  '--cap-add',
  '--cap-drop',
  '--die-with-parent',
  '--json-status-fd',
  '--remount-ro',
  '--seccomp',
  '--unshare-user',
];

const LIMIT_MS = 3_000;

/** Whom Linux names as owner where a user namespace does not know the real one. */
const NOBODY = 65_534;

const OTHERS_MAY_WRITE = 0o022;
const ANYBODY_MAY_WRITE = 0o002;

function isTrusted(path: string): boolean {
  try {
    const file = realpathSync(path);
    return isSafe(statSync(file), OTHERS_MAY_WRITE) && isSafe(statSync(dirname(file)), ANYBODY_MAY_WRITE) && statSync(file).isFile();
  } catch {
    return false;
  }
}

function isSafe({ uid, mode }: Stats, forbidden: number): boolean {
  return (uid === 0 || uid === process.getuid?.()) && (mode & forbidden) === 0;
}

type Known = Required<ProbeOptions>;

async function probeBubblewrap(tools: SandboxTools, options: Known, signal: AbortSignal): Promise<SandboxAvailability> {
  const { bwrap, sh, perl, ip } = tools;
  const { arch, facts, limitMs } = options;
  if (bwrap === undefined || sh === undefined) return none(bwrap === undefined ? noBubblewrap(facts) : NO_SHELL);
  if (seccompFilter(arch) === undefined) return none({ why: `kz has no filter of system calls for ${arch}`, isCertain: true });
  const [help, said] = await Promise.all([run(bwrap, ['--help'], { limitMs }, signal), run(bwrap, ['--version'], { limitMs }, signal)]);
  const features = featuresIn(help);
  const found = { backend: 'bubblewrap', features, ...versionIn(said.stdout) } as const;
  const [missing] = features.missing;
  // A help that broke off lists less than there is.
  if (missing !== undefined && help.isOver && said.isOver)
    return { ...found, level: 'none', ...explainRefusal(`Unknown option ${missing}`, bwrap, facts) };
  const verdict = await buildNest({ bwrap, sh, features }, options, signal);
  return { ...found, ...verdict, ...(verdict.level === 'full' && (perl ?? ip) === undefined ? withoutRoutes(facts) : {}) };
}

const NO_SHELL: Refusal = { why: 'there is no sh in the folders of the system', isCertain: true };

function versionIn(text: string): Pick<SandboxAvailability, 'version'> {
  const version = /\d+(\.\d+)+/.exec(text)?.[0];
  return version === undefined ? {} : { version };
}

interface Parts {
  readonly bwrap: string;
  readonly sh: string;
  readonly features: BubblewrapFeatures;
}

async function buildNest(
  { bwrap, sh, features }: Parts,
  { facts, limitMs }: Known,
  signal: AbortSignal,
): Promise<Pick<SandboxAvailability, 'level' | 'why' | 'fix' | 'isCertain'>> {
  const inner = [...layer(features), '--', sh, '-c', ':'];
  const nest = await run(bwrap, [...OUTER_ARGUMENTS, '--', bwrap, ...inner], { limitMs }, signal);
  if (nest.isOver) return { level: 'full', isCertain: true };
  if (nest.isLate) return { level: 'none', why: `bubblewrap did not end within ${String(limitMs)} ms`, isCertain: false };
  const single = await run(bwrap, ['--unshare-net', ...inner], { limitMs }, signal);
  if (single.isOver) return { level: 'basic', ...unlessKilled(nest, explainBasic(nest.stderr, bwrap, facts)) };
  return { level: 'none', ...unlessKilled(single, explainRefusal(single.stderr, bwrap, facts)) };
}

/** Who was killed did not say all, whatever the machine is like. */
function unlessKilled({ isKilled }: Ran, refusal: Refusal): Refusal {
  return isKilled ? { ...refusal, isCertain: false } : refusal;
}

function layer({ disableUserns }: BubblewrapFeatures): readonly string[] {
  const ids = [process.getuid?.(), process.getgid?.()].map(String);
  return [
    ...['--die-with-parent', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc'],
    ...['--unshare-user', '--uid', ids[0] ?? '', '--gid', ids[1] ?? '', '--unshare-pid', '--unshare-ipc', '--unshare-uts'],
    ...(disableUserns ? ['--disable-userns'] : []),
    ...['--cap-drop', 'ALL'],
  ];
}

function noBubblewrap(facts: MachineFacts): Refusal {
  const unsafe = FOLDERS.map((folder) => join(folder, 'bwrap')).find((path) => facts.exists(path));
  if (unsafe === undefined) return notInstalled(facts);
  if (facts.owner(unsafe) === NOBODY) {
    return {
      why: `${unsafe} belongs to nobody here, as root does not exist in kz’s user namespace`,
      fix: 'run kz outside of it',
      isCertain: true,
    };
  }
  return {
    why: `${unsafe} belongs neither to root nor to you, or others may write it`,
    fix: `run \`sudo chown root ${unsafe} && sudo chmod go-w ${unsafe}\``,
    isCertain: true,
  };
}

function withoutRoutes(facts: MachineFacts): Refusal {
  return { why: 'with neither perl nor ip, connections to a bare address fail', fix: installFix('perl', facts), isCertain: true };
}

async function probeSeatbelt(
  { sandboxExec }: SandboxTools,
  { limitMs = LIMIT_MS }: ProbeOptions,
  signal: AbortSignal,
): Promise<SandboxAvailability> {
  if (sandboxExec === undefined) return none({ why: 'there is no /usr/bin/sandbox-exec', isCertain: true });
  const backend = 'sandbox-exec';
  const { isOver, isLate, stderr } = await run(sandboxExec, ['-p', '(version 1) (allow default)', '/usr/bin/true'], { limitMs }, signal);
  if (isOver) return { level: 'basic', backend, isCertain: true };
  const unknown = { level: 'none', backend, isCertain: false } as const;
  if (isLate) return { ...unknown, why: `sandbox-exec did not end within ${String(limitMs)} ms` };
  return /sandbox_apply.*not permitted/.test(stderr)
    ? { ...unknown, why: 'kz runs in a sandbox already', fix: 'run kz outside of it', isCertain: true }
    : { ...unknown, why: 'sandbox-exec failed' };
}

function none(refusal: Refusal): SandboxAvailability {
  return { level: 'none', backend: undefined, ...refusal };
}

interface Ran {
  /** It ended well. */
  readonly isOver: boolean;
  readonly isLate: boolean;
  /** By a signal, for being late or by somebody else. */
  readonly isKilled: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** With no variables but one: nothing of the environment has a say in how the tools work. */
async function run(program: string, args: readonly string[], { limitMs }: { limitMs: number }, signal: AbortSignal): Promise<Ran> {
  signal.throwIfAborted();
  const options = { cwd: '/', env: { LC_ALL: 'C' }, encoding: 'latin1', timeout: limitMs, killSignal: 'SIGKILL', signal } as const;
  return new Promise((resolve, reject) => {
    const onEnd = (error: ExecFileException | null, stdout = '', stderr = ''): void => {
      if (signal.aborted) {
        reject(reasonOf(signal));
        return;
      }
      const isKilled = typeof error?.signal === 'string';
      resolve({ isOver: error === null, isLate: error?.killed === true, isKilled, stdout, stderr });
    };
    try {
      execFile(program, args, options, onEnd).stdin?.destroy();
    } catch (error) {
      // There was no memory to start it.
      onEnd(error instanceof Error ? error : new Error('not started'));
    }
  });
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
