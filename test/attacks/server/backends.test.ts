// What callers try with the names that they choose: another secret than the resource means, or the same one past the rule that names it.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { BackendEntry, ResourceEntry } from '../../../src/config/bundle.ts';
import { KzError } from '../../../src/core/errors.ts';
import { refProblem } from '../../../src/policy/ref.ts';
import { Backends, providerRef } from '../../../src/server/backends.ts';
import { ResourceTable, type FoundResource } from '../../../src/server/resources.ts';
import { canary } from '../../server/fetch/fetching.ts';

const folders: string[] = [];

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

const AT = { file: 'bundle.yaml', line: 1, column: 1 };

interface Written {
  readonly ref: string;
  readonly from?: string;
  readonly field?: string;
}

function found(asked: string, ...written: readonly Written[]): FoundResource {
  expect(refProblem(asked)).toBeUndefined();
  const resources: ResourceEntry[] = written.map((each) => ({
    ...{ resolver: 'b', mode: 'direct', ttlMs: 60_000, hosts: [], methods: [], at: AT },
    ...{ location: { kind: 'header', name: 'Authorization', prefix: 'Bearer' } },
    ...each,
  }));
  const resource = ResourceTable.compile({ resources }).find(asked);
  if (resource === undefined) throw new Error(`nothing is called ${asked}`);
  return resource;
}

function backends(folder: string, backend: Partial<BackendEntry> & Pick<BackendEntry, 'type' | 'provider'>): Backends {
  const entry: BackendEntry = { name: 'b', options: {}, at: AT, ...backend };
  const context = { env: { HOME: folder, KZ_TEST_OWN: 'own' }, userDirectory: folder };
  return new Backends({ file: join(folder, 'bundle.yaml'), backends: new Map([['b', entry]]) }, context);
}

/** A folder with `secrets/app`, `secrets/team/admin`, and beside it `outside` and `etc/passwd`. */
async function scene(): Promise<{ folder: string; value: string; stolen: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'kz-'));
  folders.push(folder);
  const [value, stolen] = [canary(), canary()];
  for (const each of ['secrets/team', 'etc']) await mkdir(join(folder, each), { recursive: true });
  await writeFile(join(folder, 'secrets/app'), value, { mode: 0o600 });
  for (const each of ['secrets/team/admin', 'secrets/team-a.txt', 'outside', 'etc/passwd'])
    await writeFile(join(folder, each), stolen, { mode: 0o600 });
  return { folder, value, stolen };
}

async function outcome(source: Backends, resource: FoundResource, asked: string): Promise<string> {
  try {
    return (await source.get(resource, asked, new AbortController().signal)).reveal();
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return error.code;
  }
}

it.each([
  ['app-*', 'secrets/{1}', 'app-..'],
  ['app**', 'secrets/{1}', 'app../outside'],
  ['app**', 'secrets/{1}', 'app../etc/passwd'],
  ['app-*/key', './secrets/team/{1}/../outside', 'app-../key'],
  ['**-app', 'secrets/{1}', 'team/..-app'],
  ['a*b*', 'secrets/{1}/{2}/etc/passwd', 'a..b..'],
])('for %j from %j, %j leads to nothing outside', async (ref, from, asked) => {
  const { folder, stolen } = await scene();
  const text = await outcome(backends(folder, { type: 'file', provider: 'file' }), found(asked, { ref, from }), asked);
  expect(text).not.toContain(stolen);
  expect(text).toBe('ref-invalid');
});

it.each([
  ['app*', 'secrets/{1}', 'app'],
  ['app-*', 'secrets/{1}', 'app-'],
  ['app-**', 'secrets/team/{1}', 'app-'],
])('for %j from %j, %j is not the whole folder', async (ref, from, asked) => {
  const { folder } = await scene();
  expect(await outcome(backends(folder, { type: 'file', provider: 'file' }), found(asked, { ref, from }), asked)).toBe('ref-invalid');
});

it('a star that stands for nothing is fine inside a word', async () => {
  const { folder, value } = await scene();
  const resource = found('x', { ref: 'x*', from: 'secrets/app{1}' });
  expect(await outcome(backends(folder, { type: 'file', provider: 'file' }), resource, 'x')).toBe(value);
});

it('a home, or the root, is a name like any other', async () => {
  const { folder, stolen } = await scene();
  const absolute = `x${folder}/outside`;
  const root = found(absolute, { ref: 'x**', from: '{1}' });
  expect(await outcome(backends(folder, { type: 'file', provider: 'file' }), root, absolute)).not.toContain(stolen);
  for (const written of [{ ref: '**' }, { ref: '**', from: '{1}' }]) {
    const resource = found('~/outside', written);
    const source = backends(join(folder, 'secrets'), { type: 'file', provider: 'file' });
    expect(await outcome(source, resource, '~/outside')).not.toContain(stolen);
  }
});

