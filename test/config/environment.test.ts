import { expect, it } from 'vitest';
import { chooseEnvironment } from '../../src/config/environment.ts';

const DECLARED = ['production', 'staging'];

it.each([
  [{ environment: 'staging', env: { KEYZERO_ENV: 'production' } }, 'staging', '--env'],
  [{ env: { KEYZERO_ENV: 'production', NODE_ENV: 'staging' } }, 'production', 'KEYZERO_ENV'],
  [{ env: { NODE_ENV: 'production' } }, 'production', 'NODE_ENV'],
  [{ env: { RAILS_ENV: 'staging', APP_ENV: 'production' } }, 'staging', 'RAILS_ENV'],
  [{ env: { KEYZERO_ENV: '', NODE_ENV: '', APP_ENV: 'production' } }, 'production', 'APP_ENV'],
])('chooses by precedence: %j', (options, name, chosenBy) => {
  expect(chooseEnvironment(options, DECLARED)).toEqual({ name, chosenBy });
});

it('ignores a NODE_ENV that no file declares: that variable belongs to other tools', () => {
  expect(chooseEnvironment({ env: { NODE_ENV: 'test' } }, DECLARED)).toBeUndefined();
});

it.each([{ environment: 'prodution', env: {} }, { env: { KEYZERO_ENV: 'prodution' } }])(
  'refuses an unknown name that was asked for: %j',
  (options) => {
    expect(() => chooseEnvironment(options, DECLARED)).toThrow(
      expect.objectContaining({ code: 'environment-unknown', hint: 'did you mean "production"?' }),
    );
  },
);

it('refuses an empty --env, which is a variable that was not set', () => {
  const options = { environment: '', env: { KEYZERO_ENV: 'production' } };
  expect(() => chooseEnvironment(options, DECLARED)).toThrow(expect.objectContaining({ code: 'usage' }));
});
