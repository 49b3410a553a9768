// Runs dist/kz.cjs with the code that V8 compiled for it at build time, when there is some and this is the same Node version.
'use strict';
const { readFileSync } = require('node:fs');
const { createRequire, wrap } = require('node:module');
const { Script } = require('node:vm');
const path = require('node:path');

const file = path.join(__dirname, '..', 'dist', 'kz.cjs');

exports.load = load;

function load() {
  const source = read(file);
  if (source === undefined) {
    process.stderr.write('kz: error: ' + file + ' is not there\nkz: hint: run `npm install` in ' + path.join(__dirname, '..') + '\n');
    process.exit(125);
  }
  // V8 checks that the cache is of its own version and flags, and compiles as usual when it is not.
  const script = new Script(wrap(source.toString('latin1')), { filename: file, cachedData: read(file.replace(/cjs$/, 'cache')) });
  const self = { exports: {} };
  const run = /** @type {(...parts: unknown[]) => void} */ (script.runInThisContext());
  run(self.exports, createRequire(file), self, file, path.join(__dirname, '..', 'dist'));
  return script;
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
