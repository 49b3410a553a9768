// Who kz is for Google; what it asks for then is in gcp.test.ts.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/providers/gcp-crc32c.ts';
import type { Provider } from '../../src/providers/provider.ts';
import { CANARY, DB, folder, get, google, open, show, thrown, useGoogle } from '../fixtures/gcp-home.ts';

useGoogle();

describe('credentials', () => {
  const value = async (provider: Provider): Promise<string | undefined> => {
    google.put(DB, CANARY);
    return show(await get(provider, ['projects/app/secrets/db']))[0];
  };
  const payers = (): unknown[] => google.requests.filter(({ path }) => path.endsWith(':access')).map(({ payer }) => payer);

  it('are a service account, a login, federation, impersonation, or the machine', async () => {
    for (const credentials of [google.serviceAccount, google.user, google.federated, google.impersonated, undefined]) {
      expect(await value(open(credentials))).toBe(CANARY);
    }
    expect(payers()).toEqual(Array.from({ length: 5 }, () => undefined));
  });

  it('name the project that pays', async () => {
    expect(await value(open({ ...google.user, quota_project_id: 'payer' }))).toBe(CANARY);
    expect(await value(open({ ...google.serviceAccount, quota_project_id: 'payer' }))).toBe(CANARY);
    expect(await value(open({ ...google.user, quota_project_id: 'payer' }, { env: { GOOGLE_CLOUD_QUOTA_PROJECT: 'other' } }))).toBe(CANARY);
    expect(payers()).toEqual(['payer', 'payer', 'other']);
  });

  it('are where gcloud puts them', async () => {
    google.isMachine = false;
    mkdirSync(join(folder, '.config/gcloud'), { recursive: true });
    writeFileSync(join(folder, '.config/gcloud/application_default_credentials.json'), JSON.stringify(google.user));
    expect(await value(open())).toBe(CANARY);
    const error = await thrown(value(open(undefined, { env: { CLOUDSDK_CONFIG: folder } })));
    expect(error.message).toContain('there are no Google credentials');
    expect(error.hint).toBe('run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS');
  });

  it('of a machine are asked for once, and not at all when that is switched off', async () => {
    const provider = open();
    await value(provider);
    await value(provider);
    expect(google.requests.filter(({ path }) => path.startsWith('/computeMetadata/'))).toHaveLength(1);
    const env = { GCE_METADATA_HOST: '', NO_GCE_CHECK: 'true' };
    expect((await thrown(value(open(undefined, { env })))).code).toBe('provider-locked');
  });

  it.each([
    [{ error: 'invalid_grant', error_description: 'Token has been expired or revoked. CANARY' }, 400, 'provider-locked', 'invalid_grant'],
    [
      { error: 'invalid_grant', error_subtype: 'invalid_rapt', error_description: 'reauth related error' },
      400,
      'provider-locked',
      'invalid_rapt',
    ],
    [{ error: 'unauthorized_client' }, 401, 'provider-locked', 'refused'],
    [{ error: { message: 'CANARY', status: 'PERMISSION_DENIED' } }, 403, 'provider-denied', 'gives no token'],
  ])('that Google refuses with %j', async (body, status, code, words) => {
    google.tokenRefusal = { status, body };
    for (const credentials of [google.user, google.serviceAccount, google.federated]) {
      const error = await thrown(value(open(credentials)));
      expect([error.code, error.message.includes(words)]).toEqual([code, true]);
      expect(error.hint).toBeDefined();
    }
    const { hint } = await thrown(value(open(google.user)));
    if (code === 'provider-locked') expect(hint).toContain('run `gcloud auth application-default login`');
  });

  it.each([
    ['no JSON CANARY', 'holds no Google credentials that kz knows'],
    [{ type: 'pirate' }, 'holds no Google credentials that kz knows'],
    [{ type: 'service_account', client_email: 'x' }, 'holds no Google credentials that kz knows'],
    [{ type: 'service_account', client_email: 'x', private_key: 'CANARY' }, 'cannot log in with the credentials in'],
    [{ type: 'external_account' }, 'holds no Google credentials that kz knows'],
  ])('%j are none', async (credentials, words) => {
    const error = await thrown(value(open(credentials)));
    expect([error.code, error.message.includes(words)]).toEqual(['provider-locked', true]);
  });

  it('are not there, or no file', async () => {
    const path = join(folder, 'nowhere.json');
    const error = await thrown(value(open(undefined, { env: { GOOGLE_APPLICATION_CREDENTIALS: path } })));
    expect(error.message).toBe(`the file ${JSON.stringify(path)} of GOOGLE_APPLICATION_CREDENTIALS does not exist`);
    expect((await thrown(value(open(undefined, { env: { GOOGLE_APPLICATION_CREDENTIALS: folder } })))).code).toBe('provider-locked');
  });
});

describe('CRC-32C', () => {
  it.each([
    ['RFC 3720: 32 zeros', Buffer.alloc(32), 0x8a9136aa],
    ['RFC 3720: 32 ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
    ['RFC 3720: 0 to 31', Buffer.from(Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e],
    ['123456789', Buffer.from('123456789'), 0xe3069283],
    ['nothing', Buffer.alloc(0), 0],
  ])('%s', (_case, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });
});
