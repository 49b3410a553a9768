// Runs dist/run.cjs for a plain `kz run` and dist/kz.cjs for everything else, and the libraries that they load, with the code that V8 compiled for
// each at build time where this very Node built it.
'use strict';
const { fstatSync, readFileSync, statSync } = require('node:fs');
const { Script } = require('node:vm');
const path = require('node:path');

const folder = path.join(__dirname, '..', 'dist');

/**
 * What was run, by the name of its cache: for the build.
 * @type {Map<string, import('node:vm').Script>}
 */
const scripts = new Map();
/** @type {Map<string, unknown>} */
const libraries = new Map();

module.exports = { load, cacheFile, scripts };

function load() {
  const start = kindOfStart();
  const name = start === 'run' || start === 'piped' ? 'run' : 'kz';
  if (run(name, start) !== undefined) return;
  const file = fileOf(name);
  process.stderr.write('kz: error: ' + file + ' is not there\nkz: hint: run `npm install` in ' + path.join(__dirname, '..') + '\n');
  process.exit(125);
}

/**
 * @param {string} name of the file in dist/
 * @param {string} cache
 */
function run(name, cache) {
  const file = fileOf(name);
  const source = read(file);
  if (source === undefined) return undefined;
  // The build writes the function around the code that `require` would put there: a copy less.
  const script = new Script(source.toString(), { filename: file, cachedData: read(cacheFile(cache)) });
  scripts.set(cache, script);
  const self = { exports: {} };
  const body = /** @type {(...parts: unknown[]) => void} */ (script.runInThisContext());
  body(self.exports, requireAny, self, file, folder);
  return self.exports;
}

/**
 * The `require` of the bundles. Everything but the libraries beside them goes to that of this file: making another one takes half a millisecond.
 * @param {string} id
 * @returns {unknown}
 */
function requireAny(id) {
  const name = /^\.\.\/dist\/(.+)\.cjs$/.exec(id)?.[1];
  if (name === undefined) return require(id);
  if (!libraries.has(name)) libraries.set(name, run(name, name) ?? require(id));
  return libraries.get(name);
}

/** @param {string} name */
function fileOf(name) {
  return path.join(folder, name + '.cjs');
}

/** Blind mode is not in run.cjs. Should the word be the child's own, it costs that start a few milliseconds. */
function kindOfStart() {
  if (process.argv[2] === 'server') return 'server';
  if (process.argv[2] !== 'run') return 'kz';
  if (process.argv.includes('--blind')) return 'blind';
  return isPiped(1) || isPiped(2) ? 'piped' : 'run';
}

/**
 * Then the output passes through redaction, which a cache for other starts need not hold. src/run/output-kind.ts decides; this only guesses.
 * @param {number} descriptor
 */
function isPiped(descriptor) {
  try {
    const found = fstatSync(descriptor);
    return found.isFIFO() || found.isSocket() || found.isFile();
  } catch {
    return false;
  }
}

/**
 * V8 checks a cache for its own version, its flags and the length of the source. That is not enough: Node 20.19 takes what 20.20 wrote, and
 * dies of a segmentation fault. So the name says which binary made it.
 * @param {string} name
 */
function cacheFile(name) {
  const node = statSync(process.execPath, { throwIfNoEntry: false });
  const build = node === undefined ? 'unknown' : String(node.size) + '-' + String(Math.trunc(node.mtimeMs));
  return path.join(folder, name + '-' + process.version + '-' + build + '.cache');
}

/**
 * @param {string} name
 * @returns {Buffer | undefined}
 */
function read(name) {
  try {
    return readFileSync(name);
  } catch {
    return undefined;
  }
}
