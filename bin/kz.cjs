#!/usr/bin/env node
'use strict';
// Old syntax on purpose: these lines must still run on the Node versions that they refuse.
if (Number(process.versions.node.split('.')[0]) < 20) {
  process.stderr.write('kz: error: kz needs Node 20 or newer, this is ' + process.version + '\n');
  process.exit(125);
}
require('./load.cjs').load();
