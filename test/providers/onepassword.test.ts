import { describe, expect, it } from 'vitest';
import { ADMIN, calls, CANARY, errorOf, get, many, manyRefs, open, show, state, useOp } from '../fixtures/op-home.ts';

useOp();

describe('values', () => {
  it('come in one call, in order, with several lines, sections, attributes and nothing at all', async () => {
    const outcomes = await get(open(state()), [
      'op://Dev Team/Git Hub/password',
      'op://dev team/git hub/Admin/API Key',
      'op://vault1id/item1id/pem',
      'op://Dev Team/Git Hub/one-time password?attribute=otp',
      'op://Dev Team/Git Hub/empty',
      'op://Dev Team/Git Hub/password',
    ]);
    const pem = `-----BEGIN-----\n${CANARY}\n-----END-----\n`;
    const expected = [`${CANARY}-1`, `${CANARY}-2`, pem, `attribute=otp of ${CANARY}-4`, '', `${CANARY}-1`];
    expect(show(outcomes)).toEqual(expected);
    expect(calls()).toHaveLength(1);
    expect(calls()[0]?.args).toEqual(['inject', '--no-color']);
    expect(calls()[0]?.input.match(/\{\{/g)).toHaveLength(5);
  });

  it('may look like what is around them', async () => {
    const given = state();
    const value = `{{ op://Dev Team/Git Hub/pem }}\nkz-${'0'.repeat(32)}-0.\n$HOME \\n`;
    given.vaults[0]?.items[0]?.fields.push({ label: 'odd', value });
    expect(show(await get(open(given), ['op://Dev Team/Git Hub/odd', 'op://Dev Team/Git Hub/password']))).toEqual([value, `${CANARY}-1`]);
  });

  it('must be text', async () => {
    const [first, second] = await get(open(state()), ['op://Dev Team/Git Hub/raw', 'op://Dev Team/Git Hub/password']);
    expect(errorOf(first).code).toBe('secret-invalid');
    expect(second?.ok).toBe(true);
  });

  it('of a whole item are one JSON document', async () => {
    const given = state();
    given.vaults[0]?.items[0]?.fields.push({ label: 'password', value: `${CANARY}-7`, section: ADMIN });
    const outcomes = await get(open(given), ['op://Dev Team/Git Hub', 'op://Dev Team/nope', 'op://Dev Team/Git Hub/password']);
    expect(show(outcomes).slice(1)).toEqual(['secret-missing', `${CANARY}-1`]);
    expect(JSON.parse(show(outcomes)[0] ?? '')).toEqual({
      password: `${CANARY}-1`,
      'api key': `${CANARY}-2`,
      pem: `-----BEGIN-----\n${CANARY}\n-----END-----\n`,
      'one-time password': `${CANARY}-4`,
      'Admin.password': `${CANARY}-7`,
    });
  });

  it('of two hundred refs need one call', async () => {
    const outcomes = await get(open(many(200)), manyRefs(200));
    expect(show(outcomes)).toEqual(Array.from({ length: 200 }, (_, index) => `${CANARY}-${String(index)}`));
    expect(calls()).toHaveLength(1);
  });
});

describe('refs at fault', () => {
  const BAD = ['op://Dev Team/item 20/nope', 'op://Dev Team/nope/password', 'op://Nope/item 1/password'];

  function withBad(): string[] {
    const refs = manyRefs(197);
    refs.splice(30, 0, BAD[0] ?? '');
    refs.splice(100, 0, BAD[1] ?? '');
    refs.splice(199, 0, BAD[2] ?? '');
    return refs;
  }

  it.each([
    ['by their names, in few calls', {}, 8],
    ['in the words of `op read`', { words: 'quoted' }, 8],
    ['by halves, when op names nothing', { obscure: true }, 60],
  ])('are found among two hundred %s', async (_case, more, most) => {
    const refs = withBad();
    const outcomes = await get(open({ ...many(200), ...more, leaks: CANARY }), refs);
    expect(outcomes.flatMap((outcome, index) => (outcome.ok ? [] : [refs[index]]))).toEqual(BAD);
    expect(outcomes.filter(({ ok }) => ok)).toHaveLength(197);
    for (const outcome of outcomes) if (!outcome.ok) errorOf(outcome);
    expect(calls().length).toBeLessThanOrEqual(most);
  });

  it('say what is not there', async () => {
    const outcomes = await get(open(state()), [
      'op://Nope/Git Hub/password',
      'op://Dev Team/Nope/password',
      'op://Dev Team/Git Hub/pasword',
      'op://Dev Team/Git Hub/Admin/zzz',
    ]);
    expect(outcomes.map((outcome) => errorOf(outcome)).map(({ code, message, hint }) => [code, message, hint])).toEqual([
      ['ref-invalid', '1Password has no vault "Nope" for this account', 'run `op vault list`'],
      ['secret-missing', '1Password vault "Dev Team" has no item "Nope"', "run `op item list --vault 'Dev Team'`"],
      ['secret-missing', '1Password item "Git Hub" in vault "Dev Team" has no field "pasword"', 'did you mean "password"?'],
      [
        'secret-missing',
        '1Password item "Git Hub" in vault "Dev Team" has no field "zzz"',
        "run `op item get 'Git Hub' --vault 'Dev Team'`",
      ],
    ]);
  });

  it('are all of a vault, or an item, that is not there, in one call', async () => {
    const refs = manyRefs(50).map((ref) => ref.replace('Dev Team', 'Nope'));
    const outcomes = await get(open(many(1)), [...refs, 'op://Dev Team/item 0/password']);
    expect(show(outcomes)).toEqual([...refs.map(() => 'ref-invalid'), `${CANARY}-0`]);
    expect(calls()).toHaveLength(3);
  });

  it('are no longer looked for after 64 calls', async () => {
    const outcomes = await get(
      open({ ...many(200), obscure: true }),
      manyRefs(200).map((ref) => ref.replace('password', 'nope')),
    );
    expect(new Set(show(outcomes))).toEqual(new Set(['provider-failed']));
    expect(calls().length).toBeLessThanOrEqual(66);
    expect(errorOf(outcomes.at(-1)).message).toMatch(/^op cannot read ".*", or one of \d+ others$/);
  });

  it('are ambiguous, malformed, or not allowed', async () => {
    const given = state();
    given.vaults.push({ id: 'v2', name: 'Secret', denied: true, items: [] });
    const twin = { id: 'twin', title: 'Git Hub', fields: [] };
    given.vaults[0]?.items.push({ ...twin, title: 'Twin' }, { ...twin, id: 'twin2', title: 'Twin' });
    const outcomes = await get(open(given), [
      'op://Dev Team/Twin/password',
      'op://Dev Team/Gît/password',
      'op://Secret/x/y',
      'op://Dev Team/Git Hub/password',
    ]);
    expect(show(outcomes)).toEqual(['ref-invalid', 'ref-invalid', 'provider-denied', `${CANARY}-1`]);
  });

  it.each([
    ['vault/item/field', 'does not start with op://'],
    ['op://vault', 'has 1 part'],
    ['op://v/i/s/f/x', 'has 5 parts'],
    ['op://v//f', 'has a part that is empty, or starts or ends with a space'],
    ['op://v/i/f ', 'has a part that is empty, or starts or ends with a space'],
    ['op://v/i?attribute=otp', 'names no field'],
    ['op://v/-/f', 'has an item that starts with -'],
    ['op://v/i/f }}{{ op://v/i/g', 'holds "}", which op does not take in a ref'],
    ['op://v/i/f\nop://v/i/g', 'holds "\\n", which op does not take in a ref'],
    ['op://$APP_ENV/i/f', 'holds "$", which op does not take in a ref'],
  ])('%j is no ref', async (text, problem) => {
    const [outcome, good] = await get(open(state()), [text, 'op://Dev Team/Git Hub/password']);
    expect(errorOf(outcome).message).toBe(`1password ref ${JSON.stringify(text)} ${problem}`);
    expect(errorOf(outcome).code).toBe('ref-invalid');
    expect(good?.ok).toBe(true);
  });

  it('alone start no op', async () => {
    await get(open(state()), ['nope']);
    expect(() => calls()).toThrow('ENOENT');
  });
});
