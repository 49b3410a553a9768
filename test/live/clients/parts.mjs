// What the client tests need beside what a machine has: other versions of Node, libraries, compiled programs. Each part is made once by
// install.mjs and kept outside of the clone, under a name that says what it was made of: a part of other sources is another part.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROGRAMS = fileURLToPath(new URL('./programs/', import.meta.url));
const { XDG_CACHE_HOME = '' } = process.env;
const CACHE = join(XDG_CACHE_HOME === '' ? join(homedir(), '.cache') : XDG_CACHE_HOME, 'kz-live');

/** As npm's registry has it in the names of packages. */
const SYSTEM = `${process.platform}-${process.arch}`;

/** Nobody waits longer for a download or a build. */
const PATIENCE_MS = 300_000;

/** The interpreter itself, not what pyenv or the like put in front of it; empty when there is none. */
export const PYTHON = interpreter();

/**
 * @typedef {object} Part
 * @property {string} needs the program that makes it
 * @property {readonly string[]} from paths in programs/, or other text that says what it is made of
 * @property {(folder: string) => void} make fills an empty folder
 */

/** @type {ReadonlyMap<string, Part>} */
export const PARTS = new Map(
  Object.entries({
    'node-18': binary(`node-${SYSTEM}`, '18.20.8', 'bin/node'),
    'node-20': binary(`node-${SYSTEM}`, '20.20.2', 'bin/node'),
    'node-22': binary(`node-${SYSTEM}`, '22.23.3', 'bin/node'),
    'node-24': binary(`node-${SYSTEM}`, '24.21.0', 'bin/node'),
    'node-26': binary(`node-${SYSTEM}`, '26.10.0', 'bin/node'),
    bun: binary(`@oven/bun-${SYSTEM.replace('arm64', 'aarch64')}`, '1.4.5', 'bin/bun'),
    deno: binary(`@deno/${SYSTEM}${process.platform === 'linux' ? '-glibc' : ''}`, '2.9.6', 'deno'),
    'node-modules': {
      needs: 'npm',
      from: ['node/package.json', 'node/package-lock.json'],
      make: (folder) => {
        for (const name of ['package.json', 'package-lock.json']) cpSync(join(PROGRAMS, 'node', name), join(folder, name));
        run('npm', ['ci', ...NPM], folder);
      },
    },
    'mcp-inspector': library('@modelcontextprotocol/inspector@2.3.0'),
    'mcp-conformance': library('@modelcontextprotocol/conformance@0.2.0-alpha.11'),
    'python-modules': {
      needs: 'python3',
      from: ['python/requirements.txt', `for ${PYTHON}`],
      make: (folder) => {
        const requirements = join(PROGRAMS, 'python/requirements.txt');
        run(PYTHON, ['-m', 'pip', 'install', '--quiet', '--only-binary=:all:', '--target', folder, '--requirement', requirements], folder);
      },
    },
    go: {
      needs: 'go',
      from: ['go'],
      make: (folder) => {
        run('go', ['build', '-trimpath', '-buildvcs=false', '-o', `${folder}/`, './...'], join(PROGRAMS, 'go'));
      },
    },
    java: {
      needs: 'javac',
      from: ['java'],
      make: (folder) => {
        run('javac', ['-d', folder, join(PROGRAMS, 'java/Client.java')], folder);
      },
    },
    rust: {
      needs: 'cargo',
      from: ['rust'],
      make: (folder) => {
        const target = join(folder, 'target');
        run('cargo', ['build', '--quiet', '--locked', '--target-dir', target], join(PROGRAMS, 'rust'));
        cpSync(join(target, 'debug/kz-live-client'), join(folder, 'client'));
        rmSync(target, { recursive: true });
      },
    },
  }),
);

const NPM = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];

/**
 * One program out of a package of npm's registry, under the name that it has there.
 * @param {string} name
 * @param {string} version
 * @param {string} path
 * @returns {Part}
 */
function binary(name, version, path) {
  return {
    needs: 'npm',
    from: [`${name}@${version}`],
    make: (folder) => {
      run('npm', ['install', '--prefix', folder, ...NPM, `${name}@${version}`], folder);
      cpSync(join(folder, 'node_modules', name, path), join(folder, basename(path)));
      rmSync(join(folder, 'node_modules'), { recursive: true });
    },
  };
}

/**
 * A package of npm's registry with all that it needs, for the tests to run a program of it.
 * @param {string} spec
 * @returns {Part}
 */
function library(spec) {
  return {
    needs: 'npm',
    from: [spec],
    make: (folder) => {
      run('npm', ['install', '--prefix', folder, ...NPM, spec], folder);
    },
  };
}

function interpreter() {
  try {
    return run('python3', ['-c', 'import sys; print(sys.executable)'], '/').trim();
  } catch {
    return '';
  }
}

/** @param {string} program */
export function isInstalled(program) {
  return (process.env.PATH ?? '').split(':').some((folder) => folder !== '' && existsSync(join(folder, program)));
}

/**
 * Where a part is, whether it was made or not.
 * @param {string} name
 */
export function folderOf(name) {
  const hash = createHash('sha256');
  for (const source of PARTS.get(name)?.from ?? []) for (const text of contents(source)) hash.update(text).update('\0');
  return join(CACHE, `${name}-${hash.digest('hex').slice(0, 12)}`);
}

/**
 * What keeps tests from using a part, in words.
 * @param {string} name
 */
export function problemOf(name) {
  if (existsSync(folderOf(name))) return undefined;
  const needs = PARTS.get(name)?.needs ?? name;
  return isInstalled(needs) ? `${name} was not made: node test/live/clients/install.mjs` : `no ${needs}`;
}

/**
 * Makes a part that is not there yet; throws when that fails. Appears as a whole or not at all.
 * @param {string} name
 */
export function install(name) {
  const folder = folderOf(name);
  const unfinished = `${folder}.${String(process.pid)}`;
  mkdirSync(unfinished, { recursive: true });
  try {
    PARTS.get(name)?.make(unfinished);
    renameSync(unfinished, folder);
    removeOthers(name, basename(folder));
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/**
 * What the same part was before its sources changed.
 * @param {string} name
 * @param {string} kept
 */
function removeOthers(name, kept) {
  const folders = readdirSync(CACHE).filter((each) => each !== kept && each.slice(0, -12) === `${name}-` && /[0-9a-f]{12}$/.test(each));
  for (const each of folders) rmSync(join(CACHE, each), { recursive: true, force: true });
}

/**
 * @param {string} source
 * @returns {string[]}
 */
function contents(source) {
  const path = join(PROGRAMS, source);
  if (!existsSync(path)) return [source];
  if (statSync(path).isFile()) return [source, readFileSync(path, 'utf8')];
  return readdirSync(path)
    .sort()
    .flatMap((name) => contents(join(source, name)));
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @param {string} cwd
 */
function run(program, args, cwd) {
  return execFileSync(program, args, { cwd, encoding: 'utf8', timeout: PATIENCE_MS, stdio: ['ignore', 'pipe', 'pipe'] });
}
