import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BackendEntry, ResourceEntry } from '../../src/config/bundle.ts';
import { inBundle, providerRef, type Backends } from '../../src/server/backends.ts';
import { compileBundle } from '../../src/server/compile.ts';
import type { FoundResource } from '../../src/server/resources.ts';
import { Retired } from '../../src/server/retired.ts';
import { ServeLab } from './serve-lab.ts';

let lab: ServeLab;
let vault: http.Server | undefined;

beforeEach(() => {
  lab = new ServeLab();
});

afterEach(async () => {
  vault?.closeAllConnections();
  vault?.close();
  await lab.end();
});

async function open(...command: string[]): Promise<{ backends: Backends; found: FoundResource }> {
  if (command.length > 0) {
    const exec = `file: { type: exec, command: ${JSON.stringify(command)} }`;
    lab.writeBundle(['file: { type: env_file, path: ./secrets.env }', exec]);
  }
  const { backends, resources } = await compileBundle(lab.bundle, lab.options());
  const found = resources.find('a/value');
  if (found === undefined) throw new Error('there is no a/value');
  return { backends, found };
}

async function get(
  { backends, found }: { backends: Backends; found: FoundResource },
  signal = new AbortController().signal,
): Promise<string> {
  return (await backends.get(found, 'a/value', signal)).reveal();
}

describe('a value', () => {
  it('is asked for each time: one that changes is another one', async () => {
    const opened = await open();
    expect(await get(opened)).toBe(lab.value);
    writeFileSync(lab.path('secrets.env'), 'ONE=CANARY-next\n', { mode: 0o600 });
    expect(await get(opened)).toBe('CANARY-next');
  });

  it('is asked for once for all who want it at the same time', async () => {
    const opened = await open('sh', '-c', `echo x >> ${lab.path('asked')}; sleep 0.3; echo CANARY-v`);
    expect(new Set(await Promise.all(Array.from({ length: 200 }, () => get(opened))))).toEqual(new Set(['CANARY-v']));
    expect(readFileSync(lab.path('asked'), 'utf8')).toBe('x\n');
  });

  it('comes to the others when one of them goes away', async () => {
    const opened = await open('sh', '-c', 'sleep 0.3; echo CANARY-v');
    const gone = new AbortController();
    const [one, two] = [get(opened, gone.signal), get(opened)];
    gone.abort();
    await expect(one).rejects.toThrow();
    expect(await two).toBe('CANARY-v');
  });

  it('that cannot be had is asked for again', async () => {
    const opened = await open('sh', '-c', `test -e ${lab.path('there')} && echo CANARY-v`);
    await expect(get(opened)).rejects.toMatchObject({ name: 'KzError' });
    writeFileSync(lab.path('there'), '');
    expect(await get(opened)).toBe('CANARY-v');
  });

  it('is not to be had once they are closed, and who waits for one is told at once', async () => {
    const opened = await open('sh', '-c', 'sleep 20');
    const asking = get(opened);
    const settled = expect(asking).rejects.toThrow();
    await opened.backends.close(AbortSignal.timeout(1000));
    await settled;
  });
});

it('retired ones are closed with those that serve', async () => {
  const [old, current] = [await open('sh', '-c', 'sleep 20'), await open('sh', '-c', 'sleep 20')];
  const retired = new Retired();
  retired.add(old.backends, 2 ** 40);
  const asking = [get(old), get(current)];
  const settled = Promise.all(asking.map((each) => expect(each).rejects.toThrow()));
  await retired.close(current.backends);
  await settled;
});

it('retired ones are closed by themselves after a while', async () => {
  const old = await open('sh', '-c', 'sleep 20');
  const asking = get(old);
  new Retired().add(old.backends, 20);
  await expect(asking).rejects.toThrow();
});

