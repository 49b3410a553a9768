// The AWS provider against the fake of test/fixtures/aws-fake.ts. What a server does that works is in aws-contract.ts, and runs on moto's
// server too; what goes wrong is in aws-errors.test.ts and aws-session.test.ts.
import { PutParameterCommand } from '@aws-sdk/client-ssm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { openAws } from '../../src/providers/aws.ts';
import { AwsFake } from '../fixtures/aws-fake.ts';
import { awsContract, CANARY, clients, failure, isolate, open, put, ref, REGION, values, where } from './aws-contract.ts';

const NEVER = new AbortController().signal;

describe('secrets and parameters', () => {
  awsContract(() => AwsFake.start());
});

let fake: AwsFake;
beforeAll(async () => {
  fake = await AwsFake.start();
});
afterEach(() => {
  fake.forget();
});
afterAll(async () => {
  await fake.stop();
});
isolate();

describe('round trips', () => {
  const secrets = Array.from({ length: 200 }, (_, index) => `sm://many/${String(index)}`);
  const parameters = Array.from({ length: 200 }, (_, index) => `ssm:///many/${String(index)}`);
  beforeAll(async () => {
    const provider = open(fake.endpoint);
    for (const text of [...secrets, ...parameters]) await put(provider, text, `value of ${text}`);
  });

  it('do not grow with the number of secrets', async () => {
    fake.counts();
    expect(await values(open(fake.endpoint), ...secrets)).toEqual(secrets.map((text) => `value of ${text}`));
    expect(fake.counts()).toEqual({ BatchGetSecretValue: 10 });
    expect(await values(open(fake.endpoint), ...parameters)).toEqual(parameters.map((text) => `value of ${text}`));
    expect(fake.counts()).toEqual({ GetParameters: 20 });
  });

  it('are one for all keys of a document, and one for each version', async () => {
    const provider = open(fake.endpoint);
    await put(provider, 'sm://one', JSON.stringify({ a: '1', b: '2' }));
    fake.counts();
    expect(await values(provider, 'sm://one#a', 'sm://one#b', 'sm://one', 'sm://one#c')).toEqual([
      '1',
      '2',
      '{"a":"1","b":"2"}',
      'secret-missing',
    ]);
    expect(fake.counts()).toEqual({ GetSecretValue: 1 });
    await values(provider, 'sm://one#a', 'sm://many/1', 'sm://many/1@AWSCURRENT', 'ssm:///many/1', 'ssm:///many/1:1', 'ssm:///many/2');
    expect(fake.counts()).toEqual({ BatchGetSecretValue: 1, GetSecretValue: 1, GetParameters: 2 });
  });

  it('are one a secret where lists are not allowed, and lists are tried once', async () => {
    fake.refuse('BatchGetSecretValue', { status: 400, type: 'AccessDeniedException' });
    const provider = open(fake.endpoint);
    expect(await values(provider, ...secrets.slice(0, 15))).toEqual(secrets.slice(0, 15).map((text) => `value of ${text}`));
    expect(fake.counts()).toEqual({ BatchGetSecretValue: 1, GetSecretValue: 15 });
    await values(provider, ...secrets.slice(0, 15));
    expect(fake.counts()).toEqual({ GetSecretValue: 15 });
  });

  it('tell which parameter is refused when the list is', async () => {
    fake.instead = ({ body }) => {
      const names = body.Names as string[];
      return names.includes('/many/3')
        ? { status: 400, type: 'AccessDeniedException', message: `User is not authorized: ${CANARY}` }
        : undefined;
    };
    const outcomes = await values(open(fake.endpoint), ...parameters.slice(0, 5));
    expect(outcomes.map((each) => each.replace(/ .*/, ''))).toEqual(['value', 'value', 'value', 'provider-denied', 'value']);
    expect(fake.counts()).toEqual({ GetParameters: 6 });
  });

  it('ask again, alone, for what a list left out', async () => {
    fake.instead = ({ operation }) => (operation === 'BatchGetSecretValue' ? { status: 200, raw: '{"SecretValues":[]}' } : undefined);
    expect(await values(open(fake.endpoint), ...secrets.slice(0, 3))).toEqual(secrets.slice(0, 3).map((text) => `value of ${text}`));
  });
});

