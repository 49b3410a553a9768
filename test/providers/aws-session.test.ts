// Region, credentials and patience, and that AWS's own library stays quiet.
import { build } from 'esbuild';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openAws } from '../../src/providers/aws.ts';
import { AwsFake, type Instead } from '../fixtures/aws-fake.ts';
import { CANARY, failure, get, isolate, open, put, REGION, summary, values, where } from './aws-contract.ts';

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

describe('patience', () => {
  it('waits while AWS throttles', async () => {
    await put(open(fake.endpoint), 'sm://busy', CANARY);
    fake.refuse('GetSecretValue', { status: 400, type: 'ThrottlingException' }, 2);
    fake.counts();
    expect(await values(open(fake.endpoint), 'sm://busy')).toEqual([CANARY]);
    expect(fake.counts()).toEqual({ GetSecretValue: 3 });
  });

  it('says so when that takes too long', async () => {
    fake.refuse('GetSecretValue', { status: 400, type: 'ThrottlingException', message: 'Rate exceeded' });
    const error = await failure(open(fake.endpoint), 'sm://busy', AbortSignal.timeout(300));
    expect(summary(error)).toEqual([
      'provider-timeout',
      `${where(fake)} keeps throttling secretsmanager:GetSecretValue (ThrottlingException), until kz’s time was over`,
      'allow more with --timeout 60s',
    ]);
  });

  it.each<[string, Instead]>([
    ['its own failures', { status: 500, type: 'InternalServiceError' }],
    ['a page of a gateway', { status: 502, raw: `<h1>${CANARY}</h1>` }],
    ['broken connections', 'cut'],
  ])('asks again after %s, three times', async (_name, instead) => {
    await put(open(fake.endpoint), 'sm://shaky', CANARY);
    fake.counts();
    fake.refuse('GetSecretValue', instead, 3);
    expect(await values(open(fake.endpoint), 'sm://shaky')).toEqual([CANARY]);
    fake.refuse('GetSecretValue', instead);
    fake.counts();
    expect(['provider-failed', 'provider-unavailable']).toContain((await failure(open(fake.endpoint), 'sm://shaky')).code);
    expect(fake.counts()).toEqual({ GetSecretValue: 4 });
  });

  it('makes no second version when the answer to a write got lost', async () => {
    await put(open(fake.endpoint), 'sm://token', 'first');
    fake.counts();
    fake.refuse('PutSecretValue', 'cut', 1);
    const requests = fake.requests;
    await put(open(fake.endpoint), 'sm://token', 'second');
    const tokens = requests.map(({ body }) => body.ClientRequestToken);
    expect([tokens.length, new Set(tokens).size]).toEqual([2, 1]);
  });

  it('ends with the signal when nothing answers', async () => {
    fake.refuse('GetSecretValue', 'hang');
    const [sm, ssm] = await get(open(fake.endpoint), ['sm://x', 'ssm://x'], AbortSignal.timeout(300));
    expect(sm?.ok === false && summary(sm.error)).toEqual([
      'provider-timeout',
      `${where(fake)} did not answer secretsmanager:GetSecretValue in time`,
      'allow more with --timeout 60s',
    ]);
    expect(ssm?.ok === false && ssm.error.code).toBe('secret-missing');
  });
});

describe('the region', () => {
  const keys = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
  async function asked(options: Parameters<typeof openAws>[0], env: Record<string, string>): Promise<string | undefined> {
    fake.requests.length = 0;
    await get(openAws({ endpoint: fake.endpoint, ...options }, { env: { ...keys, ...env }, userDirectory: '/nowhere' }), ['ssm://x']);
    return fake.requests[0]?.region;
  }

  it('is that of the config, of AWS_REGION, of AWS_DEFAULT_REGION, of the profile', async () => {
    const [first, second] = [{ AWS_REGION: 'env-1' }, { AWS_DEFAULT_REGION: 'default-1' }];
    expect(await asked({ region: 'config-1' }, { ...first, ...second })).toBe('config-1');
    expect(await asked({}, { ...first, ...second })).toBe('env-1');
    expect(await asked({}, { ...second, AWS_REGION: '' })).toBe('default-1');
    await writeFile(
      join(folder, 'config'),
      '[default]\nregion = file-1\n[profile ci]\nregion = file-2\naws_access_key_id = a\naws_secret_access_key = b\n',
    );
    vi.stubEnv('AWS_CONFIG_FILE', join(folder, 'config'));
    expect(await asked({}, {})).toBe('file-1');
    expect(await asked({ profile: 'ci' }, {})).toBe('file-2');
    expect(await asked({}, { AWS_PROFILE: 'ci' })).toBe('file-2');
  });

  it('is missed by name', async () => {
    const provider = openAws({ endpoint: fake.endpoint }, { env: keys, userDirectory: '/nowhere' });
    const hint = 'set `region = "eu-west-1"` in [providers.aws], or AWS_REGION';
    expect(summary(await failure(provider, 'sm://x'))).toEqual(['provider-unavailable', 'no AWS region is configured', hint]);
    expect((await failure(open(fake.endpoint, { region: 'EU west' }), 'sm://x')).message).toBe('"EU west" is not an AWS region');
  });

  it('has an address of its own', async () => {
    const env = { ...keys, AWS_REGION: REGION, AWS_ENDPOINT_URL: 'http://127.0.0.1:1', AWS_ENDPOINT_URL_SSM: fake.endpoint };
    const codes = await values(openAws({}, { env, userDirectory: '/nowhere' }), 'ssm://x', 'sm://x');
    expect(codes).toEqual(['secret-missing', 'provider-unavailable']);
  });
});

