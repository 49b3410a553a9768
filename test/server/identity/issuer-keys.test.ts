// Where an issuer's keys come from, and what happens when they cannot be had.
import { utimesSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Verifier } from '../../../src/server/identity/verify.ts';
import { base64url, SigningKey, TestIssuer, type EntryOptions, type IssuerOptions, type Trouble } from './issuer.ts';

const START = Date.parse('2026-06-01T12:00:00Z');
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const signal = new AbortController().signal;

let nowMs = START;
const now = (): number => nowMs;
const started: TestIssuer[] = [];
const warnings: string[] = [];

beforeEach(() => {
  nowMs = START;
  warnings.length = 0;
});

afterEach(async () => {
  for (const issuer of started.splice(0)) await issuer.close();
});

async function start(options: IssuerOptions = {}): Promise<TestIssuer> {
  const issuer = await TestIssuer.start({ now, keys: [new SigningKey('ES256')], ...options });
  started.push(issuer);
  return issuer;
}

function open(issuer: TestIssuer, options: EntryOptions = {}, fetchTimeoutMs = 5000): Promise<Verifier> {
  return Verifier.open([issuer.entry(options)], { env: {}, now, fetchTimeoutMs, warn: (message) => warnings.push(message) });
}

/** Long-lived, so that a day can pass, and another one each time. */
function token(issuer: TestIssuer, key = issuer.key): string {
  return key.sign(issuer.claims({ exp: issuer.seconds() + 10 * 86_400 }));
}

async function expectGood(verifier: Verifier, jwt: string): Promise<void> {
  expect((await verifier.verify(jwt, signal)).sub).toBe('lab-subject');
}

async function expectUnavailable(verifier: Verifier, jwt: string, message: RegExp): Promise<void> {
  const failure = { code: 'keys-unavailable', status: 503, retryAfterMs: 5000, message: expect.stringMatching(message) as string };
  await expect(verifier.verify(jwt, signal)).rejects.toMatchObject(failure);
}

function timeoutOf(trouble: Trouble): number {
  return trouble === 'slow' || trouble === 'drip' ? 50 : 5000;
}

async function expectNoKey(verifier: Verifier, jwt: string): Promise<void> {
  await expect(verifier.verify(jwt, signal)).rejects.toMatchObject({
    code: 'jwt-invalid',
    message: expect.stringContaining('has no key for') as string,
  });
}

describe('a key set at a URL', () => {
  it('is fetched once for 10 minutes', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    expect(issuer.requests).toEqual([]);
    for (const minutes of [0, 5, 9.9]) {
      nowMs = START + minutes * MINUTE;
      await expectGood(verifier, token(issuer));
    }
    expect(issuer.requests).toEqual(['/jwks']);
    nowMs = START + 21 * MINUTE;
    await expectGood(verifier, token(issuer));
    expect(issuer.fetches).toBe(2);
  });

  it('is fetched once for 1,000 calls at the same time', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    const jwts = Array.from({ length: 1000 }, () => token(issuer));
    const callers = await Promise.all(jwts.map((jwt) => verifier.verify(jwt, signal)));
    expect(new Set(callers.map(({ id }) => id)).size).toBe(1000);
    expect(issuer.fetches).toBe(1);
  });

  it('may hold keys of which some are no keys at all', async () => {
    const issuer = await start();
    const off = { kty: 'EC', crv: 'P-256', x: base64url(Buffer.alloc(32, 1)), y: base64url(Buffer.alloc(32, 2)) };
    issuer.jwks = { keys: [null, 7, {}, { kty: 'RSA' }, { ...off, x: 'AA', y: 'AA' }, off, { kty: 'AKP' }, issuer.key.jwk] };
    await expectGood(await open(issuer), token(issuer));
  });
});

