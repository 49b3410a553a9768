// What the AWS provider does with a server that works: run against the fake of test/fixtures and against moto's server.
import { CreateSecretCommand, PutSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import { LabelParameterVersionCommand, PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { Secret } from '../../src/core/secret.ts';
import { openAws } from '../../src/providers/aws.ts';
import type { Outcome, Provider, Ref } from '../../src/providers/provider.ts';

export interface AwsServer {
  readonly endpoint: string;
  stop(): Promise<void>;
}

export const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
export const REGION = 'eu-west-1';
const KEYS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: `${CANARY}-key` };
const NEVER = new AbortController().signal;

/** What AWS's own library reads by itself: nothing of this machine, and no question to the address where cloud machines find their keys. */
export function isolate(): void {
  beforeEach(() => {
    for (const name of Object.keys(process.env).filter((each) => each.startsWith('AWS_'))) vi.stubEnv(name, undefined);
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    vi.stubEnv('AWS_CONFIG_FILE', '/nowhere/config');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nowhere/credentials');
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });
}

export function open(endpoint: string, options: Parameters<typeof openAws>[0] = {}): Provider {
  const env = { AWS_ACCESS_KEY_ID: KEYS.accessKeyId, AWS_SECRET_ACCESS_KEY: KEYS.secretAccessKey };
  return openAws({ region: REGION, endpoint, ...options }, { env, userDirectory: '/nowhere' });
}

export function ref(text: string): Ref {
  return { text, directory: '/nowhere' };
}

export function get(provider: Provider, texts: readonly string[], signal = NEVER): Promise<readonly Outcome[]> {
  return provider.get(texts.map(ref), signal);
}

/** The values, or the codes of the errors. */
export async function values(provider: Provider, ...texts: string[]): Promise<string[]> {
  return (await get(provider, texts)).map((outcome) => (outcome.ok ? outcome.secret.reveal() : outcome.error.code));
}

/** Nothing that a test stores may be in it. */
export async function failure(provider: Provider, text: string, signal = NEVER): Promise<KzError> {
  const [outcome] = await get(provider, [text], signal);
  if (outcome?.ok !== false) throw new Error(`${text} gave a value`);
  expect(inspect(outcome.error, { depth: 9, showHidden: false })).not.toContain(CANARY);
  return outcome.error;
}

export function summary({ code, message, hint }: KzError): string[] {
  return [code, message, hint ?? ''];
}

/** As errors name it. */
export function where({ endpoint }: Pick<AwsServer, 'endpoint'>): string {
  return `Secrets Manager in ${REGION} at ${endpoint}`;
}

export async function put(provider: Provider, text: string, value: string, signal = NEVER): Promise<void> {
  await provider.put?.(ref(text), new Secret(value), signal);
}

/** AWS's own clients, to put things there that kz does not write. */
export function clients(endpoint: string, region = REGION): { secrets: SecretsManagerClient; parameters: SSMClient } {
  const settings = { endpoint, region, credentials: KEYS };
  return { secrets: new SecretsManagerClient(settings), parameters: new SSMClient(settings) };
}

export function awsContract(start: () => Promise<AwsServer>): void {
  let server: AwsServer;
  let provider: Provider;
  let aws: ReturnType<typeof clients>;
  let count = 0;
  /** Of the test that runs: the server is one for all of them. */
  let name: string;

  isolate();
  beforeAll(async () => {
    server = await start();
    aws = clients(server.endpoint);
  });
  beforeEach(() => {
    provider = open(server.endpoint);
    name = `test-${String(++count)}`;
  });
  afterEach(async () => {
    await provider.close?.(NEVER);
  });
  afterAll(async () => {
    aws.secrets.destroy();
    aws.parameters.destroy();
    await server.stop();
  });

  async function create(secret: string, value: string | Uint8Array): Promise<string> {
    const held = typeof value === 'string' ? { SecretString: value } : { SecretBinary: value };
    const { ARN = '' } = await aws.secrets.send(new CreateSecretCommand({ Name: secret, ...held }));
    return ARN;
  }

  it('writes, reads, replaces and removes a secret', async () => {
    const text = `sm://prod/${name}`;
    expect(await values(provider, text)).toEqual(['secret-missing']);
    await put(provider, text, CANARY);
    expect(await values(provider, text)).toEqual([CANARY]);
    await put(provider, text, `${CANARY}-2`);
    expect(await values(provider, text, `${text}@AWSPREVIOUS`)).toEqual([`${CANARY}-2`, CANARY]);
    expect(await provider.remove?.(ref(text), NEVER)).toBe(true);
    const error = await failure(provider, text);
    expect([error.code, error.message]).toMatchObject(['secret-missing', expect.stringContaining('is scheduled for deletion')]);
    expect(error.hint).toContain(`aws secretsmanager restore-secret --region ${REGION} --secret-id prod/${name}\``);
    expect(await provider.remove?.(ref(text), NEVER)).toBe(false);
    expect(await provider.remove?.(ref('sm://never-there'), NEVER)).toBe(false);
  });

  it('writes, reads, replaces and removes a parameter', async () => {
    for (const text of [`ssm:///prod/${name}`, `ssm://${name}`]) {
      expect(await values(provider, text)).toEqual(['secret-missing']);
      await put(provider, text, CANARY);
      await put(provider, text, `${CANARY}-2`);
      expect(await values(provider, text, `${text}:1`, `${text}:9`)).toEqual([`${CANARY}-2`, CANARY, 'secret-missing']);
      expect(await provider.remove?.(ref(text), NEVER)).toBe(true);
      expect(await provider.remove?.(ref(text), NEVER)).toBe(false);
      expect(await values(provider, text)).toEqual(['secret-missing']);
    }
  });

  it('reads labels of parameters, and several versions at once', async () => {
    const path = `/labels/${name}`;
    for (const value of ['one', 'two', 'three']) await put(provider, `ssm://${path}`, value);
    await aws.parameters.send(new LabelParameterVersionCommand({ Name: path, ParameterVersion: 2, Labels: ['live'] }));
    expect(await values(provider, `ssm://${path}`, `ssm://${path}:live`, `ssm://${path}:1`, `ssm://${path}:dead`)).toEqual([
      'three',
      'two',
      'one',
      'secret-missing',
    ]);
  });

  it('reads secrets and parameters by name, by ARN, and without the slash of a path', async () => {
    const arn = await create(`arn/${name}`, CANARY);
    await aws.parameters.send(new PutParameterCommand({ Name: `/arn/${name}`, Value: 'p', Type: 'String' }));
    const parameter = `arn:aws:ssm:${REGION}:123456789012:parameter/arn/${name}`;
    const refs = [`sm://arn/${name}`, arn, `sm://${arn}`, arn.slice(0, -7), parameter, `ssm://${parameter}`, `ssm://arn/${name}`];
    expect(await values(provider, ...refs)).toEqual([CANARY, CANARY, CANARY, CANARY, 'p', 'p', 'p']);
    for (const [index, text] of refs.entries()) expect(await values(provider, text)).toEqual([index < 4 ? CANARY : 'p']);
  });

  it('finds an ARN in its own region, and a name in that of the config only', async () => {
    const { secrets } = clients(server.endpoint, 'us-east-2');
    const { ARN = '' } = await secrets.send(new CreateSecretCommand({ Name: name, SecretString: CANARY }));
    secrets.destroy();
    expect(await values(provider, ARN, `sm://${name}`)).toEqual([CANARY, 'secret-missing']);
    const error = await failure(provider, `sm://${name}`);
    expect(error.message).toContain(`is not in Secrets Manager in ${REGION}`);
    expect(error.hint).toContain(`if it should be in ${REGION}, run \`aws secretsmanager list-secrets --region ${REGION}\``);
    const elsewhere = open(server.endpoint, { region: 'us-east-2' });
    expect(await values(elsewhere, `sm://${name}`)).toEqual([CANARY]);
  });

  it('picks keys of JSON documents, and gives the whole without a key', async () => {
    const document = JSON.stringify({ username: 'app', password: CANARY, port: 5432, db: { url: 'u' }, 'a@b': 'at' });
    await create(name, document);
    await aws.parameters.send(new PutParameterCommand({ Name: `/${name}`, Value: document, Type: 'SecureString' }));
    const keys = ['username', 'password', 'port', 'db.url', 'db', 'a@b', 'pasword'];
    const expected = ['app', CANARY, '5432', 'u', '{"url":"u"}', 'at', 'secret-missing'];
    expect(await values(provider, `sm://${name}`, ...keys.map((key) => `sm://${name}#${key}`))).toEqual([document, ...expected]);
    expect(await values(provider, `ssm:///${name}`, ...keys.map((key) => `ssm:///${name}#${key}`))).toEqual([document, ...expected]);
    expect((await failure(provider, `sm://${name}#pasword`)).hint).toBe('did you mean "password"?');
  });

  it('says when a document is none', async () => {
    await create(name, CANARY);
    await create(`${name}-list`, `["${CANARY}"]`);
    const error = await failure(provider, `sm://${name}#a`);
    expect([error.code, error.message]).toEqual(['secret-invalid', `secret "${name}" is not valid JSON`]);
    expect((await failure(provider, `sm://${name}-list#a`)).message).toContain('holds a list instead of keys and values');
  });

  it('changes one key of a document and keeps the rest', async () => {
    const text = `sm://${name}`;
    await put(provider, `${text}#a`, CANARY);
    expect(JSON.parse((await values(provider, text))[0] ?? '')).toEqual({ a: CANARY });
    await put(provider, `${text}#b`, 'b');
    await put(provider, `${text}#a`, 'a');
    expect(await values(provider, `${text}#a`, `${text}#b`)).toEqual(['a', 'b']);
    expect(await provider.remove?.(ref(`${text}#a`), NEVER)).toBe(true);
    expect(await provider.remove?.(ref(`${text}#a`), NEVER)).toBe(false);
    expect(await values(provider, `${text}#a`, `${text}#b`)).toEqual(['secret-missing', 'b']);
  });

  it('reads binary secrets that are text, and others as base64', async () => {
    await create(`${name}-text`, Buffer.from(`{"a":"${CANARY}"}`));
    await create(`${name}-bytes`, Uint8Array.of(1, 255, 3));
    expect(await values(provider, `sm://${name}-text#a`, `sm://${name}-bytes#base64`)).toEqual([CANARY, 'Af8D']);
    expect(await values(provider, `sm://${name}-text#base64`)).toEqual([Buffer.from(`{"a":"${CANARY}"}`).toString('base64')]);
    const error = await failure(provider, `sm://${name}-bytes`);
    expect([error.code, error.message]).toEqual(['secret-invalid', `secret "${name}-bytes" is binary and not UTF-8 text`]);
    expect(error.hint).toContain('`#base64`');
    await expect(put(provider, `sm://${name}-bytes#base64`, 'x')).rejects.toMatchObject({ code: 'provider-read-only' });
  });

  it('gives the version with the value, and reads it again by that version', async () => {
    await create(name, 'old');
    const [old] = await get(provider, [`sm://${name}`]);
    await aws.secrets.send(new PutSecretValueCommand({ SecretId: name, SecretString: 'new' }));
    await aws.secrets.send(new PutSecretValueCommand({ SecretId: name, SecretString: 'next', VersionStages: ['AWSPENDING'] }));
    const [current] = await get(provider, [`sm://${name}`]);
    const versions = [old, current].map((outcome) => (outcome?.ok === true ? (outcome.version ?? '') : ''));
    expect(versions[0]).not.toBe(versions[1]);
    const texts = [versions[0] ?? '', `version:${versions[1] ?? ''}`, 'AWSPENDING', 'stage:AWSCURRENT', crypto.randomUUID(), 'stage:NONE'];
    const expected = ['old', 'new', 'next', 'new', 'secret-missing', 'secret-missing'];
    expect(await values(provider, ...texts.map((version) => `sm://${name}@${version}`))).toEqual(expected);
    await put(provider, `ssm://${name}`, 'x');
    const [parameter] = await get(provider, [`ssm://${name}`]);
    expect(parameter).toMatchObject({ ok: true, version: '1' });
  });

  it('names all three of two hundred that fail', async () => {
    const names = Array.from({ length: 100 }, (_, index) => `${name}-${String(index)}`);
    const there = names.filter((_, index) => index !== 7 && index !== 42);
    for (const each of there) await create(each, `value of ${each}`);
    await Promise.all(
      names.slice(1).map((each) => aws.parameters.send(new PutParameterCommand({ Name: each, Value: each, Type: 'String' }))),
    );
    const outcomes = await get(provider, [...names.map((each) => `sm://${each}`), ...names.map((each) => `ssm://${each}`)]);
    const failed = outcomes.flatMap((outcome) => (outcome.ok ? [] : [outcome.error.message]));
    expect(failed).toEqual([
      `secret "${name}-7" is not in Secrets Manager in ${REGION} at ${server.endpoint}`,
      `secret "${name}-42" is not in Secrets Manager in ${REGION} at ${server.endpoint}`,
      `parameter "${name}-0" is not in the Parameter Store in ${REGION} at ${server.endpoint}`,
    ]);
    const right = outcomes.map((outcome, index) => {
      const each = names[index % 100] ?? '';
      return !outcome.ok || outcome.secret.reveal() === (index < 100 ? `value of ${each}` : each);
    });
    expect(right).not.toContain(false);
  });

  it('keeps the key of a parameter, and does not write over one that is in the clear', async () => {
    await aws.parameters.send(new PutParameterCommand({ Name: name, Value: 'plain', Type: 'String' }));
    await expect(put(provider, `ssm://${name}`, CANARY)).rejects.toMatchObject({
      code: 'provider-read-only',
      message: `parameter "${name}" is a plain String, and kz writes SecureStrings only`,
    });
    expect(await values(provider, `ssm://${name}`)).toEqual(['plain']);
  });

  it('proves that it may come in', async () => {
    expect(await provider.check?.(NEVER)).toEqual({ detail: where(server) });
  });
}
