#!/usr/bin/env node
'use strict';
// Old syntax on purpose: these lines must still run on the Node versions that they refuse.
if (Number(process.versions.node.split('.')[0]) < 20) {
  process.stderr.write('kz: error: kz needs Node 20 or newer, this is ' + process.version + '\n');
  process.exit(125);
}
// Node has read NODE_DEBUG already, and with these sections it prints the program's environment, or what an exec provider says.
if (process.env.NODE_DEBUG && ['child_process', 'net', 'stream'].some(isDebugged)) {
  process.stderr.write(
    'kz: error: NODE_DEBUG makes Node print secret values\nkz: hint: for the program alone: kz run -- env NODE_DEBUG=SECTION PROGRAM\n',
  );
  process.exit(125);
}
require('./load.cjs').load();

/** @param {string} section */
function isDebugged(section) {
  return require('node:util').debuglog(section).enabled;
}