describe('rotation', () => {
  it('finds a new key at once', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    await expectGood(verifier, token(issuer));
    nowMs += 1000;
    issuer.rotate();
    await expectGood(verifier, token(issuer));
    expect(issuer.fetches).toBe(2);
  });

  it('does not trust a removed key for longer than the set and a minute', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    const old = issuer.key;
    const jwt = token(issuer);
    await expectGood(verifier, jwt);
    issuer.rotate();
    await expectGood(verifier, token(issuer));
    nowMs += MINUTE;
    await expectNoKey(verifier, jwt);
    await expectNoKey(verifier, token(issuer, old));
  });

  it('asks for unknown keys every 30 seconds at most, and once for many', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    await expectGood(verifier, token(issuer));
    const forged = (): string => token(issuer, new SigningKey('ES256'));
    await Promise.all(Array.from({ length: 50 }, () => expectNoKey(verifier, forged())));
    expect(issuer.fetches).toBe(2);
    nowMs += 29_000;
    await expectNoKey(verifier, forged());
    expect(issuer.fetches).toBe(2);
    issuer.rotate();
    await expectNoKey(verifier, token(issuer));
    nowMs += 1000;
    await expectGood(verifier, token(issuer));
    expect(issuer.fetches).toBe(3);
  });

  it('takes an empty set for what it says', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    await expectGood(verifier, token(issuer));
    issuer.jwks = { keys: [] };
    nowMs += 21 * MINUTE;
    await expectNoKey(verifier, token(issuer));
    expect((await verifier.check(signal)).get('lab')?.message).toBe('its key set has no key for signatures');
  });
});

describe('a server that is in trouble', () => {
  const troubles: readonly [Trouble, RegExp][] = [
    ['down', /cannot reach http:\/\/127\.0\.0\.1:\d+\/jwks \(ECONNRESET\)$/],
    ['slow', /\/jwks did not answer in time$/],
    ['drip', /\/jwks did not answer in time$/],
    ['huge', /the answer of http.*\/jwks is longer than 1 MiB$/],
    ['endless', /is longer than 1 MiB$/],
    ['many', /gave 101 keys; kz takes at most 100$/],
    ['garbage', /the answer of .* is no JSON$/],
    ['redirect', /redirects \(302\), which kz does not follow/],
    [500, /answered 500$/],
    [204, /answered 204$/],
  ];

  it.each(troubles)('%s: nobody can say whether a token is good, until it answers', async (trouble, message) => {
    const issuer = await start();
    const verifier = await open(issuer, {}, timeoutOf(trouble));
    issuer.trouble = trouble;
    await expectUnavailable(verifier, token(issuer), message);
    expect((await verifier.check(signal)).get('lab')?.message).toMatch(message);
    issuer.trouble = undefined;
    nowMs += 5000;
    await expectGood(verifier, token(issuer));
    expect((await verifier.check(signal)).get('lab')).toBeUndefined();
    expect(issuer.requests).not.toContain('/moved');
  });

  it.each(troubles)('%s: the last keys go on verifying for a day, and kz says so once', async (trouble, message) => {
    const issuer = await start();
    const verifier = await open(issuer, {}, timeoutOf(trouble));
    await expectGood(verifier, token(issuer));
    issuer.trouble = trouble;
    for (const hours of [1, 2, 23.9]) {
      nowMs = START + hours * HOUR;
      await expectGood(verifier, token(issuer));
    }
    expect(warnings).toEqual([
      expect.stringMatching(/^issuer "lab": tokens are verified with the last keys that could be had, for up to 24 hours: /),
    ]);
    expect(warnings[0]).toMatch(message);
    nowMs = START + 25 * HOUR;
    await expectUnavailable(verifier, token(issuer), message);
  });

  it('nobody listens', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    await issuer.stop();
    await expectUnavailable(verifier, token(issuer), /cannot reach .* \(ECONNREFUSED\)$/);
  });

  it('is asked once for 1,000 calls, and not again for 5 seconds', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    issuer.trouble = 500;
    await Promise.all(Array.from({ length: 1000 }, () => expectUnavailable(verifier, token(issuer), /answered 500$/)));
    nowMs += 4999;
    await expectUnavailable(verifier, token(issuer), /answered 500$/);
    expect(issuer.fetches).toBe(1);
    nowMs += 1;
    await expectUnavailable(verifier, token(issuer), /answered 500$/);
    expect(issuer.fetches).toBe(2);
  });

  it('is asked every 30 seconds while the last keys are in use, without anybody waiting', async () => {
    const issuer = await start();
    const verifier = await open(issuer, {}, HOUR);
    await expectGood(verifier, token(issuer));
    issuer.trouble = 500;
    nowMs += HOUR;
    await expectGood(verifier, token(issuer));
    expect(issuer.fetches).toBe(2);
    // From here on a call that waited would never return.
    issuer.trouble = 'slow';
    nowMs += 29_000;
    await expectGood(verifier, token(issuer));
    expect(issuer.fetches).toBe(2);
    nowMs += 1000;
    await expectGood(verifier, token(issuer));
    await expectGood(verifier, token(issuer));
  });

  it('cannot say whether an unknown key is a new one', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    await expectGood(verifier, token(issuer));
    issuer.trouble = 500;
    await expectUnavailable(verifier, token(issuer, new SigningKey('ES256')), /answered 500$/);
    await expectGood(verifier, token(issuer));
  });

  it('says nothing of its answer', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    issuer.trouble = 'garbage';
    const error: unknown = await verifier.verify(token(issuer), signal).catch((thrown: unknown) => thrown);
    for (let each: unknown = error; each instanceof Error; each = each.cause)
      expect(`${each.message} ${each.stack ?? ''}`).not.toContain('CANARY');
  });

  it('does not hold up an issuer with static keys, nor the other issuers', async () => {
    const issuer = await start();
    const fine = await start();
    const key = new SigningKey('ES256');
    const entries = [issuer.entry({ staticKeys: [key.static()] }), fine.entry({ name: 'fine' })];
    const verifier = await Verifier.open(entries, { env: {}, now });
    issuer.trouble = 'slow';
    await expectGood(verifier, token(issuer, key));
    await expectGood(verifier, token(fine));
    expect(issuer.requests).toEqual([]);
  });
});

