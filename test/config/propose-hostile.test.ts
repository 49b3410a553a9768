// `kz init` reads files of a folder that somebody else may have written: no content makes it take long.
import { describe, expect, it } from 'vitest';
import { proposeFromDotenv, proposeFromMcp, starterConfig } from '../../src/config/propose.ts';

/** Made to take long: each took many seconds where time grew with the square of the size, and takes some milliseconds where it does not. */
describe('a hostile file', () => {
  const lines = (count: number, line: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => `${line(index)}\n`).join('');
  /** Every spelling of sixteen letters in both cases. */
  const spelling = (index: number): string =>
    Array.from('abcdefghijklmnop', (letter, bit) => ((index >> bit) & 1 ? letter.toUpperCase() : letter)).join('');

  it.each<[what: string, propose: () => unknown]>([
    ['spaces', () => proposeFromDotenv(`A=x${' '.repeat(1_000_000)}x`, '.env')],
    ['comment signs', () => proposeFromDotenv(`A=x${' #'.repeat(500_000)}\u2028x`, '.env')],
    ['schemes', () => proposeFromDotenv(`A=${'://'.repeat(300_000)}`, '.env')],
    ['parameters', () => proposeFromDotenv(`A=x://${'?key=1&'.repeat(140_000)}`, '.env')],
    ['quotes', () => proposeFromDotenv(`A="${'\\"'.repeat(500_000)}`, '.env')],
    ['a long name', () => proposeFromDotenv(`A${'_TEST'.repeat(200_000)}=x`, '.env')],
    [
      'many secrets',
      () =>
        proposeFromDotenv(
          lines(60_000, (index) => `A${String(index)}_KEY=`),
          '.env',
        ),
    ],
    [
      'many arguments',
      () => proposeFromMcp(JSON.stringify({ servers: { a: { command: 'x', args: Array(80_000).fill('KEY=abcd') } } }), 'm.json'),
    ],
    [
      'many spellings of a name',
      () => starterConfig({ names: Array.from({ length: 60_000 }, (_, index) => spelling(index)), provider: 'store', project: '' }),
    ],
  ])('of %s is read in no time', (_, propose) => {
    const start = performance.now();
    propose();
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it('of more than 1 MiB is not looked at', () => {
    const problem = 'x is larger than 1 MiB';
    expect(proposeFromDotenv(`TOKEN=1\n${'#'.repeat(1024 * 1024)}`, 'x')).toMatchObject({ secrets: [], problem });
    expect(proposeFromMcp(`{}${' '.repeat(1024 * 1024)}`, 'x')).toMatchObject({ secrets: [], problem });
  });

  it('still has its comments taken off, and its addresses judged', () => {
    const found = proposeFromDotenv('A=x://h/?key=$KEY&token=CANARY-12 # no\nB=#x://h/?key=CANARY-12\nC=1\t#2 #3\nD=a#b\n', '.env');
    expect(found.secrets.map(({ name }) => name)).toEqual(['A']);
    expect(found.settings.map(({ name }) => name)).toEqual(['B', 'C', 'D']);
  });
});
