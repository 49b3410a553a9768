// Makes what the client tests can use and this machine lacks. Nothing here is required: what cannot be made is said, and its tests are skipped.
import { existsSync } from 'node:fs';
import { folderOf, install, isInstalled, PARTS } from './parts.mjs';

for (const [name, { needs }] of PARTS) {
  if (existsSync(folderOf(name))) continue;
  if (!isInstalled(needs)) {
    console.log(`${name}: no ${needs}, left out`);
    continue;
  }
  const start = performance.now();
  try {
    install(name);
    console.log(`${name}: made in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    console.log(`${name}: left out: ${error instanceof Error ? error.message : String(error)}`);
  }
}
