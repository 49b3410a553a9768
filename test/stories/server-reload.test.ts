// A bundle that changes while `kz server` serves it, in every way in which files change: the new one takes over, and one that is wrong changes nothing.
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubernetesMount } from '../fixtures/kubernetes-mount.ts';
import { SigningKey, TestIssuer } from '../server/identity/issuer.ts';
import { waitFor } from './processes.ts';
import { serveApi, type Json } from './server-parts.ts';
import { Scene, type Served } from './server-scene.ts';

let scene: Scene;
/** Answers the request to `/later`, which waits for it. */
let held: (() => void) | undefined;

beforeEach(async () => {
  held = undefined;
  scene = await Scene.start((request, response) => {
    if (request.url === '/later') held = () => response.end('late');
    else serveApi(request, response);
  });
});

afterEach(async () => {
  await scene.end();
});

const DENIES: readonly Json[] = [{ name: 'nobody', rule: 'true', effect: 'deny' }];
const ALLOWS: readonly Json[] = [{ name: 'again', rule: "org == 'acme'", effect: 'allow' }];
const RELOADED = 'anew';
const KEPT = 'the bundle was not taken over; the old one serves on';

const path = (): string => join(scene.story.project, 'bundle.yaml');

/** The policy that decides about `github/pat`. */
async function decides(served: Served): Promise<unknown> {
  return (await served.resolved('github/pat')).policy;
}

const reloads = (served: Served): readonly Json[] => served.events.filter(({ type }) => type === 'bundle-reloaded');

describe('a bundle that changes', () => {
  it.each<[string, (text: string) => void]>([
    ['in place', (text) => scene.story.write('bundle.yaml', text)],
    [
      'by a rename, as editors do',
      (text) => {
        renameSync(scene.story.write('bundle.yaml.new', text), path());
      },
    ],
    [
      'by going away first',
      (text) => {
        rmSync(path());
        scene.story.write('bundle.yaml', text);
      },
    ],
  ])('%s, is served', async (_, change) => {
    const served = await scene.serve();
    expect(await decides(served)).toBe('acme');
    change(scene.text({ policies: DENIES }));
    await served.said(RELOADED);
    expect(await decides(served)).toBe('nobody');
    change(scene.text({ policies: ALLOWS }));
    await served.said(RELOADED, 2);
    expect(await decides(served)).toBe('again');
  });

  it('by the swap of `..data`, as Kubernetes does, with what lies beside it', async () => {
    const mount = new KubernetesMount(join(scene.story.project, 'mount'));
    mkdirSync(mount.folder);
    const [first, second] = [scene.story.canary(), scene.story.canary()];
    for (const version of [1, 2, 3]) for (const file of ['..data', `..2026_01_02_${String(version)}`]) scene.keepOut(`${file}/secrets.env`);
    const parts = { resources: [{ ref: 'github/pat', resolver: 'gh', from: 'GITHUB_PAT', mode: 'direct' }] };
    const files = (value: string, policies?: readonly Json[]) => ({
      'bundle.yaml': scene.text({ ...parts, ...(policies === undefined ? {} : { policies }) }),
      'secrets.env': `GITHUB_PAT=${value}\n`,
    });
    await mount.update(files(first));
    const served = await scene.serve(['--bundle', 'mount/bundle.yaml']);
    expect(await served.resolved('github/pat', { reveals: true })).toMatchObject({ policy: 'acme', value: first });
    await mount.update(files(second, ALLOWS));
    await served.said(RELOADED);
    expect(await served.resolved('github/pat', { reveals: true })).toMatchObject({ policy: 'again', value: second });
    await mount.update(files(first, DENIES));
    await served.said(RELOADED, 2);
    expect(await decides(served)).toBe('nobody');
  });

  it('not at all, is read again at SIGHUP, with the keys that it names', async () => {
    const { kid, pem } = scene.issuer.key;
    const key = new SigningKey('ES256', { kid });
    scene.story.write('key.pem', pem);
    const keys = [{ kid, alg: 'ES256', pem_file: './key.pem' }];
    scene.bundle({ issuers: [scene.issuer.yaml({ jwks_url: undefined, static_keys: keys, map: { org: 'claims.org' } })] });
    const served = await scene.serve();
    const old = scene.token();
    expect((await served.resolve('github/pat', { jwt: old })).status).toBe(200);
    scene.story.write('key.pem', key.pem);
    const next = scene.guardToken(key.sign(scene.issuer.claims({ org: 'acme' })));
    expect((await served.resolve('github/pat', { jwt: next })).status).toBe(401);
    served.running.send('SIGHUP');
    await served.said(RELOADED);
    expect((await served.resolve('github/pat', { jwt: next })).status).toBe(200);
    // What was verified once is forgotten with its bundle.
    expect((await served.resolve('github/pat', { jwt: old })).status).toBe(401);
  });

  it('in all its parts: issuers, resources and backends too', async () => {
    const served = await scene.serve();
    const other = await TestIssuer.start({ keys: [new SigningKey('ES256')] });
    const jwt = scene.guardToken(other.token({ org: 'acme' }));
    const value = scene.story.canary();
    scene.keep('other.env', `OTHER=${value}\n`);
    expect(await served.resolve('other/raw', { jwt })).toMatchObject({ status: 401, json: { code: 'issuer-unknown' } });
    expect((await served.resolve('other/raw')).status).toBe(404);
    scene.bundle({
      issuers: [other.yaml({ name: 'other', map: { org: 'claims.org' } })],
      resources: [{ ref: 'other/raw', resolver: 'other', from: 'OTHER', mode: 'direct' }],
      backends: { other: { type: 'env_file', path: './other.env' } },
    });
    await served.said(RELOADED);
    expect(await served.resolved('other/raw', { jwt, reveals: true })).toMatchObject({ allowed: true, value });
    expect(await served.resolve('github/pat', { jwt })).toMatchObject({ status: 404, json: { code: 'ref-unknown' } });
    expect(await served.resolve('other/raw')).toMatchObject({ status: 401, json: { code: 'issuer-unknown' } });
    await other.close();
  });

  it('while a call runs, does not disturb it', async () => {
    const served = await scene.serve();
    const answer = served.fetch({ url: 'https://api.example/later' });
    await waitFor('the request', () => held !== undefined);
    scene.bundle({ policies: DENIES, resources: [], backends: {} });
    await served.said(RELOADED);
    expect((await served.fetch({ url: 'https://api.example/' })).status).toBe(403);
    held?.();
    expect(await answer).toMatchObject({ status: 200, json: { status: 200, body: 'late' } });
  });

  it('many times in a row, ends as the last one', async () => {
    const served = await scene.serve();
    for (let count = 0; count < 50; count += 1) {
      scene.bundle({ policies: [{ name: `number-${String(count)}`, rule: "org == 'acme'", effect: 'allow' }] });
    }
    await served.said(RELOADED);
    await until(async () => (await decides(served)) === 'number-49');
  });

  it('is in the log and in the numbers', async () => {
    const served = await scene.serve();
    scene.bundle({ policies: ALLOWS });
    await served.said(RELOADED);
    await waitFor('the line', () => reloads(served).length === 1);
    expect(reloads(served)).toEqual([expect.objectContaining({ type: 'bundle-reloaded', ok: true, problems: 0 })]);
    scene.story.write('bundle.yaml', 'version: "1"\npolicy: []\nissuer: []\n');
    await served.said(KEPT);
    await waitFor('the line', () => reloads(served).length === 2);
    expect(reloads(served)[1]).toMatchObject({ ok: false, problems: 2 });
    const { text } = await served.ask('/metrics');
    expect(text).toMatch(/^kz_bundle_reloads_total\{result="ok"\} 1$/m);
    expect(text).toMatch(/^kz_bundle_reloads_total\{result="failed"\} 1$/m);
  });
});

