// A secret that changes while the program runs: a mounted file, swapped as the kubelet swaps it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubernetesMount } from '../fixtures/kubernetes-mount.ts';
import { FIXTURES, NODE, Story } from './kz.ts';
import { alive, Running, waitFor } from './processes.ts';
import { answerJson, Upstream } from './upstream.ts';

let story: Story;
let mount: KubernetesMount;
let old: string;
let fresh: string;

beforeEach(async () => {
  story = new Story();
  // Apart from the story, which looks for values in its own folder.
  mount = new KubernetesMount(mkdtempSync(join(tmpdir(), 'kz-mounted-')));
  old = story.canary();
  fresh = story.canary();
  await mount.update({ TOKEN: old });
});

afterEach(() => {
  rmSync(mount.folder, { recursive: true, force: true });
  story.end();
});

function declared(more: string): string {
  return `[secrets]\nTOKEN = { provider = "file", ref = "${mount.folder}/TOKEN"${more} }\n`;
}

async function saysOnStderr(running: Running, text: string): Promise<void> {
  let said = '';
  running.child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await waitFor(`${text} in ${said}`, () => said.includes(text));
}

describe('blind mode', () => {
  let upstream: Upstream;

  beforeEach(async () => {
    upstream = await Upstream.start((request, response) => {
      answerJson(response, { you: request.headers.authorization });
    });
  });

  afterEach(() => upstream.stop());

  const asks = `while read -r url; do ${NODE} ${FIXTURES}blind-client.mjs "$url"; echo "done $$"; done`;

  function start(more: string): Running {
    upstream.configure(story, declared(`, hosts = ["api.example"]${more}`));
    return new Running(story.start(['run', '--blind', '--', 'sh', '-c', asks], { env: upstream.environment, keepInput: true }));
  }

  it('the next request carries the new value, and the program is the same', async () => {
    const running = start('');
    const ask = (path: string) => running.child.stdin?.write(`https://api.example/${path}\n`);
    ask('before');
    const [pid] = await running.numbers('done');
    const changed = saysOnStderr(running, 'TOKEN changed: the next request carries the new value');
    await mount.update({ TOKEN: fresh });
    await changed;
    ask('after');
    expect(await running.numbers('done', 2)).toEqual([pid, pid]);
    running.child.stdin?.end();
    const { code, stdout, stderr } = await running.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'kz: TOKEN changed: the next request carries the new value\n' });
    expect(upstream.received.map(({ path, headers }) => [path, headers.authorization])).toEqual([
      ['/before', `Bearer ${old}`],
      ['/after', `Bearer ${fresh}`],
    ]);
    story.examine(stdout, 'what the program printed');
    const audit = await story.kz(['audit', '--json']);
    expect(audit.stdout).toContain('"type":"rotation"');
    expect(audit.stdout).toContain('"names":["TOKEN"],"result":"adopted"');
  });

  it('a new value of the wrong shape is not adopted: the old one stays, and both the log and the user hear of it', async () => {
    const running = start(', min_length = 16');
    const ask = (path: string) => running.child.stdin?.write(`https://api.example/${path}\n`);
    ask('before');
    await running.numbers('done');
    const kept = saysOnStderr(running, 'fewer than min_length = 16');
    await mount.update({ TOKEN: story.guard('CANARY-shrt') });
    await kept;
    ask('after');
    await running.numbers('done', 2);
    running.child.stdin?.end();
    const { code, stderr } = await running.ended;
    expect(code).toBe(0);
    expect(stderr).toContain('the old value stays');
    expect(upstream.received.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${old}`, `Bearer ${old}`]);
    const audit = await story.kz(['audit', '--json']);
    expect(audit.stdout).toContain('"result":"kept"');
  });
});

describe('direct mode', () => {
  /** Says its pid and how long its value is, and at HUP says so again. */
  const shows = `
    process.on('SIGHUP', () => console.log('hangup ' + process.pid));
    console.log('length ' + process.env.TOKEN.length + ' ' + process.env.TOKEN);
    console.log('ready ' + process.pid);
    process.stdin.on('data', (text) => console.log('heard ' + text.toString().trim()));
    process.stdin.on('end', () => process.exit(3));
  `;

  function start(more: string, ...flags: string[]): Running {
    story.config(declared(more));
    return new Running(story.start(['run', ...flags, '--', NODE, '-e', shows], { keepInput: true }));
  }

  it('a restart gives the program the new value on the same pipes, and both values are redacted', async () => {
    fresh = story.canary('longer-');
    const running = start(', on_rotate = "restart"');
    const [first = 0] = await running.numbers('ready');
    await mount.update({ TOKEN: fresh });
    const [, second = 0] = await running.numbers('ready', 2);
    expect(second).not.toBe(first);
    expect(alive(first)).toBe(false);
    running.child.stdin?.write('hello\n');
    await running.said('heard hello');
    running.child.stdin?.end();
    const { code, stdout, stderr } = await running.ended;
    expect(code).toBe(3);
    expect(stderr).toBe('kz: TOKEN changed: the program is restarted\n');
    expect(stdout).toContain(`length ${String(old.length)} [redacted:TOKEN]\n`);
    expect(stdout).toContain(`length ${String(fresh.length)} [redacted:TOKEN]\n`);
    story.examine(stdout, 'the output');
  });

  it('on_rotate = "signal:HUP" sends the signal, and the program goes on', async () => {
    const running = start(', on_rotate = "signal:HUP"');
    const [pid = 0] = await running.numbers('ready');
    await mount.update({ TOKEN: fresh });
    expect(await running.numbers('hangup')).toEqual([pid]);
    running.child.stdin?.end();
    expect((await running.ended).code).toBe(3);
  });

  it('--on-rotate speaks for secrets that say nothing themselves', async () => {
    const running = start('', '--on-rotate', 'signal:HUP');
    const [pid = 0] = await running.numbers('ready');
    await mount.update({ TOKEN: fresh });
    expect(await running.numbers('hangup')).toEqual([pid]);
    running.child.stdin?.end();
    expect((await running.ended).code).toBe(3);
  });

  it('a folder as a document has its own on_rotate, for all of its variables', async () => {
    story.config(`[[secrets_from]]\nprovider = "file"\nref = "${mount.folder}"\non_rotate = "signal:HUP"\n`);
    const running = new Running(story.start(['run', '--', NODE, '-e', shows], { keepInput: true }));
    const [pid = 0] = await running.numbers('ready');
    await mount.update({ TOKEN: fresh });
    expect(await running.numbers('hangup')).toEqual([pid]);
    running.child.stdin?.end();
    expect((await running.ended).code).toBe(3);
  });

  it('a file that goes away does not stop the program', async () => {
    const running = start(', on_rotate = "restart"');
    await running.numbers('ready');
    const kept = saysOnStderr(running, 'the old value stays');
    await mount.update({});
    await kept;
    running.child.stdin?.end();
    expect((await running.ended).code).toBe(3);
  });

  it.each([
    ['HUP', 'signal:HUP'],
    ['sigusr2', 'signal:USR2'],
    ['signal:SIGTERM', 'signal:TERM'],
    ['Restart', 'restart'],
  ])('knows what was meant by the action %s', async (typed, meant) => {
    story.config(declared(''));
    const { stderr } = await story.kz(['run', '--on-rotate', typed, '--', 'true']);
    expect(stderr).toBe(`kz: error: --on-rotate cannot be "${typed}"\nkz: hint: did you mean ${meant}?\n`);
  });

  it('refuses an action that it does not know', async () => {
    story.config(declared(''));
    const { code, stderr } = await story.kz(['run', '--on-rotate', 'reload', '--', 'true']);
    expect({ code, stderr }).toEqual({
      code: 125,
      stderr: expect.stringContaining('--on-rotate cannot be "reload"\nkz: hint: one of restart, none, signal:HUP') as string,
    });
  });
});
