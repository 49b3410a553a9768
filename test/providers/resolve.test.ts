import { expect, it } from 'vitest';
import { PROVIDER_NAMES } from '../../src/config/provider-names.ts';
import { Access, resolveRefs } from '../../src/providers/resolve.ts';

const access = (env: Record<string, string>): Access => new Access({}, { env, userDirectory: '/nonexistent/kz' });
const ref = (text: string) => ({ text, directory: '/' });

it('answers in the order of the questions, also for one that is asked twice', async () => {
  const lookups = ['B', 'A', 'GONE', 'B'].map((text) => ({ provider: 'env' as const, ref: ref(text) }));
  const answers = await resolveRefs(lookups, access({ A: '1', B: '2' }), AbortSignal.timeout(5000));
  expect(answers.map(({ outcome }) => (outcome.ok ? outcome.secret.reveal() : outcome.error.code))).toEqual([
    '2',
    '1',
    'secret-missing',
    '2',
  ]);
});

it('gives up on a provider that hangs, and keeps what the others said', async () => {
  const controller = new AbortController();
  const lookups = [
    { provider: 'exec' as const, ref: ref('sleep 60') },
    { provider: 'env' as const, ref: ref('A') },
  ];
  setTimeout(() => {
    controller.abort();
  }, 200);
  const answers = await resolveRefs(lookups, access({ A: '1', PATH: '/usr/bin:/bin' }), controller.signal);
  expect(answers.map(({ outcome }) => (outcome.ok ? 'ok' : outcome.error.code))).toEqual(['provider-timeout', 'ok']);
});

it('opens every provider without doing anything yet', async () => {
  for (const name of PROVIDER_NAMES) {
    expect(await new Access({ exec: { command: ['x'] } }, access({}).context).open(name)).toHaveProperty('get');
  }
});
