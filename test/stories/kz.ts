// Runs the built kz as a user does, in a folder of its own, and looks for canaries afterwards: every secret value in a story comes from
// `canary()`, and a story fails when one, or an encoded form of one, turns up anywhere but where the story says that it reveals.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

/** The Node that runs kz, when it is not to be the one that runs the tests. */
export const NODE = process.env.KZ_NODE ?? process.execPath;

export const KZ = fileURLToPath(new URL('../../bin/kz.cjs', import.meta.url));
export const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url));

/** Is the program where stories look for it? Only Node, git and what every system has may be taken for granted. */
export function has(program: string): boolean {
  return ['/usr/local/bin', '/usr/bin', '/bin'].some((folder) => existsSync(join(folder, program)));
}

export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly bytes: Buffer;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Written to standard input, which is then closed; left out: /dev/null. */
  readonly input?: string | Buffer;
  /** Standard input stays open: the story writes to it and ends it. */
  readonly keepInput?: boolean;
  readonly cwd?: string;
  /** The story's purpose is to show a value. */
  readonly reveals?: boolean;
}

export class Story {
  readonly folder: string;
  readonly home: string;
  readonly #canaries: string[] = [];
  readonly #children: ChildProcess[] = [];

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'kz-story-'));
    this.home = join(this.folder, 'home');
    mkdirSync(this.home);
    mkdirSync(join(this.folder, 'project'));
  }

  get project(): string {
    return join(this.folder, 'project');
  }

  /** A fresh secret value. */
  canary(prefix = ''): string {
    const value = `${prefix}CANARY-${randomBytes(12).toString('hex')}`;
    this.#canaries.push(value);
    return value;
  }

  /** A value with a shape of its own, guarded like the others. */
  guard(value: string): string {
    this.#canaries.push(value);
    return value;
  }

  write(path: string, content: string | Buffer, mode?: number): string {
    const full = join(this.project, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, content);
    if (mode !== undefined) chmodSync(full, mode);
    return full;
  }

  config(text: string): string {
    return this.write('.keyzero.toml', text);
  }

  /** Exactly these variables, and what kz needs to run: nothing of the machine's own environment leaks into a story. */
  environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: `${dirname(NODE)}:/usr/local/bin:/usr/bin:/bin`,
      HOME: this.home,
      TMPDIR: join(this.folder),
      LANG: 'C.UTF-8',
      ...extra,
    };
  }

  /** A blind program runs without a sandbox unless the story says otherwise: what a story is about must not depend on the machine. */
  start(args: readonly string[], options: StartOptions = {}): ChildProcess {
    return this.startProgram([NODE, KZ, ...withSandbox(args)], options);
  }

  /** For a story in which a shell or another program starts kz. */
  startProgram([program, ...args]: readonly [string, ...string[]], options: StartOptions = {}): ChildProcess {
    const hasInput = options.input !== undefined || options.keepInput === true;
    const child = spawn(program, args, {
      cwd: options.cwd ?? this.project,
      env: this.environment(options.env),
      stdio: [hasInput ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      // A session of its own has no terminal: a story behaves the same in a terminal and in CI.
      detached: true,
    });
    this.#children.push(child);
    if (options.input !== undefined) child.stdin?.on('error', () => undefined).end(options.input);
    return child;
  }

  async kz(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
    const ended = await collect(this.start(args, options));
    if (options.reveals !== true) this.examine(`${ended.stdout}\n${ended.stderr}`, `the output of kz ${args.join(' ')}`);
    this.examine(args.join('\n'), 'the arguments');
    return ended;
  }

  /** Fails when a canary, or an encoded form of one, is in `text`. */
  examine(text: string, where: string): void {
    for (const canary of this.#canaries) {
      for (const form of forms(canary)) expect(text.includes(form), `a secret value is in ${where}`).toBe(false);
    }
  }

  /** Looks through every file that is left, except `allowed` (relative to the story's folder), then removes them all. */
  end(allowed: readonly string[] = []): void {
    for (const child of this.#children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    try {
      for (const file of files(this.folder)) {
        if (allowed.some((name) => file.endsWith(name))) continue;
        this.examine(readFileSync(file, 'latin1'), file);
      }
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}

/** `KZ_STORY_SANDBOX=strict npm test` runs the stories of blind mode in a sandbox; some are about a program without one. */
const STORY_SANDBOX = process.env.KZ_STORY_SANDBOX ?? 'off';

function withSandbox(args: readonly string[]): readonly string[] {
  const end = args.indexOf('--');
  const own = args.slice(0, Math.max(end, 0));
  if (!own.includes('--blind') || own.some((word) => word.startsWith('--sandbox'))) return args;
  return [...own, '--sandbox', STORY_SANDBOX, ...args.slice(own.length)];
}

export async function collect(child: ChildProcess): Promise<Ended> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...end: [number | null, NodeJS.Signals | null]) => {
      resolve(end);
    });
  });
  const bytes = Buffer.concat(out);
  return { stdout: bytes.toString('utf8'), stderr: Buffer.concat(err).toString('utf8'), bytes, code, signal };
}

/** The encodings in which a value could leave: plain, base64 at each alignment, URL, JSON, hex. */
function forms(value: string): string[] {
  const bytes = Buffer.from(value, 'utf8');
  const base64 = [0, 1, 2].map((shift) => {
    const shifted = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    // The first and last characters also depend on the neighbours.
    return shifted.slice(shift === 0 ? 0 : 4, -2);
  });
  return [value, ...base64, encodeURIComponent(value), JSON.stringify(value).slice(1, -1), bytes.toString('hex')];
}

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return files(path);
    return entry.isFile() && (statSync(path).mode & 0o400) !== 0 ? [path] : [];
  });
}
