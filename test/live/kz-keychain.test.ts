// The built kz with a real Secret Service: what a person with a desktop does.
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from '../stories/kz.ts';
import { secretServiceProblem, startSecretService, type SecretService } from './secret-service.ts';

const problem = secretServiceProblem();

describe.skipIf(problem !== undefined)(`kz with the keychain${problem === undefined ? '' : ` (skipped: ${problem})`}`, () => {
  let story: Story;
  let service: SecretService;

  beforeEach(async () => {
    story = new Story();
    story.config('[secrets]\nGITHUB_TOKEN = { provider = "keychain", ref = "github-pat" }\n');
    const started = await startSecretService();
    if (started === undefined) throw new Error('no Secret Service');
    service = started;
  });

  afterEach(async () => {
    await service.stop();
    story.end();
  });

  const env = (): Record<string, string> => ({ ...service.env, HOME: story.home });

  it('stores a value, finds it again and gives it to a program', async () => {
    const value = story.canary();
    expect((await story.kz(['status'], { env: env() })).stdout).toContain('missing');
    const put = await story.kz(['put', 'GITHUB_TOKEN'], { env: env(), input: `${value}\n` });
    expect(put.stderr).toContain('goes to the system keychain (service keyzero, account github-pat)');
    expect((await story.kz(['status'], { env: env() })).stdout).toContain(`set(${String(value.length)} chars)`);
    const run = await story.kz(['run', '--no-redact', '--', 'sh', '-c', 'printf %s "$GITHUB_TOKEN"'], { env: env(), reveals: true });
    expect(run.stdout).toBe(value);
    await story.kz(['rm', 'GITHUB_TOKEN', '--yes'], { env: env() });
    expect((await story.kz(['run', '--', 'true'], { env: env() })).code).toBe(125);
  });

  it('finds the bus of the session where the client left its address out', async () => {
    const value = story.canary();
    await story.kz(['put', 'GITHUB_TOKEN'], { env: env(), input: value });
    const { DBUS_SESSION_BUS_ADDRESS: address = '', ...starved } = env();
    const socket = /unix:path=([^,]*)/.exec(address)?.[1];
    expect(socket).toBeDefined();
    const runtime = join(story.folder, 'runtime');
    mkdirSync(runtime);
    symlinkSync(socket ?? '', join(runtime, 'bus'));
    const run = await story.kz(['run', '--', 'true'], { env: { ...starved, XDG_RUNTIME_DIR: runtime } });
    expect(run.stderr).toBe('');
    expect(run.code).toBe(0);
  });

  it('does not start a program with a locked keychain, and says how to go on', async () => {
    await story.kz(['put', 'GITHUB_TOKEN'], { env: env(), input: story.canary() });
    await service.lock();
    const run = await story.kz(['run', '--', 'echo', 'started'], { env: env() });
    expect(run.code).toBe(125);
    expect(run.stdout).toBe('');
    expect(run.stderr).toContain('GITHUB_TOKEN: the system keychain is locked');
    expect(run.stderr).toContain('provider = "store"');
  });

  it('shows one dialog when several start together', async () => {
    await service.stop();
    const started = await startSecretService({ dialog: 'answered' });
    if (started === undefined) throw new Error('no Secret Service');
    service = started;
    const value = story.canary();
    await story.kz(['put', 'GITHUB_TOKEN'], { env: env(), input: value });
    const dialogs = join(service.env.HOME ?? '', 'dialogs');
    for (const count of [1, 2, 3]) {
      await service.lock();
      const command = ['run', '--', 'sh', '-c', 'printf %s "${#GITHUB_TOKEN}"'];
      const runs = await Promise.all(['a', 'b', 'c', 'd'].map(() => story.kz(command, { env: env() })));
      expect(runs.map(({ stdout, stderr }) => [stdout, stderr])).toEqual(runs.map(() => [String(value.length), '']));
      expect(readFileSync(dialogs, 'utf8')).toBe('asked\n'.repeat(count));
    }
  });

  it('keeps the key of the embedded store, when that is wanted', async () => {
    story.config('[secrets]\nA = { provider = "store", ref = "a" }\n[providers.store]\nidentity = "keychain"\n');
    const value = story.canary();
    await story.kz(['put', 'A'], { env: env(), input: value });
    expect((await story.kz(['get', 'A'], { env: env(), reveals: true })).stdout).toBe(`${value}\n`);
    await service.lock();
    const locked = await story.kz(['get', 'A'], { env: env() });
    expect(locked.code).toBe(1);
    expect(locked.stderr).toContain('the key of the store is not available');
  });
});
