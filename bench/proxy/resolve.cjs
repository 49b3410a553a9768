// Loaded into the proxies that run on Node: names under bench.test are this machine, at the price of a real lookup. New hosts are names and
// not further loopback addresses, because mockttp makes no certificate for an address.
'use strict';
const dns = require('node:dns');

for (const api of [dns, dns.promises]) {
  const lookup = /** @type {(...parts: unknown[]) => unknown} */ (api.lookup);
  const ours = (/** @type {string} */ host, /** @type {unknown[]} */ ...rest) =>
    Reflect.apply(lookup, api, [host.endsWith('.bench.test') ? 'localhost' : host, ...rest]);
  // What util.promisify needs comes along.
  Reflect.set(api, 'lookup', Object.defineProperties(ours, Object.getOwnPropertyDescriptors(lookup)));
}