describe('the ref that a provider gets', () => {
  const backend = (provider: string, type: string, path?: string): BackendEntry =>
    ({ name: 'b', type, provider, options: {}, at: { file: 'b' }, ...(path === undefined ? {} : { path }) }) as unknown as BackendEntry;
  const resource = (from?: string): ResourceEntry =>
    ({ ref: 'x', resolver: 'b', ...(from === undefined ? {} : { from }) }) as ResourceEntry;

  interface Written {
    readonly at: BackendEntry;
    readonly entry: ResourceEntry;
    readonly ref: string;
    readonly captures: readonly string[];
  }
  const vault = backend('vault', 'vault');

  it.each<[string, Written, string]>([
    ['of a file of variables', { at: backend('file', 'env_file', '/s.env'), entry: resource('ONE'), ref: 'a', captures: [] }, '/s.env#ONE'],
    ['with what the stars matched', { at: vault, entry: resource('kv/{1}/{2}'), ref: 'a/b', captures: ['a', 'b'] }, 'kv/a/b'],
    ['with nothing for a star that is not there', { at: vault, entry: resource('kv/{9}'), ref: 'a', captures: ['a'] }, 'kv/'],
    ['as the caller wrote it', { at: vault, entry: resource(), ref: 'kv/a', captures: [] }, 'kv/a'],
    ['never as a home', { at: backend('file', 'file'), entry: resource(), ref: '~/x', captures: [] }, './~/x'],
  ])('%s', (_, { at, entry, ref, captures }, expected) => {
    expect(providerRef(at, entry, { ref, captures })).toBe(expected);
  });

  it.each<[string, Written]>([
    ['an option of a program', { at: backend('exec', 'exec'), entry: resource('get {1}'), ref: '--out=/x', captures: ['--out=/x'] }],
    ['a field beside the resource’s own', { at: vault, entry: resource('kv/{1}'), ref: 'a#b', captures: ['a#b'] }],
  ])('is never %s', (_, { at, entry, ref, captures }) => {
    expect(() => providerRef(at, entry, { ref, captures })).toThrow(expect.objectContaining({ code: 'ref-invalid' }) as Error);
  });
});

it('names the backend where a provider names its table', () => {
  expect(inBundle('correct `url` in [providers.vault], or [providers.1password]', 'a$&b')).toBe(
    'correct `url` in backend "a$&b", or backend "a$&b"',
  );
  expect(inBundle(undefined, 'a')).toBeUndefined();
});

it('what was lent to somebody who went away meanwhile is there for the next one', async () => {
  let reads = 0;
  let answer = (): void => undefined;
  const asked = new Promise<void>((resolve) => {
    vault = http.createServer((request, response) => {
      response.setHeader('content-type', 'application/json');
      if (request.url !== '/v1/database/creds/app') {
        response.end(JSON.stringify({ data: { ttl: 3600 }, auth: null }));
        return;
      }
      reads += 1;
      answer = () => {
        response.end(JSON.stringify({ lease_id: 'l1', lease_duration: 3600, renewable: true, data: { password: 'CANARY-lent' } }));
      };
      if (reads > 1) answer();
      resolve();
    });
  });
  await new Promise<void>((resolve) => vault?.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${String((vault?.address() as AddressInfo).port)}`;
  lab.writeBundle(
    ['file: { type: env_file, path: ./secrets.env }', `file: { type: hashicorp_vault, address: "${address}", auth: token }`],
    ['{ ref: a/value, resolver: file, from: ONE', "{ ref: a/value, resolver: file, from: 'database/creds/app#password'"],
    ['{ ref: a/masked, resolver: file, from: ONE', "{ ref: a/masked, resolver: file, from: 'kv/x#y'"],
  );
  const { context, ...options } = lab.options();
  const env = { ...context.env, VAULT_TOKEN: 'CANARY-token' };
  const { backends, resources } = await compileBundle(lab.bundle, { ...options, context: { ...context, env } });
  const found = resources.find('a/value');
  if (found === undefined) throw new Error('there is no a/value');
  const gone = new AbortController();
  const first = get({ backends, found }, gone.signal);
  await asked;
  gone.abort();
  await expect(first).rejects.toThrow();
  answer();
  // It comes in while nobody waits for it, and before what is asked for later.
  for (let later = 0; later < 5; later += 1) await fetch(address).then((response) => response.text());
  expect(await get({ backends, found })).toBe('CANARY-lent');
  expect(reads).toBe(1);
  await backends.close(AbortSignal.timeout(1000));
});
