// Starts what is measured, talks to load generators, and reads /proc: CPU time and memory of one process.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

/** @typedef {{ command: string[], env: Record<string, string>, cwd: string }} Start */
/**
 * What a load generator answers to each command; load.mjs says what it is.
 * @typedef {object} Answers
 * @property {{ parent: number, env: Record<string, string> }} environment
 * @property {{ text: string, token: string }} echo
 * @property {{ requests: number, rate: number, p50: number, p99: number }} small
 * @property {{ seconds: number }} down
 * @property {{ seconds: number }} up
 * @property {object} stall
 * @property {{ delays: number[] }} events
 * @property {{ first: number[], later: number[], total: number }} hosts
 * @property {object} watch
 * @property {{ worst: number, requests: number }} watched
 */

const TICKS_A_SECOND = 100;

/** Seconds of CPU that the process has used, in all its threads. */
export function cpuOf(/** @type {number} */ pid) {
  const fields = read(pid, 'stat')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

/** MB now, and at most so far. */
export function memoryOf(/** @type {number} */ pid) {
  const status = read(pid, 'status');
  const of = (/** @type {string} */ key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024;
  return { now: of('VmRSS'), peak: of('VmHWM') };
}

/**
 * @param {number} pid
 * @param {string} file
 */
function read(pid, file) {
  return readFileSync(`/proc/${String(pid)}/${file}`, 'utf8');
}

/** @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
  });
}

/** A process that ends when its standard input does, and that answers each line with a line. */
export class Program {
  #child;
  #ended;
  /** @type {string[]} */
  #lines = [];
  /** @type {{ resolve: (line: string) => void, reject: (error: Error) => void } | undefined} */
  #waiting;
  #said = '';

  /** @param {Start} start */
  constructor({ command: [program = '', ...args], env, cwd }) {
    this.#child = spawn(program, args, { env, cwd, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdin.on('error', () => undefined);
    this.#child.stderr.on('data', (/** @type {Buffer} */ chunk) => {
      this.#said = (this.#said + chunk.toString()).slice(-4000);
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting === undefined) this.#lines.push(line);
      else waiting.resolve(line);
    });
    this.#ended = new Promise((resolve) => this.#child.once('close', resolve).once('error', resolve));
    void this.#ended.then(() => this.#waiting?.reject(new Error(`${program} ${args.join(' ')} ended:\n${this.#said}`)));
  }

  get pid() {
    return this.#child.pid ?? 0;
  }

  /** @returns {Promise<string>} */
  line() {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    return new Promise((resolve, reject) => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) reject(new Error(`a program ended:\n${this.#said}`));
      else this.#waiting = { resolve, reject };
    });
  }

  /**
   * @template {keyof Answers} Do
   * @param {{ do: Do } & Record<string, unknown>} command
   * @returns {Promise<Answers[Do]>}
   */
  async ask(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    const answer = /** @type {Answers[Do]} */ (JSON.parse(await this.line()));
    return answer;
  }

  /** Waits until it has ended. */
  async end() {
    this.#child.stdin.end();
    await this.#ended;
  }
}

/**
 * Milliseconds from the start of a program to its end, and to the moment that it or its child writes to standard output: `date +%s%N`.
 * @param {Start} start
 */
export async function timesOf({ command: [program = '', ...args], env, cwd }) {
  const begin = performance.timeOrigin + performance.now();
  const child = spawn(program, args, { env, cwd, stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.on('data', (/** @type {Buffer} */ chunk) => {
    said += chunk.toString();
  });
  const code = await new Promise((resolve) => child.once('close', resolve).once('error', resolve));
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${String(code)}`);
  return { total: performance.timeOrigin + performance.now() - begin, child: Number(said) / 1e6 - begin };
}

/** @param {number} ms */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