describe('credentials', () => {
  let keeper: Server;
  let answer: 'hang' | object;
  beforeAll(async () => {
    keeper = createServer((_request, response) => {
      if (answer !== 'hang') response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
    }).listen(0, '127.0.0.1');
    await once(keeper, 'listening');
  });
  beforeEach(async () => {
    const home = join(folder, 'home');
    await mkdir(join(home, '.aws/sso/cache'), { recursive: true });
    vi.stubEnv('HOME', home);
  });
  afterAll(() => {
    keeper.closeAllConnections();
    keeper.close();
  });

  /** Without keys in its environment: AWS's chain has the word. */
  function chained(profile?: string) {
    const options = { region: REGION, endpoint: fake.endpoint, ...(profile === undefined ? {} : { profile }) };
    return openAws(options, { env: {}, userDirectory: '/nowhere' });
  }

  async function configure(text: string): Promise<void> {
    const file = join(folder, `config-${crypto.randomUUID()}`);
    await writeFile(file, text);
    vi.stubEnv('AWS_CONFIG_FILE', file);
  }

  it('are missed by name', async () => {
    const elsewhere = 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `profile` in [providers.aws]';
    expect(summary(await failure(chained(), 'sm://x'))).toEqual([
      'provider-locked',
      'found no AWS credentials',
      `run \`aws sso login\`, or ${elsewhere}`,
    ]);
    expect((await failure(chained('nope'), 'sm://x')).message).toBe('found no AWS credentials for profile "nope"');
  });

  it('of an SSO session that is over want a login', async () => {
    const session = '[sso-session corp]\nsso_start_url = https://corp.invalid/start\nsso_region = eu-west-1\n';
    await configure(`${session}[profile sso]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = r\n`);
    const expected = [
      'provider-locked',
      'the AWS SSO session for profile "sso" has expired or was never opened',
      'run `aws sso login --profile sso`',
    ];
    expect(summary(await failure(chained('sso'), 'sm://x'))).toEqual(expected);
  });

  it('come from a program whose words stay unsaid', async () => {
    await configure(`[profile good]\ncredential_process = printf '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b"}'\n
[profile bad]\ncredential_process = sh -c 'echo ${CANARY} >&2; exit 3'\n`);
    expect((await failure(chained('good'), 'sm://x')).code).toBe('secret-missing');
    expect(summary(await failure(chained('bad'), 'sm://x'))).toEqual([
      'provider-locked',
      'found no AWS credentials for profile "bad"',
      'run `aws sso login --profile bad`, or to see why, run `aws sts get-caller-identity --profile bad`',
    ]);
  });

  it('are asked for once, however many requests wait for them', async () => {
    const runs = join(folder, 'runs');
    await configure(
      `[profile counted]\ncredential_process = sh -c 'echo run >> ${runs}; echo "{\\"Version\\":1,\\"AccessKeyId\\":\\"a\\",\\"SecretAccessKey\\":\\"b\\"}"'\n`,
    );
    const versions = Array.from({ length: 30 }, (_, index) => [`sm://${String(index)}@AWSPREVIOUS`, `ssm://${String(index)}:1`]).flat();
    expect(new Set(await values(chained('counted'), ...versions))).toEqual(new Set(['secret-missing']));
    expect(await readFile(runs, 'utf8')).toBe('run\n');
  });

  it('come from a container, or too late', async () => {
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `http://127.0.0.1:${String((keeper.address() as AddressInfo).port)}/`);
    answer = { AccessKeyId: 'a', SecretAccessKey: 'b', Token: 't', Expiration: '2999-01-01T00:00:00Z' };
    expect((await failure(chained(), 'sm://x')).code).toBe('secret-missing');
    answer = 'hang';
    const error = await failure(chained(), 'sm://x', AbortSignal.timeout(200));
    expect([error.code, error.message]).toEqual([
      'provider-timeout',
      'what gives AWS credentials (SSO, a credential process, the metadata service) did not answer in time',
    ]);
  });
});

it('writes nothing to the terminal, leaves no variable behind, and does not keep the process alive', async () => {
  const program = join(folder, 'program.cjs');
  await build({
    stdin: { contents: PROGRAM, resolveDir: fileURLToPath(new URL('../../', import.meta.url)), loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    outfile: program,
    logLevel: 'error',
  });
  const env = {
    PATH: process.env.PATH,
    AWS_PROFILE: 'ci',
    AWS_ACCESS_KEY_ID: 'a',
    AWS_SECRET_ACCESS_KEY: 'b',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  await writeFile(join(folder, 'quiet'), '[ci]\naws_access_key_id = a\naws_secret_access_key = b\n');
  const child = spawn(process.execPath, [program, fake.endpoint], { env: { ...env, AWS_SHARED_CREDENTIALS_FILE: join(folder, 'quiet') } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  const [status] = (await once(child, 'close')) as [number];
  expect([status, output]).toEqual([0, `${'secret-missing '.repeat(40)}undefined`]);
});

const PROGRAM = `
  import { openAws } from './src/providers/aws.ts';
  const provider = openAws({ region: 'eu-west-1', endpoint: process.argv[2] }, { env: process.env, userDirectory: '/nowhere' });
  const refs = Array.from({ length: 40 }, (_, index) => ({ text: 'sm://quiet/' + index + '@AWSPREVIOUS', directory: '/' }));
  provider.get(refs, new AbortController().signal).then((outcomes) => {
    for (const { error } of outcomes) process.stdout.write(error.code + ' ');
    process.stdout.write(String(process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED));
  });
`;
