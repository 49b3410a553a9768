// The servers of the tests, real ones and stand-ins, for a program that is no test: they are TypeScript, which Node 20 does not read.
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

/**
 * @typedef {typeof import('../../test/live/moto.ts')
 *   & typeof import('../../test/live/vault-server.ts')
 *   & typeof import('../../test/fixtures/aws-fake.ts')
 *   & typeof import('../../test/fixtures/gcp-fake.ts')
 *   & typeof import('../../test/fixtures/vault-fake.ts')} TestServers
 */

const root = fileURLToPath(new URL('../..', import.meta.url));

const CONTENTS = `
  export { motoProblem, startMoto } from './test/live/moto.ts';
  export { startVault } from './test/live/vault-server.ts';
  export { AwsFake } from './test/fixtures/aws-fake.ts';
  export { FakeGoogle } from './test/fixtures/gcp-fake.ts';
  export { FakeVault } from './test/fixtures/vault-fake.ts';`;

/**
 * These look for files beside them.
 * @type {import('esbuild').Plugin}
 */
const scriptsStay = {
  name: 'scripts-stay',
  setup(setup) {
    setup.onResolve({ filter: /\/scripts\/live\/.*\.mjs$/ }, ({ path, resolveDir }) => {
      return { path: pathToFileURL(join(resolveDir, path)).href, external: true };
    });
  },
};

export async function loadTestServers(/** @type {string} */ folder) {
  const outfile = join(folder, 'test-servers.mjs');
  await build({
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
    stdin: { contents: CONTENTS, resolveDir: root, loader: 'ts' },
    plugins: [scriptsStay],
    outfile,
  });
  const loaded = /** @type {TestServers} */ (await import(pathToFileURL(outfile).href));
  return loaded;
}
