// Which of the libraries are missing that only `kz server` and `kz policy` need? They are optional dependencies of the folder server-libraries:
// where a registry does not have them, or is out of reach, kz is built without the two commands, and says so. Called by itself, before a release, it fails then.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

/** Only tests use it. */
const TEST_CLIENT = '@modelcontextprotocol/client';

const folder = new URL('../server-libraries/', import.meta.url);
const { optionalDependencies } = /** @type {{ optionalDependencies: Record<string, string> }} */ (
  JSON.parse(readFileSync(new URL('package.json', folder), 'utf8'))
);
/** Where Node looks for what that folder needs. */
const places = createRequire(folder).resolve.paths('x') ?? [];

/** Names. Without them, the tests of the two commands cannot run. */
export const MISSING = Object.keys(optionalDependencies).filter((name) => !places.some((place) => existsSync(join(place, name))));

/** Those without which the two commands cannot be built. */
export const LACKS = MISSING.filter((name) => name !== TEST_CLIENT);

if (argv[1] === fileURLToPath(import.meta.url) && LACKS.length > 0) {
  console.error(`kz without \`kz server\` is not for release: ${LACKS.join(', ')} could not be installed`);
  process.exitCode = 1;
}
