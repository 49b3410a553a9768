// Who is measured: kz under several settings, OPA with the same rules, and an HTTP server that decides nothing.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { freePort, pause } from '../proxy/processes.mjs';
import { bareRequests, bundleOf, kzRequests, opaRequests, regoOf } from './lab.mjs';

/** @typedef {import('./lab.mjs').Lab} Lab */
/**
 * @typedef {object} Server
 * @property {number} pid
 * @property {number} port
 * @property {() => Promise<void>} end
 */
/**
 * What is asked of one server.
 * @typedef {object} Subject
 * @property {string} name
 * @property {number | undefined} rules
 * @property {string} server subjects with the same one share it
 * @property {() => Promise<Server>} start
 * @property {() => Promise<import('./lab.mjs').Request[]> | import('./lab.mjs').Request[]} requests
 * @property {string} expect what must be in each answer
 * @property {boolean} [paced] also measured at a fixed rate
 */

export const BARE = 'node:http alone';
export const MASKED = 'kz, masked';
export const OPA = 'OPA, decision only';
const LOGGING = 'kz, masked, audit to a file';
export const LOGGED = ['--rate', 'off', '--audit', 'file'];
const START_MS = 20_000;
/** Neither limits nor a log: what the decision itself costs. */
const PLAIN = ['--rate', 'off', '--audit', 'none'];

/**
 * @param {Lab} lab
 * @param {{ rules: readonly number[], opa: string | undefined }} how `opa`: the program
 * @returns {Subject[]}
 */
export function subjectsOf(lab, { rules, opa }) {
  return [
    { name: BARE, rules: undefined, server: BARE, start: () => startBare(lab), requests: bareRequests, expect: '"allowed"', paced: true },
    ...rules.flatMap((count) => ofRules(lab, count, opa)),
    kzSubject(lab, { name: 'kz, masked, a new token each time', rules: 100, mode: 'masked', fresh: true }),
    kzSubject(lab, { name: 'kz, masked, with a rate limit', rules: 100, mode: 'masked', args: ['--rate', '999999', '--audit', 'none'] }),
    kzSubject(lab, { name: LOGGING, rules: 100, mode: 'masked', args: LOGGED, paced: true }),
  ];
}

/**
 * @param {Lab} lab
 * @param {number} rules
 * @param {string | undefined} opa
 * @returns {Subject[]}
 */
function ofRules(lab, rules, opa) {
  const paced = rules === 100;
  const peer = {
    ...{ name: OPA, rules, server: `opa-${String(rules)}`, paced },
    start: () => startOpa(lab, opa ?? '', rules),
    requests: () => opaRequests(lab, rules),
    expect: '"allow":true',
  };
  return [
    kzSubject(lab, { name: MASKED, rules, mode: 'masked', paced }),
    kzSubject(lab, { name: 'kz, direct', rules, mode: 'direct', paced }),
    ...(opa === undefined ? [] : [peer]),
  ];
}

/**
 * @param {Lab} lab
 * @param {{ name: string, rules: number, mode: import('./lab.mjs').Mode, fresh?: boolean, args?: string[], paced?: boolean }} how
 * @returns {Subject}
 */
function kzSubject(lab, { name, rules, mode, fresh = false, args = PLAIN, paced = false }) {
  return {
    ...{ name, rules, paced, server: `kz ${String(rules)} ${args.join(' ')}` },
    start: () => startKz(lab, rules, args),
    requests: () => kzRequests(lab, { rules, mode, fresh }),
    expect: mode === 'direct' ? lab.value : 'KZ_TOK_',
  };
}

/**
 * @param {Lab} lab
 * @param {number} rules
 * @param {string[]} args
 * @param {string[]} [node]
 */
export async function startKz({ folder, kz, env }, rules, args, node = []) {
  const command = [
    process.execPath,
    ...node,
    kz,
    'server',
    'start',
    '--bundle',
    bundleOf(folder, rules),
    '--listen',
    '127.0.0.1:0',
    ...args,
  ];
  const server = new Child(command, { env, cwd: folder });
  const port = await server.said(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
  return { pid: server.pid, port: Number(port), end: () => server.end() };
}

/** @param {Lab} lab */
async function startBare({ folder, env }) {
  const server = new Child([process.execPath, fileURLToPath(new URL('bare.mjs', import.meta.url))], { env, cwd: folder });
  const port = await server.said(/listening on (\d+)/);
  return { pid: server.pid, port: Number(port), end: () => server.end() };
}

/**
 * @param {Lab} lab
 * @param {string} program
 * @param {number} rules
 */
async function startOpa({ folder, env }, program, rules) {
  const port = await freePort();
  const address = `127.0.0.1:${String(port)}`;
  const flags = ['--server', '--addr', address, '--log-level', 'error', '--disable-telemetry'];
  const server = new Child([program, 'run', ...flags, regoOf(folder, rules)], { env, cwd: folder });
  const until = performance.now() + START_MS;
  while (!(await answers(`http://${address}/health`))) {
    if (performance.now() > until || server.isOver) throw new Error(`OPA does not answer: ${server.text}`);
    await pause(50);
  }
  return { pid: server.pid, port, end: () => server.end() };
}

/** @param {string} url */
async function answers(url) {
  try {
    const { ok } = await fetch(url);
    return ok;
  } catch {
    return false;
  }
}

/** A server: it says on standard error when it is there, and ends when it is told to. */
class Child {
  text = '';
  isOver = false;
  #child;
  #ended;
  /** @type {(() => void) | undefined} */
  #heard;

  /**
   * @param {string[]} command
   * @param {{ env: Record<string, string>, cwd: string }} options
   */
  constructor([program = '', ...args], options) {
    this.#child = spawn(program, args, { ...options, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.stderr.on('data', (/** @type {Buffer} */ chunk) => {
      this.text = (this.text + chunk.toString()).slice(-4000);
      this.#heard?.();
    });
    this.#ended = new Promise((resolve) => this.#child.once('close', resolve).once('error', resolve));
    void this.#ended.then(() => {
      this.isOver = true;
      this.#heard?.();
    });
  }

  get pid() {
    return this.#child.pid ?? 0;
  }

  /**
   * @param {RegExp} pattern
   * @returns {Promise<string>} its first group
   */
  said(pattern) {
    return new Promise((resolve, reject) => {
      this.#heard = () => {
        const found = pattern.exec(this.text)?.[1];
        if (found !== undefined) resolve(found);
        else if (this.isOver) reject(new Error(`a server ended:\n${this.text}`));
      };
      this.#heard();
    });
  }

  async end() {
    this.#child.kill('SIGTERM');
    await this.#ended;
  }
}
