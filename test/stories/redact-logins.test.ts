// What kz's providers log in with, in the output of a program that prints its environment.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

it('is inherited and hidden where the output is piped, also where only the config names the variable', async () => {
  story.config(
    '[secrets]\nA = { provider = "exec", ref = "echo CANARY-plain-value" }\n[providers.vault]\nsecret_id_env = "MY_SECRET_ID"\n',
  );
  const env = { VAULT_TOKEN: story.canary('hvs.'), AWS_SECRET_ACCESS_KEY: story.canary(), MY_SECRET_ID: story.canary() };
  const { stdout, code } = await story.kz(['run', '--', 'sh', '-c', 'echo "$VAULT_TOKEN $AWS_SECRET_ACCESS_KEY $MY_SECRET_ID"'], { env });
  expect({ stdout, code }).toEqual({
    stdout: '[redacted:VAULT_TOKEN] [redacted:AWS_SECRET_ACCESS_KEY] [redacted:MY_SECRET_ID]\n',
    code: 0,
  });
});

it('does not reach a program that is started with --clean-env', async () => {
  story.config('[secrets]\nA = { provider = "exec", ref = "echo CANARY-plain-value" }\n');
  const env = { VAULT_TOKEN: story.canary('hvs.') };
  const { stdout } = await story.kz(['run', '--clean-env', '--no-redact', '--', 'sh', '-c', 'echo "<$VAULT_TOKEN>"'], { env });
  expect(stdout).toBe('<>\n');
});
