import { expect, it } from 'vitest';
import { oncePerReason } from '../../src/cli/same-problem.ts';
import { KzError, type ErrorFacts } from '../../src/core/errors.ts';

const down = new KzError('provider-unavailable', 'vault at http://127.0.0.1:1: nobody listens', { hint: 'start it' });

function named(name: string, cause: KzError, facts: ErrorFacts = {}): KzError {
  return new KzError(cause.code, `${name}: ${cause.message}`, { hint: cause.hint, cause, ...facts });
}

const lines = (problems: readonly KzError[]): string[] => oncePerReason(problems).map(({ message, hint = '' }) => `${message} / ${hint}`);

it('says one reason once, with the names, where it came first', () => {
  const missing = new KzError('secret-missing', 'C is missing', { hint: 'put it' });
  expect(lines([named('A', down), missing, named('B', down), named('aws prod/db', down), named('A', down)])).toEqual([
    'vault at http://127.0.0.1:1: nobody listens (A, B, aws prod/db) / start it',
    'C is missing / put it',
  ]);
});

it('leaves alone what differs in its hint, its message or its code, and what is alone', () => {
  const other = new KzError('provider-unavailable', down.message, { hint: 'look' });
  const denied = new KzError('provider-denied', down.message, { hint: 'start it' });
  const problems = [named('A', down), named('B', other), named('C', denied)];
  expect(oncePerReason(problems)).toEqual(problems);
});

it('leaves alone what has its own place in a file, and what names no secret', () => {
  const invalid = new KzError('config-invalid', 'has a bad form');
  const problems = [1, 2].map((line) => named('A', invalid, { at: { file: 'a.toml', line } }));
  const bare = [new KzError('usage', 'the same'), new KzError('usage', 'the same')];
  expect(oncePerReason([...problems, ...bare])).toEqual([...problems, ...bare]);
});
