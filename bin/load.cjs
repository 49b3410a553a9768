// Runs dist/run.cjs for a plain `kz run` and dist/kz.cjs for everything else, with the code that V8 compiled for it at build time where this very
// Node built it.
'use strict';
const { fstatSync, readFileSync, statSync } = require('node:fs');
const { Script } = require('node:vm');
const path = require('node:path');

const folder = path.join(__dirname, '..', 'dist');

module.exports = { load, cacheFile };

function load() {
  const start = kindOfStart();
  const file = path.join(folder, (start === 'run' || start === 'piped' ? 'run' : 'kz') + '.cjs');
  const source = read(file);
  if (source === undefined) {
    process.stderr.write('kz: error: ' + file + ' is not there\nkz: hint: run `npm install` in ' + path.join(__dirname, '..') + '\n');
    process.exit(125);
  }
  // The build escapes what is not ASCII, and writes the function around the code that `require` would put there: a copy less.
  const script = new Script(source.toString('latin1'), { filename: file, cachedData: read(cacheFile(start)) });
  const self = { exports: {} };
  const run = /** @type {(...parts: unknown[]) => void} */ (script.runInThisContext());
  // The require of this file: making another one takes half a millisecond.
  run(self.exports, require, self, file, folder);
  return script;
}

/** Blind mode is not in run.cjs. Should the word be the child's own, it costs that start a few milliseconds. */
function kindOfStart() {
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