describe('refs', () => {
  const uuid = '3f1c2b6e-0f6b-4f0e-9a51-5a2f4d2f1c11';
  it.each([
    ['sm://', undefined],
    ['sm://a b', undefined],
    ['sm://a#', undefined],
    ['sm://a\n', undefined],
    ['sm://a@AWSCURRENT#k@AWSPREVIOUS', undefined],
    ['prod/db', undefined],
    ['ssm://', undefined],
    ['ssm:///a:b:c', undefined],
    ['arn:aws:s3:::bucket', undefined],
    ['sm://mail@example.com', { SecretId: 'mail@example.com' }],
    ['sm:///slash', { SecretId: '/slash' }],
    ['sm://a@AWSPREVIOUS#k', { SecretId: 'a', VersionStage: 'AWSPREVIOUS' }],
    ['sm://a#k@awsprevious', { SecretId: 'a', VersionStage: 'AWSPREVIOUS' }],
    [`sm://a@${uuid}`, { SecretId: 'a', VersionId: uuid }],
    ['sm://a@stage:blue', { SecretId: 'a', VersionStage: 'blue' }],
    [`sm://a@version:${'v'.repeat(32)}`, { SecretId: 'a', VersionId: 'v'.repeat(32) }],
    ['arn:aws-cn:secretsmanager:cn-north-1:1:secret:a', { SecretId: 'arn:aws-cn:secretsmanager:cn-north-1:1:secret:a' }],
    ['ssm://a/b:3#k', { Names: ['/a/b:3'], WithDecryption: true }],
  ])('%j', async (text, asked) => {
    fake.requests.length = 0;
    const { code } = await failure(open(fake.endpoint), text);
    expect([code, fake.requests[0]?.body]).toEqual([asked === undefined ? 'ref-invalid' : 'secret-missing', asked]);
  });

  it('with a version, and ARNs of parameters, are not written', async () => {
    const provider = open(fake.endpoint);
    const arn = `arn:aws:ssm:${REGION}:123456789012:parameter/a`;
    for (const text of ['sm://a@AWSPREVIOUS', 'ssm://a:3', arn]) {
      await expect(put(provider, text, CANARY)).rejects.toMatchObject({ code: 'provider-read-only' });
      await expect(provider.remove?.(ref(text), NEVER)).rejects.toMatchObject({ code: 'provider-read-only' });
    }
    expect(fake.counts()).toEqual({});
  });

  it('are told as the place where a value goes', () => {
    const context = { env: {}, userDirectory: '/nowhere' };
    const provider = openAws({ region: REGION }, context);
    expect(provider.destination?.(ref('sm://prod/db#password'))).toBe(`Secrets Manager in ${REGION}, secret prod/db, key password`);
    expect(provider.destination?.(ref('ssm://prod/db'))).toBe(`the Parameter Store in ${REGION}, SecureString /prod/db`);
    expect(provider.destination?.(ref('arn:aws:secretsmanager:us-east-2:1:secret:a'))).toContain('Secrets Manager in us-east-2,');
    expect(openAws({ profile: 'ci' }, context).destination?.(ref('sm://a'))).toBe('Secrets Manager in the region of profile ci, secret a');
  });
});

describe('writing', () => {
  it('keeps the KMS key and the tier of a parameter', async () => {
    const { parameters } = clients(fake.endpoint);
    const command = { Name: '/kept', Value: 'x', Type: 'SecureString', KeyId: 'alias/mine', Tier: 'Advanced' } as const;
    await parameters.send(new PutParameterCommand(command));
    parameters.destroy();
    await put(open(fake.endpoint), 'ssm:///kept', CANARY);
    expect(fake.requests.at(-1)?.body).toEqual({ ...command, Value: CANARY, Overwrite: true });
  });

  it('does not make a secret where its ARN finds none', async () => {
    const arn = `arn:aws:secretsmanager:${REGION}:1:secret:gone-abcdef`;
    await expect(put(open(fake.endpoint), arn, CANARY)).rejects.toMatchObject({ code: 'secret-missing' });
  });

  it('names what is not allowed, and quotes nothing', async () => {
    fake.refuse('PutSecretValue', { status: 400, type: 'ValidationException', message: `Value '${CANARY}' at 'secretString'` });
    const error = await put(open(fake.endpoint), 'sm://x', CANARY).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'provider-failed',
      message: `${where(fake)} does not take secret "x" for secretsmanager:PutSecretValue (ValidationException)`,
    });
    expect((error as KzError).cause).toBeUndefined();
    fake.refuse('CreateSecret', { status: 400, type: 'AccessDeniedException' });
    await expect(put(open(fake.endpoint), 'sm://new', CANARY)).rejects.toMatchObject({ code: 'provider-denied' });
  });

  it('leaves a document alone that it cannot read', async () => {
    fake.refuse('GetSecretValue', { status: 400, type: 'AccessDeniedException' });
    await expect(put(open(fake.endpoint), 'sm://x#a', CANARY)).rejects.toMatchObject({ code: 'provider-denied' });
    expect(fake.counts()).toEqual({ GetSecretValue: 1 });
  });
});

describe('check', () => {
  it('needs no permission', async () => {
    fake.refuse('ListSecrets', { status: 400, type: 'AccessDeniedException' });
    const detail = `${where(fake)}; not allowed to list secrets, which kz does not need`;
    expect(await open(fake.endpoint).check?.(NEVER)).toEqual({ detail });
  });

  it('fails as reading would', async () => {
    fake.refuse('ListSecrets', { status: 400, type: 'UnrecognizedClientException' });
    await expect(open(fake.endpoint).check?.(NEVER)).rejects.toMatchObject({ code: 'provider-locked' });
    await expect(open('http://127.0.0.1:1').check?.(NEVER)).rejects.toMatchObject({ code: 'provider-unavailable' });
  });
});
