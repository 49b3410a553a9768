// A client that opens a pipe for standard error and never reads it: what kz has to say must not hold up the program, nor the signals.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KubernetesMount } from '../fixtures/kubernetes-mount.ts';
import { KZ, NODE, Story } from './kz.ts';
import { waitFor } from './processes.ts';

let story: Story;
let mount: KubernetesMount;

beforeEach(async () => {
  story = new Story();
  mount = new KubernetesMount(mkdtempSync(join(tmpdir(), 'kz-mounted-')));
  await mount.update({ TOKEN: story.canary() });
});

afterEach(() => {
  rmSync(mount.folder, { recursive: true, force: true });
  story.end();
});

/** Fills standard error beyond what pipes hold, answers what it hears, and at HUP says so. */
const SCRIPT = `
  process.on('SIGHUP', () => console.log('hangup'));
  process.stdin.on('data', (text) => console.log('heard ' + text.toString().trim()));
  require('node:child_process').spawn('sh', ['-c', 'yes filler | head -c 1000000 >&2'], { stdio: ['ignore', 'ignore', 'inherit'] });
`;

it('does not keep a notice about a rotation from being passed over, nor TERM from ending the run', async () => {
  story.config(`[secrets]\nTOKEN = { provider = "file", ref = "${mount.folder}/TOKEN", on_rotate = "signal:HUP" }\n`);
  // Of this end nothing is ever read.
  execFileSync('mkfifo', [join(story.folder, 'unread')]);
  const unread = openSync(join(story.folder, 'unread'), constants.O_RDWR);
  const child = spawn(NODE, [KZ, 'run', '--', NODE, '-e', SCRIPT], {
    cwd: story.project,
    env: story.environment(),
    stdio: ['pipe', 'pipe', unread],
    detached: true,
  });
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stdin?.write('one\n');
  await waitFor('the first answer', () => said.includes('heard one'));
  await mount.update({ TOKEN: story.canary() });
  await waitFor('the hangup', () => said.includes('hangup'));
  child.stdin?.write('two\n');
  await waitFor('an answer after the notice', () => said.includes('heard two'));
  child.kill('SIGTERM');
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  expect([code, signal]).toEqual([null, 'SIGTERM']);
  closeSync(unread);
  rmSync(join(story.folder, 'unread'));
});
