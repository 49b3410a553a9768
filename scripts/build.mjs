// Builds dist/: kz.cjs with all of our own code and what every start needs, one file per library that only some commands need, and
// kz.cache, V8's compiled form of kz.cjs. docs/decisions/0002-one-bundle.md has the measurements behind each choice.
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';

/** Loaded by `import()` somewhere in src/. Kept out of kz.cjs so that a start does not read them. */
const LAZY = ['age-encryption', 'toml-eslint-parser', 'yaml'];

/** Complete before it takes the place of dist/: a kz that is started meanwhile finds the old one or the new one. */
const NEXT = `dist-${String(process.pid)}`;

/** @type {import('esbuild').BuildOptions} */
const common = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  // CommonJS starts 3 ms faster than an ES module on Node 20; import() becomes require() for the same reason.
  format: 'cjs',
  supported: { 'dynamic-import': false },
  minify: true,
  legalComments: 'none',
  logLevel: 'warning',
  metafile: true,
  outdir: NEXT,
  outExtension: { '.js': '.cjs' },
};

/** @type {import('esbuild').Plugin} */
const lazyLibraries = {
  name: 'lazy-libraries',
  setup(setup) {
    setup.onResolve({ filter: new RegExp(`^(${LAZY.join('|')})$`) }, ({ path }) => ({ path: `./${path}.cjs`, external: true }));
  },
};

const { version } = /** @type {{ version: string }} */ (JSON.parse(await readFile('package.json', 'utf8')));
const own = await build({
  ...common,
  entryPoints: { kz: 'src/cli/main.ts' },
  external: ['@napi-rs/keyring'],
  plugins: [lazyLibraries],
  define: { KZ_VERSION: JSON.stringify(version) },
});
const libraries = await build({ ...common, entryPoints: Object.fromEntries(LAZY.map((name) => [name, name])) });
await writeFile(join(NEXT, 'THIRD-PARTY-LICENSES.txt'), await licenses([own, libraries]));
const previous = `${NEXT}-previous`;
await rename('dist', previous).catch(() => undefined);
await rename(NEXT, 'dist');
await rm(previous, { recursive: true, force: true });
await import('./schema.mjs');
await compile();

/**
 * Runs the typical start once in a process that keeps what V8 compiled on the way: a third of a start is compiling, function by function.
 * Done here and not at the user's first run, so that nothing writes code at run time that a later run executes.
 */
async function compile() {
  const folder = await mkdtemp(join(tmpdir(), 'kz-build-'));
  try {
    const env = { PATH: process.env.PATH, HOME: folder, WARM: 'x', NODE_NO_WARNINGS: '1' };
    await writeFile(
      join(folder, '.keyzero.toml'),
      '[secrets]\nA = { provider = "env", ref = "WARM", min_length = 1 }\nB = { provider = "store", ref = "b" }\n',
    );
    execFileSync(process.execPath, ['bin/kz.cjs', 'put', 'B', '-q', '-c', join(folder, '.keyzero.toml')], { env, input: 'x' });
    const args = ['scripts/compile.cjs', 'run', '-c', join(folder, '.keyzero.toml'), '--', process.execPath, '-e', '0'];
    execFileSync(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * The licence texts of everything that is inside the bundles.
 * @param {import('esbuild').BuildResult[]} results
 */
async function licenses(results) {
  const inputs = results.flatMap((result) => Object.keys(result.metafile?.inputs ?? {}));
  const packages = new Set(inputs.flatMap((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1] ?? []));
  const texts = await Promise.all(
    [...packages].sort().map(async (name) => {
      const folder = `node_modules/${name}`;
      const about = /** @type {{ version: string, license: string }} */ (JSON.parse(await readFile(`${folder}/package.json`, 'utf8')));
      const text = await firstOf(['LICENSE', 'LICENSE.md', 'license', 'LICENSE.txt'].map((file) => `${folder}/${file}`));
      return `${name} ${about.version} (${about.license})\n\n${text.trim()}\n`;
    }),
  );
  return texts.join('\n---\n\n');
}

/** @param {string[]} paths */
async function firstOf(paths) {
  for (const path of paths) {
    try {
      return await readFile(path, 'utf8');
    } catch {
      continue;
    }
  }
  return '(see the package)';
}
