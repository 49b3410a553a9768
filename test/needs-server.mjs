// Tests that cannot run where kz was built without `kz server` (docs/decisions/0039-optional-build.md): they are left out there, and counted. The
// rest of what tests the server needs none of the libraries.
import { readdirSync } from 'node:fs';
import { MISSING } from '../scripts/server-libraries.mjs';

/** Folder → names of files without `.test.ts`. */
const NEEDING = {
  test: /^docs-bundles$/,
  'test/attacks/server': /^(?:faces|fetch|identity|local-issuer|policy)$/,
  'test/live': /^server-/,
  'test/policy': /^(?:cel|cel-.*|permit)$/,
  'test/server': /^(?:backends|compile|faces|reload|serve|serve-.*|service)$/,
  'test/server/mcp': /^mcp(?:-http|-lines|-stdio)?$/,
  'test/server/policies': /^policy-cases$/,
  'test/server/tokens': /^token-proxy-live$/,
  'test/stories': /^(?:keyzero|policy|server-.*)$/,
};

/** Paths from the project's folder. */
export const LEFT_OUT = MISSING.length === 0 ? [] : Object.entries(NEEDING).flatMap(([folder, names]) => testsIn(folder, names));

/**
 * @param {string} folder
 * @param {RegExp} names
 */
function testsIn(folder, names) {
  const files = readdirSync(new URL(`../${folder}/`, import.meta.url)).filter((file) => file.endsWith('.test.ts'));
  return files.filter((file) => names.test(file.slice(0, -'.test.ts'.length))).map((file) => `${folder}/${file}`);
}
