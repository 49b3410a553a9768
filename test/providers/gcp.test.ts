import { createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { apiError } from '../fixtures/gcp-fake.ts';
import { accesses, CANARY, DB, errorOf, get, google, NEVER, open, show, thrown, tokens, useGoogle } from '../fixtures/gcp-home.ts';

useGoogle();

describe('values', () => {
  it('come by full and short names, versions and regions', async () => {
    google.put(DB, `${CANARY}\n`, '7');
    google.put('projects/app/secrets/db/versions/3', 'third', '3');
    google.put('projects/app/locations/europe-west1/secrets/db/versions/live', 'regional', '9');
    google.put('projects/example.com:app/secrets/x/versions/latest', 'domain');
    const outcomes = await get(open(google.serviceAccount, { project: 'app' }), [
      'projects/app/secrets/db',
      'db',
      'db/versions/3',
      'projects/app/locations/europe-west1/secrets/db/versions/live',
      'projects/example.com:app/secrets/x',
    ]);
    expect(show(outcomes)).toEqual([`${CANARY}\n`, `${CANARY}\n`, 'third', 'regional', 'domain']);
    expect(outcomes.map((outcome) => (outcome.ok ? outcome.version : ''))).toEqual(['7', '7', '3', '9', '1']);
    expect(accesses()).toHaveLength(4);
    expect(tokens()).toBe(1);
  });

  it('are keys of one document, asked for once', async () => {
    google.put(DB, JSON.stringify({ username: 'app', password: CANARY, port: 5432, nested: { a: 'b' } }));
    const provider = open(google.user, { env: { GOOGLE_CLOUD_PROJECT: 'app' } });
    const outcomes = await get(provider, ['db#password', 'db#port', 'db#nested.a', 'db#pasword', 'db']);
    expect(show(outcomes).slice(0, 4)).toEqual([CANARY, '5432', 'b', 'secret-missing']);
    expect(errorOf(outcomes[3]).hint).toBe('did you mean "password"?');
    expect(JSON.parse(show(outcomes)[4] ?? '')).toMatchObject({ password: CANARY });
    expect(accesses()).toHaveLength(1);
  });

  it('may be empty, and must be text; a key needs JSON', async () => {
    google.put('projects/app/secrets/empty/versions/latest', '');
    google.put('projects/app/secrets/text/versions/latest', `${CANARY} no JSON`);
    google.versions.set('projects/app/secrets/raw/versions/latest', { data: Buffer.from([0xff, 0]) });
    const outcomes = await get(open(google.user, { project: 'app' }), ['empty', 'text#a', 'raw']);
    expect(show(outcomes)).toEqual(['', 'secret-invalid', 'secret-invalid']);
  });

  it('must arrive whole', async () => {
    google.versions.set(DB, { data: Buffer.from(CANARY), crc: '1' });
    const [outcome] = await get(open(google.user), ['projects/app/secrets/db']);
    expect([errorOf(outcome).code, errorOf(outcome).message]).toEqual([
      'provider-failed',
      `${DB} of Secret Manager arrived damaged: its checksum is another one`,
    ]);
  });

  it('of two hundred secrets come sixteen at a time, and three that fail stop no other', async () => {
    for (let index = 0; index < 200; index++)
      google.put(`projects/app/secrets/s${String(index)}/versions/latest`, `${CANARY}-${String(index)}`);
    for (const bad of [3, 77, 199]) google.versions.delete(`projects/app/secrets/s${String(bad)}/versions/latest`);
    const outcomes = await get(
      open(google.serviceAccount, { project: 'app' }),
      Array.from({ length: 200 }, (_, index) => `s${String(index)}`),
    );
    expect(outcomes.flatMap((outcome, index) => (outcome.ok ? [] : [index]))).toEqual([3, 77, 199]);
    expect(show(outcomes)[198]).toBe(`${CANARY}-198`);
    expect([tokens(), google.mostAtOnce <= 16, google.mostAtOnce >= 8]).toEqual([1, true, true]);
  });
});

describe('refs', () => {
  it.each([
    ['', 'is not the name of a secret'],
    ['projects/app/secrets', 'is not the name of a secret'],
    ['projects/app/secrets/../x', 'is not the name of a secret'],
    ['projects/app/secrets/db:access', 'is not the name of a secret'],
    ['projects/app/secrets/db/versions/1/x', 'is not the name of a secret'],
    ['projects/app/locations/evil.example/secrets/db', 'is not the name of a secret'],
    ['projects/../secrets/db', 'is in no project: ".." is not the ID of one'],
    ['projects/a?b/secrets/db', 'is in no project: "a?b" is not the ID of one'],
    ['projects/app/secrets/db#', 'names no key behind the #'],
    ['db', 'names no project'],
  ])('%j is none', async (text, problem) => {
    const [outcome] = await get(open(google.user), [text]);
    expect([errorOf(outcome).code, errorOf(outcome).message]).toEqual(['ref-invalid', `gcp ref ${JSON.stringify(text)} ${problem}`]);
    expect(google.requests).toEqual([]);
  });
});

describe('refusals', () => {
  interface Case {
    status: number;
    state: string;
    more?: { message?: string; reason?: string };
    code: string;
    message: string;
    hint?: string;
  }

  const DENIED = { status: 403, state: 'PERMISSION_DENIED', code: 'provider-denied' };
  const GONE = { status: 400, state: 'FAILED_PRECONDITION', code: 'secret-missing', hint: 'gcloud secrets versions list db --project=app' };

  it.each<Case>([
    { ...GONE, status: 404, state: 'NOT_FOUND', message: `Secret Manager has no ${DB}` },
    { ...GONE, more: { message: 'Secret Version [x] is in DISABLED state.' }, message: `${DB} of Secret Manager is disabled` },
    { ...GONE, more: { message: 'Secret Version [x] is in DESTROYED state.' }, message: `${DB} of Secret Manager is destroyed` },
    { ...GONE, state: 'INVALID_ARGUMENT', code: 'ref-invalid', message: `Secret Manager does not take the name ${DB}` },
    {
      ...DENIED,
      message: `Google does not let this account read ${DB}, or it is not there (403)`,
      hint: 'roles/secretmanager.secretAccessor',
    },
    {
      ...DENIED,
      more: { reason: 'SERVICE_DISABLED' },
      message: 'the API of Secret Manager is off in project "app"',
      hint: 'services enable',
    },
    { ...DENIED, more: { reason: 'USER_PROJECT_DENIED' }, message: 'does not let this account use', hint: 'set-quota-project app' },
    { ...DENIED, more: { reason: 'ACCESS_TOKEN_SCOPE_INSUFFICIENT' }, message: 'is not for Secret Manager', hint: 'cloud-platform' },
    { status: 500, state: 'INTERNAL', code: 'provider-failed', message: 'answered 500 for' },
  ])('$status $state $more', async ({ status, state, more, code, message, hint = '' }) => {
    google.refuse(DB, status, state, more);
    google.put('projects/app/secrets/good/versions/latest', CANARY);
    const [outcome, good] = await get(open(google.user), ['projects/app/secrets/db', 'projects/app/secrets/good']);
    const error = errorOf(outcome);
    expect([error.code, error.message.includes(message), (error.hint ?? '').includes(hint)]).toEqual([code, true, true]);
    expect(good?.ok).toBe(true);
  });

  it('429 and 503 are waited out', async () => {
    google.put(DB, CANARY);
    google.next.push({ status: 429, body: apiError(429, 'RESOURCE_EXHAUSTED'), headers: { 'retry-after': '0' } }, { status: 503 });
    expect(show(await get(open(google.user), ['projects/app/secrets/db']))).toEqual([CANARY]);
    expect(accesses()).toHaveLength(3);
  });

  it('429 without an end is told when the time is over', async () => {
    google.versions.set(DB, { status: 429 });
    const error = await thrown(get(open(google.user), ['projects/app/secrets/db'], AbortSignal.timeout(300)));
    expect([error.code, error.message]).toEqual([
      'provider-timeout',
      `Secret Manager at ${google.url} keeps answering 429, until kz’s time was over`,
    ]);
  });

  it('401 is answered with one new token, whoever asks', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `s${String(index)}`);
    for (const name of names) google.put(`projects/app/secrets/${name}/versions/latest`, CANARY);
    const provider = open(google.serviceAccount, { project: 'app' });
    await get(provider, ['s0']);
    google.oldestToken = 2;
    expect(new Set(show(await get(provider, names)))).toEqual(new Set([CANARY]));
    expect(tokens()).toBe(2);
    google.oldestToken = 99;
    const error = await thrown(get(provider, ['s0']));
    expect([error.code, error.message]).toEqual([
      'provider-locked',
      `Secret Manager at ${google.url} does not accept the token of ci@app.iam.gserviceaccount.com (401)`,
    ]);
  });

  it('an answer of another kind', async () => {
    google.versions.set(DB, { status: 200, body: { name: DB, payload: CANARY } });
    expect(show(await get(open(google.user), ['projects/app/secrets/db']))).toEqual(['provider-failed']);
  });

  it('nobody listens', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const provider = open(google.user, { endpoint: `http://127.0.0.1:${String(port)}` });
    expect((await thrown(get(provider, ['projects/app/secrets/db']))).code).toBe('provider-unavailable');
    const regional = await get(provider, ['projects/app/locations/europe-west1/secrets/db']);
    expect(show(regional)).toEqual(['provider-unavailable']);
  });
});

describe('check', () => {
  it('says who kz is, and reads no secret', async () => {
    expect(await open(google.serviceAccount).check?.(NEVER)).toEqual({ detail: 'ci@app.iam.gserviceaccount.com' });
    expect(await open(google.user, { project: 'app' }).check?.(NEVER)).toEqual({ detail: 'the login of gcloud, project app' });
    expect(accesses()).toEqual([]);
  });

  it('throws what get would', async () => {
    google.isMachine = false;
    expect((await thrown(open().check?.(NEVER))).code).toBe('provider-locked');
    google.oldestToken = 99;
    expect((await thrown(open(google.user, { project: 'app' }).check?.(NEVER))).code).toBe('provider-locked');
  });
});
