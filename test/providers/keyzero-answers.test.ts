// What a kz server may answer, and what nobody should: no value comes of it, and none of its words become part of an error.
import { createServer } from 'node:http';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CANARY, errorOf, KeyzeroLab, show } from './keyzero-lab.ts';

const lab = KeyzeroLab.forThisFile();
const { open, get, listen, failureOf } = lab;

describe('a refusal of one ref', () => {
  const ALLOW = 'no policy of the server’s bundle allows it: add one with `effect: allow`';
  const EXPLAIN = '`kz policy explain` on the server’s bundle shows which policy decided';

  it.each([
    [{ policy: 'default-deny', code: 'denied' }, 'provider-denied', 'denies a/b (denied, policy "default-deny")', ALLOW],
    [{ policy: 'no-prod', code: 'denied' }, 'provider-denied', 'denies a/b (denied, policy "no-prod")', EXPLAIN],
    [{ policy: `${CANARY}\u001b[31m`, code: CANARY, reason: CANARY }, 'provider-denied', 'denies a/b (no reason given)', EXPLAIN],
    [{ policy: 'p', code: 'ref-unknown' }, 'secret-missing', 'has no a/b', 'add it to `resources` of the server’s bundle'],
    [{ code: 'ref-invalid' }, 'ref-invalid', 'takes no ref a/b', 'write it as the server’s bundle does'],
    [
      { error: { code: 'secret-unavailable' } },
      'provider-failed',
      'could not get a/b (secret-unavailable)',
      'look at the log of the server',
    ],
    [{ code: 'secret-timeout' }, 'provider-failed', 'could not get a/b (secret-timeout)', 'look at the log of the server'],
  ])('%j', async (given, code, message, hint) => {
    lab.answer = () => ({
      body: { results: { 'a/b': { allowed: false, ...given }, good: { allowed: true, mode: 'direct', value: 'x' } } },
    });
    const [bad, good] = await get(open(), ['a/b', 'good']);
    const error = errorOf(bad);
    expect([error.code, error.message, error.hint]).toEqual([code, `kz server at ${lab.url} ${message}`, hint]);
    expect(inspect(error)).not.toContain(CANARY);
    expect(good?.ok).toBe(true);
  });

  it.each([
    [403, 'denied', 'provider-denied'],
    [404, 'ref-unknown', 'secret-missing'],
    [502, 'secret-unavailable', 'provider-failed'],
    [504, 'secret-timeout', 'provider-failed'],
  ])('that is alone may have its status, %i', async (status, code, ours) => {
    const results = { 'a/b': { allowed: false, policy: 'p', code, reason: CANARY, hint: CANARY } };
    lab.answer = () => ({ status, body: { error: CANARY, code, results } });
    expect(await failureOf(open())).toMatchObject({ code: ours, message: expect.stringContaining('a/b') as string });
    expect(lab.asked).toHaveLength(1);
  });

  it.each(['masked', 'short_lived'])('in mode %s is a token, and no value', async (mode) => {
    lab.answer = () => ({
      body: { results: { 'a/b': { allowed: true, policy: 'p', mode, ttl: 300, token: `KZ_TOK_${CANARY}`, value: CANARY } } },
    });
    const error = await failureOf(open());
    expect(error.code).toBe('provider-denied');
    expect(error.message).toBe(`kz server at ${lab.url} gives only a token for a/b (mode ${mode}), which works through its proxy alone`);
    expect(error.hint).toContain('`mode: direct`');
  });
});

