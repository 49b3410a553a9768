// Runs kz as bin/kz.cjs does, and on the way out writes what V8 compiled of it, and of the libraries that were loaded, to where bin/load.cjs looks.
// Only the build calls this.
'use strict';
const { renameSync, writeFileSync } = require('node:fs');
const { cacheFile, load, scripts } = require('../bin/load.cjs');

process.on('exit', () => {
  for (const [name, script] of scripts) {
    const draft = `${cacheFile(name)}.${String(process.pid)}`;
    writeFileSync(draft, script.createCachedData());
    renameSync(draft, cacheFile(name));
  }
});
load();
