// What AWS refuses, and what is no AWS: codes, words and hints, and nothing of what was sent or received.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { AwsFake } from '../fixtures/aws-fake.ts';
import { CANARY, failure, isolate, open, put, REGION, summary, values, where } from './aws-contract.ts';

let fake: AwsFake;
let folder: string;
beforeAll(async () => {
  fake = await AwsFake.start();
  folder = await mkdtemp(join(tmpdir(), 'kz-aws-'));
});
afterEach(() => {
  fake.forget();
});
afterAll(async () => {
  await fake.stop();
  await rm(folder, { recursive: true });
});
isolate();

describe('what AWS refuses', () => {
  const login = 'run `aws sso login`';
  const allow =
    'allow secretsmanager:GetSecretValue in the IAM policy of these credentials; to see whose they are, run `aws sts get-caller-identity`';
  const whose = 'to see whose they are, run `aws sts get-caller-identity`; a wrong clock or a region that is not enabled look the same';
  it.each<{ type: string; message?: string; error: [string, string, string] }>([
    {
      type: 'AccessDeniedException',
      error: ['provider-denied', 'W refused secretsmanager:GetSecretValue on secret "x" (AccessDeniedException)', allow],
    },
    {
      type: 'AccessDeniedException',
      message: 'Access to KMS is not allowed',
      error: [
        'provider-denied',
        'W may not use the KMS key of secret "x" (AccessDeniedException)',
        'allow kms:Decrypt (to write, also kms:GenerateDataKey) on the key that encrypts it',
      ],
    },
    {
      type: 'DecryptionFailure',
      error: [
        'provider-denied',
        'W may not use the KMS key of secret "x" (DecryptionFailure)',
        'allow kms:Decrypt (to write, also kms:GenerateDataKey) on the key that encrypts it',
      ],
    },
    { type: 'ExpiredTokenException', error: ['provider-locked', 'the AWS credentials have expired (ExpiredTokenException)', login] },
    {
      type: 'UnrecognizedClientException',
      error: ['provider-locked', 'W does not accept the AWS credentials (UnrecognizedClientException)', whose],
    },
    {
      type: 'InvalidSignatureException',
      error: ['provider-locked', 'W does not accept the AWS credentials (InvalidSignatureException)', whose],
    },
    {
      type: 'ValidationException',
      message: `Value '${CANARY}'`,
      error: ['ref-invalid', 'W does not take secret "x" for secretsmanager:GetSecretValue (ValidationException)', 'correct the name'],
    },
    {
      type: 'InvalidRequestException',
      error: ['provider-failed', 'W failed at secretsmanager:GetSecretValue on secret "x": InvalidRequestException with status 400', ''],
    },
  ])('$type as $error.0', async ({ type, message, error: [code, said, hint] }) => {
    fake.refuse('GetSecretValue', { status: 400, type, message: message ?? '' });
    expect(summary(await failure(open(fake.endpoint), 'sm://x'))).toEqual([code, said.replace(/^W /, `${where(fake)} `), hint]);
    expect(fake.counts()).toEqual({ GetSecretValue: 1 });
  });

  it('is no matter of KMS because a name has these letters', async () => {
    const message = 'User: arn:aws:iam::1:user/kms is not authorized to perform: secretsmanager:GetSecretValue on resource: kms';
    fake.refuse('GetSecretValue', { status: 400, type: 'AccessDeniedException', message });
    expect((await failure(open(fake.endpoint), 'sm://kms')).message).toContain('refused secretsmanager:GetSecretValue on secret "kms"');
  });

  it('is told with the profile', async () => {
    await writeFile(join(folder, 'credentials'), '[ci]\naws_access_key_id = a\naws_secret_access_key = b\n');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', join(folder, 'credentials'));
    fake.refuse('GetSecretValue', { status: 400, type: 'ExpiredTokenException' });
    expect((await failure(open(fake.endpoint, { profile: 'ci' }), 'sm://x')).hint).toBe('run `aws sso login --profile ci`');
  });

  it('about one of a list concerns that one', async () => {
    await put(open(fake.endpoint), 'sm://good', CANARY);
    const errors = [
      { SecretId: 'denied', ErrorCode: 'AccessDeniedException', Message: CANARY },
      { SecretId: 'going', ErrorCode: 'InvalidRequestException', Message: 'marked for deletion' },
      { SecretId: 'good', ErrorCode: 'InternalServiceError', Message: '' },
    ];
    fake.refuse('BatchGetSecretValue', { status: 200, raw: JSON.stringify({ SecretValues: [], Errors: errors }) });
    const codes = await values(open(fake.endpoint), 'sm://denied', 'sm://going', 'sm://good');
    expect(codes).toEqual(['provider-denied', 'secret-missing', CANARY]);
  });
});

describe('what is no AWS', () => {
  it.each([
    ['http://nothing.invalid:1', /: no such host \(E\w+\)$/],
    ['http://127.0.0.1:1', /: nothing listens there \(ECONNREFUSED\)$/],
    ['https', /: its TLS certificate or handshake was refused \(\w+\)$/],
  ])('%s', async (address, message) => {
    const endpoint = address === 'https' ? fake.endpoint.replace('http:', 'https:') : address;
    const error = await failure(open(endpoint), 'sm://x');
    expect(error.code).toBe('provider-unavailable');
    expect(error.message).toMatch(message);
    expect(error.message).toContain(`cannot reach Secrets Manager in ${REGION} at ${endpoint}`);
  });

  it('answers with a page', async () => {
    fake.refuse('GetSecretValue', { status: 200, raw: `<h1>${CANARY}</h1>` });
    const error = await failure(open(fake.endpoint), 'sm://x');
    expect(error.code).toBe('provider-failed');
    expect(error.message).toBe(`${where(fake)} answered secretsmanager:GetSecretValue with status 200, and not as AWS does`);
  });
});
