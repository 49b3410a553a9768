// Runs kz as bin/kz.cjs does, and on the way out writes what V8 compiled to dist/kz.cache. Only the build calls this.
'use strict';
const { renameSync, writeFileSync } = require('node:fs');
const path = require('node:path');
const { load } = require('../bin/load.cjs');

const script = load();
process.on('exit', () => {
  const cache = path.join(__dirname, '../dist/kz.cache');
  const draft = `${cache}.${String(process.pid)}`;
  writeFileSync(draft, script.createCachedData());
  renameSync(draft, cache);
});
