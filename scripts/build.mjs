// Builds dist/: kz.cjs with all of our own code and what every start needs, run.cjs with the part of it that a plain `kz run` needs,
// preload.cjs for the Node programs of a blind child, one file per library that only some commands need, and V8's compiled form of them.
// docs/decisions/0002-one-bundle.md has the measurements behind each choice.
import { execFileSync } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { LACKS } from './server-libraries.mjs';

/** Loaded by `import()` somewhere in src/. Kept out of kz.cjs so that a start does not read them: name of the file in dist/ → where it is. */
const LAZY = {
  'age-encryption': 'age-encryption',
  fzstd: 'fzstd',
  jose: 'jose',
  'toml-eslint-parser': 'toml-eslint-parser',
  yaml: 'yaml',
  'aws-sdk': 'src/providers/aws-sdk.ts',
  'google-sdk': 'src/providers/google-sdk.ts',
  ...(LACKS.length === 0 ? { 'cel-sdk': 'src/policy/cel-sdk.ts', 'mcp-sdk': 'src/server/mcp/mcp-sdk.ts' } : {}),
};

/** Stands in for src/cli/commands.ts in run.cjs. */
const RUN_COMMANDS = 'commands-of-run';

/** How an MCP client begins. */
const MCP_START = [
  {
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'build', version: '1' } },
  },
  { method: 'notifications/initialized' },
  { id: 2, method: 'tools/list' },
  { id: 3, method: 'tools/call', params: { name: 'list_resources', arguments: {} } },
]
  .map((message) => `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
  .join('');

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
  // Its `paths` lead to declarations, for the compiler.
  tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
  outdir: NEXT,
  outExtension: { '.js': '.cjs' },
};

/**
 * bin/load.cjs gives its own `require` to the bundles, so paths start there.
 * @type {import('esbuild').Plugin}
 */
const lazyLibraries = {
  name: 'lazy-libraries',
  setup(setup) {
    const name = /^(?:\.\/)?(.+?)(?:\.ts)?$/;
    setup.onResolve({ filter: new RegExp(`^(${Object.keys(LAZY).join('|')}|\\./.*-sdk\\.ts)$`) }, ({ path }) => ({
      path: `../dist/${path.replace(name, '$1')}.cjs`,
      external: true,
    }));
  },
};

/**
 * `kz run` is what starts all day. In its bundle the list of commands leads to that one only, and imports it statically, so that esbuild puts
 * most modules into one scope: 1.5 ms less than as a part of kz.cjs, 3 ms without the compiled form.
 * @type {import('esbuild').Plugin}
 */
const onlyRun = {
  name: 'only-run',
  setup(setup) {
    setup.onResolve({ filter: /\/commands\.ts$/ }, ({ importer }) => {
      return importer === RUN_COMMANDS ? undefined : { path: RUN_COMMANDS, namespace: 'only-run' };
    });
    setup.onLoad({ filter: /.*/, namespace: 'only-run' }, () => ({
      resolveDir: join(process.cwd(), 'src/cli'),
      loader: 'ts',
      contents: `
        import { defineRun } from './commands/run.ts';
        import { COMMANDS as ALL } from './commands.ts';
        export const COMMANDS = ALL.map((row) => (row.name === 'run' ? { ...row, load: () => Promise.resolve(defineRun) } : row));`,
    }));
    // `kz run --blind` starts kz.cjs.
    setup.onResolve({ filter: /\/commands\/|\/blind\.ts$/ }, ({ kind, path }) => {
      return kind === 'dynamic-import' ? { path, external: true } : undefined;
    });
  },
};

const { version } = /** @type {{ version: string }} */ (JSON.parse(await readFile('package.json', 'utf8')));
/**
 * What bin/load.cjs runs. It hands the text to V8 as it is, so what Node would put around it is there already.
 * @type {import('esbuild').BuildOptions}
 */
const loaded = {
  ...common,
  banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
  footer: { js: '})' },
};
const program = {
  ...loaded,
  external: ['@napi-rs/keyring'],
  define: { KZ_VERSION: JSON.stringify(version), KZ_LACKS: JSON.stringify(LACKS) },
};
const own = await build({ ...program, entryPoints: { kz: 'src/cli/main.ts' }, plugins: [lazyLibraries] });
const run = await build({ ...program, entryPoints: { run: 'src/cli/main.ts' }, plugins: [lazyLibraries, onlyRun] });
const preload = { ...common, target: 'node18', entryPoints: { preload: 'src/preload/route.ts' } };
await build(preload);
await build({ ...preload, entryPoints: { doors: 'src/stage/doors.ts' } });
for (const name of ['doors.pl', 'start.pl']) await copyFile(join('src/stage', name), join(NEXT, name));
const libraries = await build({ ...loaded, entryPoints: LAZY });
await writeFile(join(NEXT, 'THIRD-PARTY-LICENSES.txt'), await licenses([own, run, libraries]));
const previous = `${NEXT}-previous`;
await rename('dist', previous).catch(() => undefined);
await rename(NEXT, 'dist');
await rm(previous, { recursive: true, force: true });
await import('./schema.mjs');
await compile();
if (LACKS.length > 0) console.error(`kz was built without \`kz server\`: ${LACKS.join(', ')} could not be installed`);

/**
 * Runs a typical start of each once, in a process that keeps what V8 compiled on the way: a third of a start is compiling, function by
 * function. Done here and not at the user's first run, so that nothing writes code at run time that a later run executes.
 */
async function compile() {
  const folder = await mkdtemp(join(tmpdir(), 'kz-build-'));
  try {
    const env = { PATH: process.env.PATH, HOME: folder, WARM: 'x', NODE_NO_WARNINGS: '1' };
    const config = join(folder, '.keyzero.toml');
    await writeFile(config, '[secrets]\nA = { provider = "env", ref = "WARM", min_length = 1 }\nB = { provider = "store", ref = "b" }\n');
    execFileSync(process.execPath, ['bin/kz.cjs', 'put', 'B', '-q', '-c', config], { env, input: 'x' });
    const child = ['-c', config, '--', process.execPath, '-e', '0'];
    const talker = ['-c', config, '--', process.execPath, '-e', 'console.log(JSON.stringify({ x: process.env.A })); console.error(1)'];
    const bundle = join(folder, 'bundle.yaml');
    const jwt = join(folder, 'agent.jwt');
    const server = { args: ['server', 'start', '-b', bundle, '--mcp', '--jwt-file', jwt, '--audit', 'none'], input: MCP_START };
    if (LACKS.length === 0) {
      execFileSync(process.execPath, ['bin/kz.cjs', 'server', 'init', '-q', '-b', bundle], { env });
      execFileSync(process.execPath, ['bin/kz.cjs', 'server', 'token', '-q', '--out', jwt], { env });
    }
    // The last one to load a library leaves its compiled form. What is piped is redacted, and only the cache for that holds the code for it.
    /** @type {{ args: string[], output?: 'pipe' | 'ignore', input?: string }[]} */
    const starts = [
      { args: ['get', 'B', '-c', config] },
      { args: ['run', ...child] },
      { args: ['run', ...talker], output: 'pipe' },
      { args: ['run', '-q', '--blind', ...child] },
      ...(LACKS.length === 0 ? [server] : []),
    ];
    for (const { args, input = '', output = 'ignore' } of starts) {
      execFileSync(process.execPath, ['scripts/compile.cjs', ...args], { env, input, stdio: ['pipe', output, output] });
    }
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
