// NODE_TLS_REJECT_UNAUTHORIZED=0 is for the programs that kz starts. kz itself, and the libraries in it, prove to whom they talk.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { NODE, Story } from './kz.ts';
import { Upstream } from './upstream.ts';

const UNCHECKED = { NODE_TLS_REJECT_UNAUTHORIZED: '0' };

let story: Story;
let upstream: Upstream;

beforeEach(async () => {
  story = new Story();
  upstream = await Upstream.start((_request, response) => response.end('{}'));
});
afterEach(async () => {
  await upstream.stop();
  story.end();
});

it.each([
  ['vault', 'ref = "kv/app#x"', 'address'],
  ['aws', 'ref = "sm://app"', 'region = "eu-west-1"\nendpoint'],
])('%s: the server hears nothing', async (provider, ref, option) => {
  const token = story.canary();
  const address = `https://localhost:${String(upstream.port)}`;
  story.config(`[secrets]\nA = { provider = "${provider}", ${ref} }\n[providers.${provider}]\n${option} = "${address}"\n`);
  const env = { ...UNCHECKED, VAULT_TOKEN: token, AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: token };
  const { code, stderr } = await story.kz(['get', 'A'], { env });
  expect([code, stderr]).toEqual([1, expect.stringContaining('TLS certificate or handshake was refused')]);
  expect(upstream.received).toEqual([]);
});

it('the program that kz starts has the variable as it was', async () => {
  story.config('[secrets]\nA = { provider = "env", ref = "A" }\n');
  const script = 'console.log(process.env.NODE_TLS_REJECT_UNAUTHORIZED)';
  const { stdout } = await story.kz(['run', '--', NODE, '-e', script], { env: { ...UNCHECKED, A: story.canary() } });
  expect(stdout).toBe('0\n');
});

it('kz ends when its time is over, although a program that gives AWS credentials does not', async () => {
  story.config('[secrets]\nA = { provider = "aws", ref = "sm://app" }\n[providers.aws]\nprofile = "slow"\nregion = "eu-west-1"\n');
  const config = story.write('aws-config', '[profile slow]\ncredential_process = sleep 20\n');
  const start = performance.now();
  const { code, stderr } = await story.kz(['get', 'A', '--timeout', '1s'], { env: { AWS_CONFIG_FILE: config } });
  expect([code, stderr]).toEqual([1, expect.stringContaining('did not answer in time')]);
  expect(performance.now() - start).toBeLessThan(10_000);
});
