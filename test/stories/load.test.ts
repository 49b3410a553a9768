// bin/load.cjs: the compiled form of kz helps where it fits, and never hurts where it does not.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LACKS } from '../../scripts/server-libraries.mjs';
import { collect, Story, type Ended } from './kz.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

let story: Story;
let copy: string;

beforeEach(() => {
  story = new Story();
  copy = join(story.folder, 'copy');
  for (const folder of ['bin', 'dist']) cpSync(join(ROOT, folder), join(copy, folder), { recursive: true });
  story.config('[secrets]\nAPI_TOKEN = { provider = "env", ref = "SOURCE" }\n');
});

afterEach(() => {
  story.end();
});

function caches(): string[] {
  return readdirSync(join(copy, 'dist'))
    .filter((name) => name.endsWith('.cache'))
    .map((name) => join(copy, 'dist', name));
}

function start(args: readonly string[]): Promise<Ended> {
  const env = story.environment({ SOURCE: story.canary() });
  return collect(
    spawn(process.execPath, [join(copy, 'bin/kz.cjs'), ...args], { cwd: story.project, env, stdio: ['ignore', 'pipe', 'pipe'] }),
  );
}

async function expectToWork(): Promise<void> {
  expect(await start(['run', '--', 'sh', '-c', 'echo ${#API_TOKEN}'])).toMatchObject({ stdout: '31\n', stderr: '', code: 0 });
  const blind = await start(['run', '-q', '--blind', '--', 'sh', '-c', 'echo $API_TOKEN']);
  expect(blind).toMatchObject({ stdout: expect.stringMatching(/^kz_masked_\w+\n$/) as string, stderr: '', code: 0 });
  expect(await start(['list', '--names'])).toMatchObject({ stdout: 'API_TOKEN\n', stderr: '', code: 0 });
  if (LACKS.length === 0) await expectToServe();
}

async function expectToServe(): Promise<void> {
  expect(await start(['server', 'init', '-q'])).toMatchObject({ stdout: '', stderr: '', code: 0 });
  expect(await start(['server', 'check', '-b', 'bundle.yaml'])).toMatchObject({ stderr: '', code: 0 });
  rmSync(join(story.project, 'bundle.yaml'));
}

/** What the build has compiled because it started a server. */
const SERVED =
  LACKS.length === 0 ? ([['server', 'kz'], ...['mcp-sdk', 'cel-sdk', 'jose', 'yaml'].map((name) => [name, name] as const)] as const) : [];

/** What V8 compiled in a start of that name, or of that library, and of which file in dist/. */
const COMPILED = [['kz', 'kz'], ['run', 'run'], ['piped', 'run'], ['blind', 'kz'], ...SERVED] as const;

test.each(COMPILED)('V8 takes what the build compiled for %s of %s.cjs', (start, name) => {
  const cache = caches().find((path) => basename(path).startsWith(`${start}-`)) ?? '';
  // In a process of its own: V8 compares the flags, and test runners set some.
  const look = `
    const { readFileSync } = require('node:fs');
    const [source, cache] = process.argv.slice(1);
    const script = new (require('node:vm').Script)(readFileSync(source, 'utf8'), { cachedData: readFileSync(cache) });
    console.log(script.cachedDataRejected);`;
  const args = ['-e', look, join(copy, 'dist', `${name}.cjs`), cache];
  expect(execFileSync(process.execPath, args, { env: story.environment(), encoding: 'utf8' })).toBe('false\n');
});

test('works from another Node, whose cache V8 could take by mistake', async () => {
  // What a change of Node leaves: the files of a binary that is not this one. They must not even be read.
  for (const path of caches()) {
    writeFileSync(path, 'not for V8');
    renameSync(path, path.replace(/-\d+\.cache$/, '-0.cache'));
  }
  await expectToWork();
});

test.each([
  [
    'a cache that is cut off',
    (path: string) => {
      truncateSync(path, 1000);
    },
  ],
  [
    'a cache of something else',
    (path: string) => {
      writeFileSync(path, readFileSync(process.execPath).subarray(0, 4096));
    },
  ],
  [
    'an empty cache',
    (path: string) => {
      truncateSync(path);
    },
  ],
  [
    'no cache, as npm installs it',
    (path: string) => {
      rmSync(path);
    },
  ],
])('works with %s', async (_, damage) => {
  expect(caches()).toHaveLength(COMPILED.length);
  caches().forEach(damage);
  await expectToWork();
});

test('says what to do when it was not built', async () => {
  rmSync(join(copy, 'dist'), { recursive: true });
  const { stdout, stderr, code } = await start(['run', '--', 'true']);
  expect({ stdout, code }).toEqual({ stdout: '', code: 125 });
  expect(stderr).toMatch(/^kz: error: .*dist\/run\.cjs is not there\nkz: hint: run `npm install` in /);
});

test('NODE_DEBUG that would make Node print values is refused, any other is not', async () => {
  const refusal =
    'kz: error: NODE_DEBUG makes Node print secret values\nkz: hint: for the program alone: kz run -- env NODE_DEBUG=SECTION PROGRAM\n';
  const startWith = (sections: string): Promise<Ended> =>
    story.kz(['run', '--', 'true'], { env: { SOURCE: story.canary(), NODE_DEBUG: sections } });
  for (const sections of ['child_process', 'timers,STREAM', '*', 'child*']) {
    const { code, stderr } = await startWith(sections);
    expect(code).toBe(125);
    // With `*` Node also tells which modules it loads.
    expect(stderr.endsWith(refusal)).toBe(true);
  }
  expect((await startWith('timers')).code).toBe(0);
});
