// `refresh`: what has no lease is read again now and then, and what has one keeps it.
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AwsFake } from '../fixtures/aws-fake.ts';
import { BlindAsker } from './blind-asker.ts';
import { NODE, Story } from './kz.ts';
import { Lender } from './lender.ts';
import { Running, waitFor } from './processes.ts';
import type { Upstream } from './upstream.ts';

let story: Story;
let upstream: Upstream;

beforeEach(async () => {
  story = new Story();
  upstream = await BlindAsker.listen();
});

afterEach(async () => {
  story.end();
  await upstream.stop();
});

const CHANGED = 'kz: TOKEN changed: the next request carries the new value\n';

describe('a secret of aws', () => {
  const SECRET = 'TOKEN = { provider = "aws", ref = "sm://app#token", refresh = "1s", hosts = ["api.example"]';
  let aws: AwsFake;
  let env: Record<string, string>;
  let old: string;

  beforeEach(async () => {
    aws = await AwsFake.start();
    env = { AWS_ACCESS_KEY_ID: 'AKIATESTTESTTESTTEST', AWS_SECRET_ACCESS_KEY: story.canary(), AWS_REGION: 'eu-west-1' };
    old = story.canary();
    await ask('CreateSecret', old);
  });

  afterEach(() => aws.stop());

  /** As somebody else who may write it. */
  async function ask(operation: string, value: string): Promise<void> {
    const body = { Name: 'app', SecretId: 'app', SecretString: JSON.stringify({ token: value }), ClientRequestToken: randomUUID() };
    const headers = { 'x-amz-target': `secretsmanager.${operation}`, authorization: 'Credential=AKIA/20260101/eu-west-1/secretsmanager/' };
    const { status } = await fetch(aws.endpoint, { method: 'POST', headers, body: JSON.stringify(body) });
    expect(status).toBe(200);
  }

  function reads(): number {
    return aws.requests.filter(({ operation }) => operation === 'GetSecretValue').length;
  }

  function configure(more = ''): void {
    upstream.configure(story, `[providers.aws]\nendpoint = "${aws.endpoint}"\n[secrets]\n${SECRET}${more} }\n`);
  }

  it('is read again, and a new version is in the next request', async () => {
    configure();
    const asker = new BlindAsker(story, upstream, env);
    expect(await asker.ask()).toBe(old);
    const fresh = story.canary();
    await ask('PutSecretValue', fresh);
    await asker.running.warned('TOKEN changed');
    expect(await asker.ask()).toBe(fresh);
    const { code, stderr } = await asker.end();
    expect({ code, stderr }).toEqual({ code: 0, stderr: CHANGED });
  });

  it('stays as it is while the service throttles', async () => {
    configure();
    const asker = new BlindAsker(story, upstream, env);
    expect(await asker.ask()).toBe(old);
    const before = reads();
    aws.refuse('GetSecretValue', { status: 400, type: 'ThrottlingException' }, 2);
    await waitFor('two refusals, and an answer twice', () => reads() >= before + 4);
    expect(await asker.ask()).toBe(old);
    expect(await asker.end()).toMatchObject({ code: 0, stderr: '' });
  });

  it('stays as it is when it may not be read any more, which is told once', async () => {
    configure();
    const asker = new BlindAsker(story, upstream, env);
    await asker.pid();
    const before = reads();
    aws.refuse('GetSecretValue', { status: 400, type: 'AccessDeniedException', message: `no: ${old}` });
    await waitFor('three refusals', () => reads() >= before + 3);
    expect(await asker.ask()).toBe(old);
    aws.forget();
    await asker.running.warned('TOKEN can be read again');
    const { stderr } = await asker.end();
    expect(stderr).toMatch(/^kz: warning: TOKEN cannot be read again, the old value stays: .*\nkz: TOKEN can be read again\n$/);
    story.examine(stderr, 'standard error');
  });

  it('restarts a program of direct mode', async () => {
    const shows = `console.log('value ' + process.env.TOKEN); console.log('ready ' + process.pid); process.stdin.resume()`;
    const start = (): Running => new Running(story.start(['run', '--', NODE, '-e', shows], { env, keepInput: true }));
    configure(', on_rotate = "restart"');
    const running = start();
    await running.numbers('ready');
    await ask('PutSecretValue', story.canary());
    await running.numbers('ready', 2);
    running.child.stdin?.end();
    const { stdout, stderr } = await running.ended;
    expect(stderr).toBe('kz: TOKEN changed: the program is restarted\n');
    expect(stdout.match(/value \[redacted:TOKEN\]/g)).toHaveLength(2);
    story.examine(stdout, 'the output');
  });
});

describe('a secret with a lease', () => {
  const ref = (field: string, more: string): string =>
    `{ provider = "vault", ref = "database/creds/app#${field}", hosts = ["api.example"]${more} }`;
  let lender: Lender;

  beforeEach(async () => {
    lender = await Lender.start(story);
  });

  afterEach(() => lender.stop());

  it('has the lease of its new value renewed from then on', async () => {
    lender.lends('app', { seconds: 2 });
    upstream.configure(story, `${lender.provider()}[secrets]\nTOKEN = ${ref('password', ', refresh = "3s"')}\n`);
    const asker = new BlindAsker(story, upstream, lender.env);
    await lender.renewed(await lender.issued(2), 1);
    const { stderr } = await asker.end();
    expect(stderr.replaceAll(CHANGED, '')).toBe('');
    expect(lender.lent.map(({ revoked }) => revoked)).toEqual(lender.lent.map(() => 'itself'));
  });

  it('takes along what shares its lease', async () => {
    lender.lends('app', { seconds: 60 });
    const secrets = `TOKEN = ${ref('password', ', refresh = "1s"')}\nOTHER = ${ref('username', '')}`;
    upstream.configure(story, `${lender.provider()}[secrets]\n${secrets}\n`);
    const asker = new BlindAsker(story, upstream, lender.env);
    await asker.running.warned('TOKEN, OTHER changed: the next request carries the new value');
    expect(await asker.ask()).toBe(lender.lent.at(-1)?.password);
    await asker.end();
  });

  const good = (): string => `https://user:${story.canary()}@api.example/`;

  it.each([
    ['fails its checks', () => `${good()}longer`, 'does not match its pattern'],
    ['would go to other hosts', () => good().replace('api', 'new'), 'would go to other hosts'],
  ])('whose new value %s keeps the old one until that ends, and is not made again and again', async (_what, bad, why) => {
    lender.lends('app', { seconds: 2, renewable: false });
    lender.values = good;
    upstream.configure(
      story,
      `${lender.provider()}[secrets]\nTOKEN = { provider = "vault", ref = "database/creds/app#password", type = "url", pattern = 'https://[^@]+@\\w+\\.example/' }\n`,
    );
    const asker = new BlindAsker(story, upstream, lender.env);
    await asker.pid();
    lender.values = bad;
    await asker.running.warned('the old value stays');
    await asker.running.warned('the lease of TOKEN is over, and there is no new value');
    const { code, stderr } = await asker.end();
    expect(code).toBe(0);
    expect(stderr).toContain(why);
    expect(stderr.match(/the old value stays/g)).toHaveLength(1);
    story.examine(stderr, 'standard error');
    expect(lender.lent.length).toBeLessThanOrEqual(3);
    expect(lender.lent.every(({ revoked }) => revoked === 'itself')).toBe(true);
  });
});
