// Where it all happens: a folder of its own, 200 values that nobody prints, the kz that was built, and the end of everything that was started.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {{ folder: string, env: Record<string, string> }} Place what kz is started in, and with */

const PATIENCE_MS = 120_000;

/** As it is built. */
export const KZ = fileURLToPath(new URL('../../bin/kz.cjs', import.meta.url));

export class Lab {
  folder = mkdtempSync(join(tmpdir(), 'kz-bench-'));
  /** @type {Map<string, string>} */
  secrets;
  /**
   * Nothing else of this machine's environment, and no question to the address where cloud machines find their keys.
   * @type {Record<string, string>}
   */
  env;
  /** @type {Set<import('node:child_process').ChildProcess>} */
  #running = new Set();
  /** @type {(() => unknown)[]} */
  #closers = [];

  /** @param {number} count */
  constructor(count) {
    const names = Array.from({ length: count }, (_, index) => `SECRET_${String(index + 1)}`);
    this.secrets = new Map(names.map((name) => [name, randomBytes(24).toString('base64url')]));
    this.env = {
      PATH: `${dirname(process.execPath)}:/usr/bin:/bin`,
      HOME: this.folder,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_CONFIG_FILE: join(this.folder, 'no-aws-config'),
      AWS_SHARED_CREDENTIALS_FILE: join(this.folder, 'no-aws-credentials'),
    };
  }

  /** Runs at the end, the last one first, whatever happens until then. */
  atEnd(/** @type {() => unknown} */ close) {
    this.#closers.push(close);
  }

  async end() {
    for (const child of this.#running) child.kill('SIGKILL');
    for (const close of this.#closers.splice(0).reverse()) await Promise.resolve(close()).catch(() => undefined);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /**
   * A file in a folder that is made for it; its path.
   * @param {string} path
   * @param {string} text
   */
  write(path, text, mode = 0o600) {
    const file = join(this.folder, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, text, { mode });
    return file;
  }

  /**
   * @param {string[]} words
   * @param {Place} place
   * @param {string} [input]
   */
  kz(words, place, input) {
    return this.run([KZ, ...words], place, input);
  }

  /**
   * Milliseconds from the start of a program to its end, and what it wrote to standard output. Throws unless it ends with 0.
   * @param {string[]} command
   * @param {Place} place
   * @param {string} [input]
   */
  async run([program = '', ...args], { folder, env }, input = '') {
    const begin = performance.now();
    const child = spawn(program, args, { cwd: folder, env: { ...this.env, ...env }, stdio: 'pipe', timeout: PATIENCE_MS });
    this.#running.add(child);
    let [output, said] = ['', ''];
    child.stdout.on('data', (/** @type {Buffer} */ chunk) => (output += chunk.toString()));
    child.stderr.on('data', (/** @type {Buffer} */ chunk) => (said += chunk.toString()));
    child.stdin.on('error', () => undefined).end(input);
    /** @type {unknown} */
    const status = await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
    this.#running.delete(child);
    if (status !== 0) throw new Error(`${program} ${args[0] ?? ''} in ${folder} ended with ${String(status)}:\n${said.slice(-2000)}`);
    return { ms: performance.now() - begin, output };
  }

  /**
   * The child writes its environment to a file, because what it prints is redacted.
   * @param {string[]} wrapper
   * @param {Place} place
   * @param {number} count
   */
  async refuseUnlessInjected(wrapper, place, count) {
    const seen = join(this.folder, 'seen');
    await this.run([...wrapper, 'sh', '-c', `printenv > ${seen}`], place);
    const lines = new Set(readFileSync(seen, 'utf8').split('\n'));
    rmSync(seen);
    for (const [name, value] of [...this.secrets].slice(0, count)) {
      if (!lines.has(`${name}=${value}`)) throw new Error(`${place.folder}: a child did not get ${name}`);
    }
  }
}
