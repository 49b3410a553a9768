// `kz server init`, `put` and `token`: one person on one machine, from nothing to a bundle that works.
import { createPublicKey, verify } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

const inProject = (name: string): string => join(story.project, name);
const keyPath = (): string => join(story.home, '.config/keyzero/issuer.pem');

interface Token {
  readonly header: Record<string, unknown>;
  readonly claims: Record<string, unknown>;
  readonly isSigned: boolean;
}

/** Opened without kz's own code. */
function opened(jwt: string): Token {
  const [header = '', payload = '', signature = ''] = jwt.trim().split('.');
  const json = (part: string): Record<string, unknown> => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
  const pem = /-----BEGIN PUBLIC KEY-----[\s\S]*?-----END PUBLIC KEY-----/.exec(readFileSync(inProject('bundle.yaml'), 'utf8'))?.[0] ?? '';
  const key = createPublicKey(pem.replace(/^ +/gm, ''));
  const signed = Buffer.from(`${header}.${payload}`);
  const isSigned = verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'));
  return { header: json(header), claims: json(payload), isSigned };
}

describe('kz server init', () => {
  it('writes a bundle that is valid, and a key that nobody else can read', async () => {
    expect(await story.kz(['server', 'init'])).toMatchObject({ code: 0, stdout: '' });
    expect(statSync(inProject('bundle.yaml')).mode & 0o777).toBe(0o600);
    expect(statSync(keyPath()).mode & 0o777).toBe(0o600);
    expect(readFileSync(inProject('bundle.yaml'), 'utf8')).not.toContain('PRIVATE');
    expect(await story.kz(['server', 'check', '--bundle', 'bundle.yaml'])).toMatchObject({ code: 0, stderr: '' });
  });

  it('replaces no bundle unless told to, and never the key', async () => {
    await story.kz(['server', 'init']);
    const key = readFileSync(keyPath(), 'utf8');
    const refused = await story.kz(['server', 'init']);
    expect(refused).toMatchObject({ code: 2, stderr: 'kz: error: bundle.yaml is already there\nkz: hint: replace it with --force\n' });
    expect(await story.kz(['server', 'init', '--force', '-b', 'other.yaml'])).toMatchObject({ code: 0 });
    expect(await story.kz(['server', 'init', '--force'])).toMatchObject({ code: 0 });
    expect(readFileSync(keyPath(), 'utf8')).toBe(key);
  });

  it('signs with no key that others could have read', async () => {
    await story.kz(['server', 'init']);
    chmodSync(keyPath(), 0o644);
    expect(await story.kz(['server', 'token'])).toMatchObject({ code: 1, stdout: '' });
  });
});

describe('kz server token', () => {
  beforeEach(async () => {
    await story.kz(['server', 'init']);
  });

  it('prints a token that the bundle verifies', async () => {
    const { code, stdout } = await story.kz(['server', 'token', '--subject', 'me', '--claim', 'team=web', '--ttl', '1h']);
    expect(code).toBe(0);
    const { header, claims, isSigned } = opened(stdout);
    expect(isSigned).toBe(true);
    expect(header).toMatchObject({ alg: 'ES256', typ: 'JWT' });
    expect(claims).toMatchObject({ sub: 'me', aud: 'kz', team: 'web', iss: 'https://local.keyzero.invalid' });
    expect(Number(claims.exp) - Number(claims.iat)).toBe(3600);
  });

  it('writes it for its owner alone', async () => {
    const { code, stdout } = await story.kz(['server', 'token', '--out', 'agent.jwt']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(statSync(inProject('agent.jwt')).mode & 0o777).toBe(0o600);
    expect(opened(readFileSync(inProject('agent.jwt'), 'utf8')).isSigned).toBe(true);
  });

  it.each([
    [['--claim', 'sub=root'], '--claim cannot set sub'],
    [['--claim', 'x'], '--claim needs a name and a value'],
    [['--ttl', '1ms'], 'a token lives for a second at least'],
    [['--key', 'nowhere.pem'], 'there is no key nowhere.pem, which --key names'],
    [['--subject', ''], '--subject is empty\nkz: hint: name it, or leave --subject out'],
    [['--subject', ' '], '--subject is empty'],
    [['--audience', ''], '--audience is empty'],
    [['--out', 'nowhere/a.jwt'], '/nowhere, which --out names\nkz: hint: correct --out, or make the folder first'],
  ])('refuses %j', async (args, words) => {
    const { code, stdout, stderr } = await story.kz(['server', 'token', ...args]);
    expect({ failed: code !== 0, stdout }).toEqual({ failed: true, stdout: '' });
    expect(stderr).toContain(words);
    expect(existsSync(inProject('nowhere'))).toBe(false);
  });

  it('says how to get a key', async () => {
    const fresh = new Story();
    expect(await fresh.kz(['server', 'token'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('run `kz server init`') as string,
    });
    fresh.end();
  });
});

describe('kz server put', () => {
  it('stores what the bundle names, and reads it back', async () => {
    await story.kz(['server', 'init']);
    const value = story.canary();
    const put = await story.kz(['server', 'put', 'github/pat', '-b', 'bundle.yaml'], { input: value });
    expect(put, put.stderr).toMatchObject({ code: 0, stdout: '' });
    expect(existsSync(join(story.home, '.config/keyzero/store.age'))).toBe(true);
    story.config('[secrets]\nSAME = { provider = "store", ref = "github-pat" }\n');
    const { stdout } = await story.kz(['get', 'SAME'], { reveals: true });
    expect(stdout.trim()).toBe(value);
  });

  it.each([['put', 'github/pat'], ['check'], ['start']])('without --bundle says which one is here: %s', async (command, ...rest) => {
    const words = [command, ...rest];
    const needs = `kz: error: kz server ${command} needs --bundle\nkz: hint: `;
    const without = await story.kz(['server', ...words]);
    expect(without).toMatchObject({ code: 2, stderr: `${needs}run \`kz server ${command} --help\`\n` });
    await story.kz(['server', 'init']);
    expect(await story.kz(['server', ...words])).toMatchObject({ code: 2, stderr: `${needs}add \`-b bundle.yaml\`\n` });
  });

  it('knows what the bundle does not have', async () => {
    await story.kz(['server', 'init']);
    expect(await story.kz(['server', 'put', 'other/pat', '-b', 'bundle.yaml'], { input: 'x' })).toMatchObject({
      code: 1,
      stderr: 'kz: error: no resource of bundle.yaml is called "other/pat"\nkz: hint: it has github/pat\n',
    });
  });
});