function asked(type: string, provider: BackendEntry['provider'], ref: string, written: Written): string {
  const { resource, captures } = found(ref, written);
  try {
    return providerRef({ name: 'b', type, provider, options: {}, at: AT }, resource.entry, { ref, captures });
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return error.code;
  }
}

const UUID = '01234567-89ab-cdef-0123-456789abcdef';

it.each([
  ['prod/admin@AWSCURRENT', { ref: 'prod/*' }],
  ['prod/admin@awsprevious', { ref: 'prod/*', from: 'sm://prod/{1}' }],
  [`prod/admin@${UUID}`, { ref: 'prod/**', from: 'prod/{1}' }],
  ['prod/admin@stage:x', { ref: 'prod/*', from: '{ref}' }],
  ['prod/admin#token@AWSPREVIOUS', { ref: 'prod/*' }],
  ['arn:aws:ssm:eu-west-1:1:parameter/admin', { ref: '**' }],
  ['p/admin:3', { ref: 'p/*', from: 'ssm:///p/{1}' }],
])('aws: %j is not an older or another name for what a rule names', (ref, written) => {
  expect(asked('aws_secrets_manager', 'aws', ref, written)).toBe('ref-invalid');
});

it.each([
  ['gcp', 'projects/p/secrets/admin/versions/1', { ref: 'projects/p/secrets/**' }],
  ['gcp', 'g/admin/versions/latest', { ref: 'g/**', from: 'projects/p/secrets/{1}' }],
  ['vault', 'v/data/admin', { ref: 'v/**', from: 'secret/{1}' }],
  ['vault', 'secret/data/admin', { ref: '**' }],
] as const)('%s: %j is not another name for what a rule names', (provider, ref, written) => {
  expect(asked(provider, provider, ref, written)).toBe('ref-invalid');
});

it.each([
  ['aws', 'prod/bob@example.com', { ref: 'prod/*', from: 'sm://{ref}@AWSPREVIOUS' }, 'sm://prod/bob@example.com@AWSPREVIOUS'],
  ['aws', 'old/x', { ref: 'old/*', from: 'arn:aws:secretsmanager:eu-west-1:1:secret:{1}' }, 'arn:aws:secretsmanager:eu-west-1:1:secret:x'],
  ['gcp', 'g/x', { ref: 'g/*', from: 'projects/p/secrets/{1}/versions/2' }, 'projects/p/secrets/x/versions/2'],
  ['vault', 'teams/data/x', { ref: 'teams/**', from: 'secret/teams/{1}' }, 'secret/teams/data/x'],
  ['vault', 'teams/x', { ref: 'teams/*', from: 'secret/data/{1}' }, 'secret/data/x'],
  ['vault', 'secret/data/x', { ref: 'secret/data/*' }, 'secret/data/x'],
] as const)('%s: what the bundle writes is meant: %j', (provider, ref, written, text) => {
  expect(asked(provider, provider, ref, written)).toBe(text);
});

it.each([
  ['x/--output', { ref: 'x/*', from: 'get {1}' }],
  ['x/-', { ref: 'x/*', from: 'get {1}' }],
  ['x/', { ref: 'x*', from: 'show {1}' }],
  ['-c', { ref: '**' }],
])('exec: %j is no option, and leaves out no word', (ref, written) => {
  const name = ref.endsWith('/') ? ref.slice(0, -1) : ref;
  expect(asked('exec', 'exec', name, written)).toBe('ref-invalid');
});

it('callers who ask at the same time share one question, and one who gives up takes nothing from the other', async () => {
  const { folder, value } = await scene();
  const source = backends(folder, {
    type: 'exec',
    provider: 'exec',
    options: { exec: { command: ['sh', '-c', 'echo x >> count; cat secrets/$0'] } },
  });
  const resource = found('app', { ref: 'app' });
  const early = new AbortController();
  const given = source.get(resource, 'app', early.signal).catch((error: unknown) => error);
  const kept = source.get(resource, 'app', new AbortController().signal);
  early.abort();
  expect(await given).toBeInstanceOf(Error);
  expect((await kept).reveal()).toBe(value);
  expect(await readFile(join(folder, 'count'), 'utf8')).toBe('x\n');
});

it('env: what kz logs in with is given only where the bundle names it', () => {
  expect(asked('env', 'env', 'VAULT_TOKEN', { ref: '*' })).toBe('ref-invalid');
  expect(asked('env', 'env', 'ci/AWS_SECRET_ACCESS_KEY', { ref: 'ci/*', from: '{1}' })).toBe('ref-invalid');
  expect(asked('env', 'env', 'VAULT_TOKEN', { ref: 'VAULT_TOKEN' })).toBe('VAULT_TOKEN');
});

it('a field that a caller adds is not one beside the field of the resource', () => {
  expect(asked('file', 'file', 'db/x#admin', { ref: 'db/*', from: 'secrets/{1}' })).toBe('ref-invalid');
});