describe('an answer', () => {
  const direct = { allowed: true, mode: 'direct', value: CANARY };

  it.each<[string, unknown]>([
    ['no JSON', `{"results": {"a/b": ${CANARY}`],
    ['nothing', ''],
    ['no results', { 'a/b': direct }],
    ['results in a list', { results: [direct] }],
    ['another ref', { results: { 'a/c': direct } }],
    ['a ref in another spelling', { results: { 'A/B': direct, 'a/b ': direct } }],
    ['a value instead of an answer', { results: { 'a/b': CANARY } }],
    ['null', { results: { 'a/b': null } }],
    ['nothing of allowed', { results: { 'a/b': { mode: 'direct', value: CANARY } } }],
    ['another word for allowed', { results: { 'a/b': { ...direct, allowed: 'true' } } }],
    ['no mode', { results: { 'a/b': { allowed: true, value: CANARY } } }],
    ['an unknown mode', { results: { 'a/b': { ...direct, mode: CANARY } } }],
    ['no value', { results: { 'a/b': { allowed: true, mode: 'direct' } } }],
    ['a value that is no text', { results: { 'a/b': { ...direct, value: { x: CANARY } } } }],
    ['a value of a prototype', `{"results": {"a/b": {"__proto__": ${JSON.stringify(direct)}}}}`],
    ['results of a prototype', `{"__proto__": {"results": {"a/b": ${JSON.stringify(direct)}}}}`],
    ['a ref of a prototype', `{"results": {"__proto__": {"a/b": ${JSON.stringify(direct)}}}}`],
  ])('with %s gives no value', async (_what, body) => {
    lab.answer = () => ({ body });
    expect(await failureOf(open())).toMatchObject({ code: 'provider-failed' });
  });

  it.each([{ 'a/b': direct }, { results: [direct] }, { results: null }, 'hello', '', []])(
    'of another server, %j, says which setting led there',
    async (body) => {
      lab.answer = () => ({ body });
      expect(await failureOf(open())).toMatchObject({
        code: 'provider-failed',
        message: `kz server at ${lab.url} does not answer as a kz server does`,
        hint: 'correct `url` in [providers.keyzero], or KEYZERO_URL',
      });
    },
  );

  it('of more than 4 MiB is not read to its end', async () => {
    lab.answer = () => ({ body: { results: { 'a/b': { ...direct, value: CANARY.repeat(300_000) } } } });
    expect(await failureOf(open())).toMatchObject({ code: 'provider-failed', message: expect.stringContaining('4 MiB') as string });
  });

  it.each([301, 302, 307, 308])('of %i is not followed', async (status) => {
    const elsewhere = await listen(createServer(lab.serve));
    lab.answer = () => ({ status, headers: { location: `${elsewhere}/v1/resolve` } });
    expect(await failureOf(open())).toMatchObject({
      code: 'provider-failed',
      message: `kz server at ${lab.url} answered ${String(status)}: kz takes its token to no other address`,
    });
    expect(lab.asked).toHaveLength(1);
  });

  it.each([
    [403, { code: 'denied' }, 'provider-denied', 'denies the request (denied)'],
    [403, CANARY, 'provider-denied', 'denies the request (403)'],
    [404, CANARY, 'provider-failed', 'has no /v1/resolve'],
    [413, { error: { code: 'too-large' } }, 'provider-failed', 'answered 413 (too-large)'],
    [500, { error: CANARY }, 'provider-failed', 'answered 500'],
    [502, { code: 'secret-unavailable' }, 'provider-failed', 'answered 502 (secret-unavailable)'],
    [204, '', 'provider-failed', 'answered 204'],
  ])('of %i %j speaks for all refs', async (status, body, code, message) => {
    lab.answer = () => ({ status, body });
    expect(await failureOf(open())).toMatchObject({ code, message: `kz server at ${lab.url} ${message}` });
    expect(lab.asked).toHaveLength(1);
  });

  it.each([429, 503, 502])('of %i is lab.asked for again', async (status) => {
    lab.values.set('a/b', CANARY);
    lab.answer = () => (lab.asked.length === 1 ? { status, body: 'busy' } : { body: { results: { 'a/b': lab.result('a/b')[1] } } });
    expect(show(await get(open(), ['a/b']))).toEqual([CANARY]);
    expect(lab.asked).toHaveLength(2);
  });

  it('of 429 that stays is a timeout that says so', async () => {
    lab.answer = () => ({ status: 429, headers: { 'retry-after': '60' }, body: CANARY });
    const error = await failureOf(open(), 'a/b', AbortSignal.timeout(300));
    expect(error).toMatchObject({ code: 'provider-timeout', message: expect.stringContaining('keeps answering 429') as string });
  });
});
