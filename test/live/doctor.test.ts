// `kz doctor` with a real Secret Service: open, locked, and gone silent.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from '../stories/kz.ts';
import { secretServiceProblem, startSecretService, type SecretService } from './secret-service.ts';

const problem = secretServiceProblem();

describe.skipIf(problem !== undefined)(`kz doctor and the keychain${problem === undefined ? '' : ` (skipped: ${problem})`}`, () => {
  let story: Story;
  let service: SecretService;

  beforeEach(async () => {
    story = new Story();
    story.config(
      '[secrets]\nA = { provider = "keychain", ref = "a", hosts = ["a.test"] }\nB = { provider = "keychain", ref = "b", hosts = ["a.test"] }\n',
    );
    const started = await startSecretService();
    if (started === undefined) throw new Error('no Secret Service');
    service = started;
    for (const name of ['A', 'B']) await story.kz(['put', name], { env: env(), input: story.canary() });
  });

  afterEach(async () => {
    await service.stop();
    story.end();
  });

  const env = (): Record<string, string> => ({ ...service.env, HOME: story.home });

  it('says that it works', async () => {
    const { code, stdout } = await story.kz(['doctor'], { env: env() });
    expect(code).toBe(0);
    expect(stdout).toMatch(/ok {4}keychain {2}\d+ ms/);
    expect(stdout).toContain('keychain: Secret Service, if one is on the D-Bus session bus');
  });

  it('says once that it is locked, and how to go on', async () => {
    await service.lock();
    const { code, stdout } = await story.kz(['doctor'], { env: env() });
    expect(code).toBe(1);
    expect(stdout.match(/is locked/g)).toHaveLength(1);
    expect(stdout).toMatch(/hint: log in to the desktop or unlock its keyring/);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('1 thing does not work');
  });

  it('does not wait for one that says nothing', async () => {
    service.freeze();
    const { code, stdout } = await story.kz(['doctor', '--json', '--timeout', '2s'], { env: env() });
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ providers: [{ name: 'keychain', state: 'failed', error: { code: 'provider-timeout' } }] });
  });
});
