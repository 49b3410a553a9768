// What would ship: packs the package, looks at the list of files, installs it into an empty folder and runs it there.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

/** Everything that may be in the package. Sources, tests and the compiled cache (good for one Node version only) may not. */
const ALLOWED =
  /^(bin\/[^/]+\.cjs|dist\/[^/]+\.(?:cjs|pl)|dist\/THIRD-PARTY-LICENSES\.txt|docs\/.+\.md|docs\/deploy\/Containerfile|docs\/deploy\/kubernetes\/[\w-]+\.yaml|schema\.json|package\.json|\.keyzero\.example\.toml|[A-Z]+(\.md)?)$/;

/** What a bundle must not hold: a build machine's paths, a test's values, code made from text at run time. */
const FORBIDDEN = [process.cwd(), 'CANARY-', 'sourceMappingURL'];

const folder = mkdtempSync(join(tmpdir(), 'kz-package-'));
try {
  const [packed] = /** @type {{ filename: string, files: { path: string }[] }[]} */ (
    JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], process.cwd()))
  );
  if (packed === undefined) throw new Error('npm pack gave nothing');
  const strays = packed.files.map(({ path }) => path).filter((path) => !ALLOWED.test(path));
  if (strays.length > 0) throw new Error(`these do not belong into the package: ${strays.join(', ')}`);
  for (const name of ['dist/kz.cjs', 'dist/run.cjs', 'dist/age-encryption.cjs', 'dist/yaml.cjs', 'dist/toml-eslint-parser.cjs']) {
    const text = readFileSync(name, 'latin1');
    for (const word of FORBIDDEN) if (text.includes(word)) throw new Error(`${name} holds ${JSON.stringify(word)}`);
  }
  const { messages } = await publint({ strict: true });
  const about = /** @type {Record<string, unknown>} */ (JSON.parse(readFileSync('package.json', 'utf8')));
  const serious = messages.filter(({ type }) => type !== 'suggestion');
  if (serious.length > 0) throw new Error(serious.map((message) => formatMessage(message, about) ?? message.code).join('\n'));
  tryOut(join(folder, packed.filename));
  console.log(`package: ${String(packed.files.length)} files, runs when unpacked alone`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/**
 * The bundle needs nothing from node_modules but the keychain’s library, and that only when a keychain is used.
 * @param {string} tarball
 */
function tryOut(tarball) {
  execFileSync('tar', ['-xzf', tarball, '-C', folder]);
  writeFileSync(join(folder, '.keyzero.toml'), '[secrets]\nA = { provider = "env", ref = "X" }\n');
  const env = { PATH: process.env.PATH ?? '', HOME: folder, X: 'shipped' };
  const seen = execFileSync(process.execPath, [join(folder, 'package/bin/kz.cjs'), 'run', '--', 'sh', '-c', 'printf %s "$A"'], {
    cwd: folder,
    env,
  });
  if (seen.toString() !== 'shipped') throw new Error('the packed kz did not pass the secret on');
}

/**
 * @param {string[]} args
 * @param {string} cwd
 */
function npm(args, cwd) {
  return execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}
