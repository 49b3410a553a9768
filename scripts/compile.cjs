// Runs kz as bin/kz.cjs does, and on the way out writes what V8 compiled to dist/kz.cache. Only the build calls this.
'use strict';
const { writeFileSync } = require('node:fs');
const { load } = require('../bin/load.cjs');

const script = load();
process.on('exit', () => {
  writeFileSync(`${__dirname}/../dist/kz.cache`, script.createCachedData());
});
