import { expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { Redaction } from '../../src/run/redaction.ts';

const hidden = (value: string) => [{ name: 'TOKEN', secret: new Secret(value) }];

function open(value: string): { redaction: Redaction; print: (text: string) => string } {
  const redaction = new Redaction(hidden(value), [1], () => undefined);
  return { redaction, print: (text) => redaction.output.stdout?.push(Buffer.from(`${text}\n`)).toString() ?? text };
}

it.each([
  ['before', false],
  ['after', true],
])('hides the value before a rotation and the one after it, when the rotation comes %s the first output', (_, hasPrinted) => {
  const { redaction, print } = open('CANARY-before');
  if (hasPrinted) expect(print('one')).toBe('one\n');
  redaction.add(hidden('CANARY-after'));
  expect(print('CANARY-before CANARY-after')).toBe('[redacted:TOKEN] [redacted:TOKEN]\n');
  redaction.add(hidden('CANARY-later'));
  expect(print('CANARY-before CANARY-after CANARY-later')).toBe('[redacted:TOKEN] [redacted:TOKEN] [redacted:TOKEN]\n');
});

it('gives a stream that was not asked for no filter', () => {
  const { redaction } = open('CANARY-value');
  expect(redaction.output.stdout).toBeDefined();
  expect(redaction.output.stderr).toBeUndefined();
});