describe('a new bundle that is wrong', () => {
  it.each<[string, () => string, RegExp]>([
    ['is no YAML', () => 'version: "1"\nissuers: [', /bundle\.yaml:\d+:\d+: /],
    ['is empty', () => '', /the bundle is empty/],
    ['has a rule that is none', () => scene.text({ policies: [{ name: 'a', rule: 'org =', effect: 'allow' }] }), /:4:\d+: policy "a": /],
    ['has a backend less', () => scene.text({ backends: {} }), /:5:\d+: resolver "gh" is not the name of a backend/],
    ['is too large', () => `#${'x'.repeat(1_100_000)}`, /larger than 1 MiB/],
  ])('%s: the old one serves on, and says so', async (_, text, words) => {
    const served = await scene.serve();
    scene.story.write('bundle.yaml', text());
    await served.said(KEPT);
    expect(served.running.stderr).toMatch(words);
    expect(await decides(served)).toBe('acme');
    expect((await served.ask('/readyz')).status).toBe(200);
    scene.bundle({ policies: ALLOWS });
    await served.said(RELOADED);
    expect(await decides(served)).toBe('again');
  });

  it('has gone: the old one serves on until it is back', async () => {
    const served = await scene.serve();
    const text = readFileSync(path());
    rmSync(path());
    await served.said(KEPT);
    expect(served.running.stderr).toContain('there is no bundle');
    expect(await decides(served)).toBe('acme');
    scene.story.write('bundle.yaml', text);
    await served.said(RELOADED);
    expect(await decides(served)).toBe('acme');
  });

  it('at SIGHUP: the same', async () => {
    const served = await scene.serve();
    scene.story.write('bundle.yaml', 'version: "2"\n');
    served.running.send('SIGHUP');
    await served.said(KEPT);
    expect(await decides(served)).toBe('acme');
  });
});

async function until(predicate: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await predicate())) if (performance.now() > deadline) throw new Error('waited in vain');
}