describe('a caller who goes away', () => {
  it('ends its own wait, not the fetch of the others', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    const leaving = new AbortController();
    const left = verifier.verify(token(issuer), leaving.signal);
    const stayed = verifier.verify(token(issuer), signal);
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: 'cancelled' });
    expect((await stayed).sub).toBe('lab-subject');
    expect(issuer.fetches).toBe(1);
  });

  it('ends a check', async () => {
    const issuer = await start();
    const verifier = await open(issuer);
    expect((await verifier.check(AbortSignal.abort())).get('lab')?.message).toBe('its keys did not come in time');
  });
});

describe('a key set file', () => {
  it('verifies without a server', async () => {
    const issuer = await start();
    await expectGood(await open(issuer, { keysFrom: 'file' }), token(issuer));
    expect(issuer.requests).toEqual([]);
  });

  it('is read again when it changes', async () => {
    const issuer = await start();
    const verifier = await open(issuer, { keysFrom: 'file' });
    const old = issuer.key;
    await expectGood(verifier, token(issuer));
    issuer.rotate();
    await expectGood(verifier, token(issuer));
    nowMs += 3000;
    await expectNoKey(verifier, token(issuer, old));
  });

  it('goes on verifying with what it was when it breaks, and says so', async () => {
    const issuer = await start();
    const verifier = await open(issuer, { keysFrom: 'file' });
    issuer.writeJwksFile('{"keys":');
    nowMs += 3000;
    await expectGood(verifier, token(issuer));
    expect(warnings).toEqual([expect.stringMatching(/24 hours: file ".*jwks\.json" is no JSON$/)]);
    issuer.writeJwksFile();
    utimesSync(issuer.jwksFile, 1, 1);
    nowMs += 3000;
    await expectGood(verifier, token(issuer));
    nowMs += 30 * HOUR;
    await expectGood(verifier, token(issuer));
  });

  it.each([
    ['garbage', '<html>', /is no JSON$/],
    ['no key set', '[]', /gave no JSON Web Key Set$/],
    ['no keys', '{"keys":[]}', /holds no key for signatures$/],
    ['weak keys', JSON.stringify({ keys: [new SigningKey('RS256', { size: 1024 }).jwk] }), /holds a weak key/],
  ])('with %s is refused when the bundle is opened', async (_name, text, message) => {
    const issuer = await start();
    issuer.writeJwksFile(text);
    await expect(open(issuer, { keysFrom: 'file' })).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringMatching(message) as string,
      at: { file: '/bundle.yaml', line: 3 },
    });
  });
});
