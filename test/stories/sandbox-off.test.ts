// Who asked for how much isolation, and what happens where there is none: a word to the user, or no start. Never less than was asked for without
// a word.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IsolatedStory } from './isolated.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from './isolation.ts';
import { collect, has, KZ, NODE, type Ended, type StartOptions } from './kz.ts';
import { isRunning } from './processes.ts';

let story: IsolatedStory;

beforeEach(() => {
  story = new IsolatedStory();
});

afterEach(() => {
  story.end(['.ssh/id']);
});

/** Without an opinion of the stories’ about the sandbox. */
async function kz(args: readonly string[], prefix: readonly string[] = [], options: StartOptions = {}): Promise<Ended> {
  const ended = await collect(story.startProgram([...prefix, NODE, KZ, ...args] as unknown as [string, ...string[]], options));
  story.examine(`${ended.stdout}\n${ended.stderr}`, 'the output');
  return ended;
}

describe('--sandbox off', () => {
  it('gives no isolation, as it was typed, and kz says nothing', async () => {
    mkdirSync(join(story.home, '.ssh'));
    writeFileSync(join(story.home, '.ssh/id'), 'a key');
    const ended = await kz(['run', '--blind', '--sandbox', 'off', '--', 'sh', '-c', 'cat ~/.ssh/id; readlink /proc/self/ns/net']);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const outside = await collect(story.startProgram(['readlink', '/proc/self/ns/net']));
    expect(ended.stdout).toBe(`a key${process.platform === 'linux' ? outside.stdout : ''}`);
  });

  it('can be said in the config too', async () => {
    story.blind('[blind]\nsandbox = "off"');
    expect(await kz(['run', '--blind', '--', 'sh', '-c', 'echo "$HTTPS_PROXY"'])).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.not.stringContaining(':3128') as string,
    });
  });
});

describe('usage', () => {
  it.each([
    [
      'without --blind',
      ['run', '--sandbox', 'strict'],
      '--sandbox is for blind programs',
      'kz run --blind --sandbox strict -- node agent.js',
    ],
    ['with a wrong word', ['run', '--blind', '--sandbox', 'maybe'], '--sandbox cannot be "maybe"', 'one of auto, strict, off'],
    ['with a word that is nearly right', ['run', '--blind', '--sandbox=stict'], '--sandbox cannot be "stict"', 'did you mean strict?'],
  ])('--sandbox %s is an error', async (_, args, error, hint) => {
    expect(await kz([...args, '--', 'sh', '-c', 'echo started'])).toMatchObject({
      ...{ code: 125, stdout: '' },
      stderr: `kz: error: ${error}\nkz: hint: ${hint}\n`,
    });
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`where there is isolation${ISOLATION_NOTE}`, () => {
  it.each([[[]], [['--sandbox', 'auto']], [['--sandbox=strict']]])('%j isolates, without a word', async (flags) => {
    const { stdout, stderr } = await kz(['run', '--blind', ...flags, '--', 'sh', '-c', 'echo "$HTTPS_PROXY"']);
    expect(stderr).toBe('');
    expect(stdout).toContain('@127.0.0.1:3128');
  });

  it('the flag goes against the config', async () => {
    story.blind('[blind]\nsandbox = "off"');
    expect((await kz(['run', '--blind', '--sandbox', 'strict', '--', 'sh', '-c', 'echo "$HTTPS_PROXY"'])).stdout).toContain(':3128');
  });

  it('a bwrap of the project’s, first on PATH, is not what isolates', async () => {
    for (const name of ['bwrap', 'perl', 'sh', 'ip']) story.write(`bin/${name}`, '#!/bin/bash\necho used > "$HOME/used"; exit 0\n', 0o755);
    const PATH = `${join(story.project, 'bin')}:${story.environment().PATH ?? ''}`;
    const ended = await kz(['run', '--blind', '--sandbox', 'strict', '--', '/bin/sh', '-c', '/bin/ls ~; echo "$HTTPS_PROXY"'], [], {
      env: { PATH },
    });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toMatch(/^\S+@127\.0\.0\.1:3128\n$/);
  });
});

/** Ways of refusing namespaces to kz, where this machine has them to refuse. */
const PLACES: readonly (readonly [string, readonly string[], boolean])[] = [
  [
    'in a bubblewrap that allows no further namespaces',
    ['bwrap', '--dev-bind', '/', '/', '--unshare-user', '--disable-userns', '--'],
    NO_ISOLATION === undefined,
  ],
  [
    'where the limit of user namespaces is 0',
    ['unshare', '-Ur', 'sh', '-c', 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', 'sh'],
    NO_ISOLATION === undefined && has('unshare'),
  ],
];

describe.each(PLACES)(`%s${ISOLATION_NOTE}`, (_, place, isPossible) => {
  it.skipIf(!isPossible)('auto says so in one line, with why and what to do, and the program runs', async () => {
    const { code, stdout, stderr } = await kz(['run', '--blind', '--', 'sh', '-c', 'echo "$TOKEN"; exit 3'], place);
    expect(stdout).toMatch(/^kz_masked_\w+\n$/);
    expect(code).toBe(3);
    expect(stderr).toMatch(
      /^kz: warning: no sandbox \(.+\): the program can read your files and go around the proxy(; to get it: .+)?; --sandbox off accepts that\n$/,
    );
    expect(stderr).not.toMatch(/unknown reason|\(\)/);
  });

  it.skipIf(!isPossible).each([
    ['--sandbox strict', ['--sandbox', 'strict'], ''],
    ['strict in the config', [], '[blind]\nsandbox = "strict"'],
    ['strict in its table', [], '[blind.sandbox]\nmode = "strict"'],
  ])('%s does not start the program, with a hint', async (_name, flags, blind) => {
    if (blind !== '') story.blind(blind);
    const marker = `marker-${randomBytes(6).toString('hex')}`;
    const { code, stdout, stderr } = await kz(['run', '--blind', ...flags, '--', 'sh', '-c', 'echo started; : > started', marker], place);
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toMatch(/^kz: error: there is no sandbox on this machine: .+\nkz: hint: .+\n$/);
    expect(isRunning(marker)).toBe(false);
  });

  it.skipIf(!isPossible)('--sandbox off says nothing', async () => {
    expect(await kz(['run', '--blind', '--sandbox', 'off', '--', 'true'], place)).toMatchObject({ code: 0, stdout: '', stderr: '' });
  });
});
