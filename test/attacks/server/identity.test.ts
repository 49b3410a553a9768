// Attacks on who calls: one issuer's tokens for another's rights, an issuer whose server lies, claims that read as somebody else, callers of a bundle
// that is no longer served. Real keys, real servers on loopback.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Decision } from '../../../src/audit/decision.ts';
import { identityOf, type Profile } from '../../../src/policy/identity.ts';
import { compileBundle } from '../../../src/server/compile.ts';
import { parseKeySet } from '../../../src/server/identity/jwks-key.ts';
import { KeyServer } from '../../../src/server/identity/key-server.ts';
import { LiveService } from '../../../src/server/service.ts';
import { Verifier } from '../../../src/server/identity/verify.ts';
import { SigningKey, TestIssuer, type IssuerOptions } from '../../server/identity/issuer.ts';

const signal = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), 'kz-attack-identity-'));
const started: TestIssuer[] = [];

afterAll(async () => {
  await Promise.all(started.map((issuer) => issuer.close()));
  rmSync(folder, { recursive: true, force: true });
});

async function start(options: IssuerOptions = {}): Promise<TestIssuer> {
  const issuer = await TestIssuer.start({ keys: [new SigningKey('ES256', { kid: 'main' })], ...options });
  started.push(issuer);
  return issuer;
}

interface Scene {
  readonly service: LiveService;
  readonly lines: Decision[];
  readonly told: string[];
  readonly reload: (issuer: string) => Promise<void>;
}

const REST = `
policies: [{ name: all, effect: allow, rule: "issuer == 'main'" }]
resources: [{ ref: a, resolver: env, mode: direct }]
backends: { env: { type: env_file, path: ./secrets.env } }
`;

async function serve(...issuers: readonly string[]): Promise<Scene> {
  const [lines, told]: [Decision[], string[]] = [[], []];
  const bundleOf = (entries: readonly string[]): string => `version: "1"\nissuers:\n${entries.join('\n')}${REST}`;
  const service = new LiveService(await compiled(bundleOf(issuers)), {
    audit: (line) => lines.push(line),
    tell: (text) => told.push(text),
    limits: { take: () => undefined },
  });
  const reload = async (entry: string): Promise<void> => {
    service.replace(await compiled(bundleOf([entry])));
  };
  return { service, lines, told, reload };
}

async function compiled(bundle: string): ReturnType<typeof compileBundle> {
  const path = join(folder, 'bundle.yaml');
  writeFileSync(path, bundle);
  return compileBundle(path, { context: { env: {}, userDirectory: folder } });
}

const ASK = { tool: 'resolve', face: 'http', ref: 'a' } as const;
const grantedRef = ({ ref }: { readonly ref: string }): Promise<string> => Promise.resolve(ref);

describe('two issuers', () => {
  it('with the same kid: each is verified with its own key, and nobody else’s', async () => {
    const [main, other] = [await start(), await start()];
    const verifier = await Verifier.open([main.entry({ name: 'main' }), other.entry({ name: 'other' })], { env: {} });
    expect((await verifier.verify(main.token(), signal)).issuer).toBe('main');
    expect((await verifier.verify(other.token(), signal)).issuer).toBe('other');
    const crossed = other.key.sign(main.claims());
    await expect(verifier.verify(crossed, signal)).rejects.toMatchObject({ code: 'jwt-invalid' });
    // Neither is what was remembered a way in.
    await expect(verifier.verify(crossed, signal)).rejects.toMatchObject({ code: 'jwt-invalid' });
  });

  it('one of which publishes the key of the other gets its own name at most', async () => {
    const [main, other] = [await start(), await start()];
    other.jwks = { keys: [main.key.jwk, other.key.jwk], issuer: main.url };
    const verifier = await Verifier.open([main.entry({ name: 'main' }), other.entry({ name: 'other' })], { env: {} });
    await expect(verifier.verify(other.key.sign(main.claims()), signal)).rejects.toMatchObject({ code: 'jwt-invalid' });
    expect(await verifier.verify(other.token(), signal)).toMatchObject({ issuer: 'other', iss: other.url });
  });

  it('one of which is slow, broken or huge holds up its own callers only', async () => {
    const [main, other] = [await start(), await start()];
    other.trouble = 'slow';
    const verifier = await Verifier.open([main.entry({ name: 'main' }), other.entry({ name: 'other' })], { env: {}, fetchTimeoutMs: 300 });
    const lost = Array.from({ length: 100 }, () => verifier.verify(other.token(), signal).catch(() => 'lost'));
    const at = performance.now();
    expect((await verifier.verify(main.token(), signal)).issuer).toBe('main');
    expect(performance.now() - at).toBeLessThan(250);
    expect(new Set(await Promise.all(lost))).toEqual(new Set(['lost']));
    expect(other.fetches).toBe(1);
  });

  it('with the same key server and other audiences: a token is for one of them', async () => {
    const main = await start();
    const twin = { ...main.entry({ name: 'twin', audience: ['other'] }), issuerUrl: `${main.url}/twin` };
    const verifier = await Verifier.open([main.entry({ name: 'main' }), twin], { env: {} });
    expect((await verifier.verify(main.token({ iss: twin.issuerUrl, aud: 'other' }), signal)).issuer).toBe('twin');
    await expect(verifier.verify(main.token({ aud: 'other' }), signal)).rejects.toMatchObject({ code: 'jwt-invalid' });
    await expect(verifier.verify(main.token({ iss: twin.issuerUrl }), signal)).rejects.toMatchObject({ code: 'jwt-invalid' });
  });
});

describe('a caller that was verified with a bundle', () => {
  it('whose issuer the next one does not have any more', async () => {
    const [main, other] = [await start(), await start()];
    const { service, reload, lines } = await serve(main.yaml({ name: 'main' }));
    const caller = await service.verify(main.token(), 'http', signal);
    expect(await service.with(caller, ASK, grantedRef)).toBe('a');
    await reload(other.yaml({ name: 'unrelated' }));
    await expect(service.with(caller, ASK, grantedRef)).rejects.toMatchObject({ code: 'issuer-unknown', status: 401 });
    expect(() => service.list(caller, 'mcp')).toThrow('issuer');
    expect(lines.slice(-2)).toMatchObject([
      { tool: 'resolve', sub: 'lab-subject', outcome: 'denied', code: 'issuer-unknown' },
      { tool: 'list', outcome: 'denied', code: 'issuer-unknown' },
    ]);
  });

  it('of an issuer whose name the next one gives to another', async () => {
    const [main, other] = [await start(), await start()];
    const { service, reload } = await serve(other.yaml({ name: 'main' }));
    const caller = await service.verify(other.token(), 'http', signal);
    await reload(main.yaml({ name: 'main' }));
    await expect(service.with(caller, ASK, grantedRef)).rejects.toMatchObject({ code: 'issuer-unknown' });
  });

  it('goes on while its issuer is there', async () => {
    const main = await start();
    const { service, reload } = await serve(main.yaml({ name: 'main' }));
    const caller = await service.verify(main.token(), 'http', signal);
    await reload(main.yaml({ name: 'main', audience: ['kz', 'more'] }));
    expect(await service.with(caller, ASK, grantedRef)).toBe('a');
  });

  it('is not remembered by the next one', async () => {
    const main = await start();
    const { service, reload } = await serve(main.yaml({ name: 'main' }));
    const token = main.token();
    await service.verify(token, 'http', signal);
    await reload(main.yaml({ name: 'main', audience: 'more' }));
    await expect(service.verify(token, 'http', signal)).rejects.toMatchObject({ code: 'jwt-invalid' });
  });
});

describe('claims that read as somebody else', () => {
  const profile = (type: Profile['type'], map: Record<string, readonly string[]> = {}): Profile => ({
    type,
    map: new Map(Object.entries(map)),
  });

  it('a number that JavaScript takes for another one', () => {
    const org = (number: string): string =>
      identityOf(profile('custom', { org: ['tenant'] }), JSON.parse(`{"tenant":${number}}`) as Record<string, unknown>).org;
    for (const number of ['9007199254740993', '9007199254740992', '-9007199254740993', '1e400', '-1e400', '1234567890123456789012']) {
      expect(org(number)).toBe('');
    }
    for (const number of ['9007199254740991', '0', '123456789012', '-1']) expect(org(number)).toBe(number);
  });

  it.each([false, 'false', null, 0, {}])('a Google address that nobody has verified: %j', (verified) => {
    const identity = identityOf(profile('gcp'), { email: 'deploy@acme.iam.gserviceaccount.com', email_verified: verified });
    expect(identity).toMatchObject({ service: '', actor: '' });
  });

  it('a claim that is no text, and a subject that only looks like a service account', () => {
    for (const claim of ['service', { name: 'service' }, ['service', 'x'], true, null]) {
      const claims = { namespace: [claim], serviceaccount: { 0: claim }, 'kubernetes.io': [{ namespace: 'admin' }] };
      expect(identityOf(profile('kubernetes'), claims)).toMatchObject({ org: '', service: '' });
    }
    for (const rest of ['a:b:c', ':b', 'a:', 'a']) {
      expect(identityOf(profile('kubernetes'), { sub: `system:serviceaccount:${rest}` })).toMatchObject({ org: '', service: '' });
      expect(identityOf(profile('kubernetes'), { sub: `x:system:serviceaccount:${rest}` })).toMatchObject({ org: '', service: '' });
    }
  });

  it('a branch called as an environment, and the other way round', () => {
    const claims = {
      ref: 'refs/heads/production',
      repository: 'eve/shop',
      repository_owner: 'eve',
      sub: 'repo:acme/shop:environment:production',
    };
    const { org, env, branch } = identityOf(profile('github-actions'), claims);
    expect([org, env, branch]).toEqual(['eve', '', 'refs/heads/production']);
  });

  it('a time beyond all time', async () => {
    const main = await start();
    const verifier = await Verifier.open([main.entry()], { env: {} });
    for (const [name, value] of [
      ...([
        ['exp', '-1e400'],
        ['exp', '-1'],
        ['exp', '0'],
        ['exp', '1e400'],
      ] as const),
      ...([
        ['iat', '1e400'],
        ['nbf', '1e400'],
        ['exp', '8640000000001'],
      ] as const),
    ]) {
      const text = JSON.stringify(main.claims({ [name]: 'TIME' })).replace('"TIME"', value);
      const jwt = main.key.signParts(JSON.stringify({ alg: 'ES256', kid: 'main' }), text);
      await expect(verifier.verify(jwt, signal)).rejects.toMatchObject({ code: expect.stringMatching(/^jwt-/) as string });
    }
  });
});

it('an issuer whose address only looks like that of GitHub', async () => {
  const address = 'https://t\u043eken.actions.githubusercontent.com';
  for (const key of ['issuer_url', 'jwks_url']) {
    const entry = { name: 'main', issuer_url: 'https://issuer.example', type: 'github-actions', audience: 'kz', [key]: address };
    await expect(serve(`  - ${JSON.stringify(entry)}`)).rejects.toMatchObject({ code: 'config-invalid' });
  }
});

describe('an issuer whose server lies', () => {
  it('does not send kz to another port of this machine', async () => {
    const [main, victim] = [await start({ tls: true }), await start()];
    main.discovery = { jwks_uri: victim.jwksUrl };
    const server = new KeyServer(main.entry({ keysFrom: 'discovery' }));
    // Itself on loopback, it may name http there; what is elsewhere may not, and https to here neither.
    expect((await server.keys(signal)).keys).toHaveLength(1);
    const remote = new KeyServer({ issuerUrl: 'https://issuer.example' });
    const near = [
      '127.0.0.1:6443',
      '127.1',
      '2130706433',
      '[::1]',
      '[::ffff:127.0.0.1]',
      'localhost',
      'LOCALHOST.',
      'x.localhost',
      '0.0.0.0',
      '[::]',
    ];
    const link = ['169.254.169.254', '[fe80::1]', '[fd00:ec2::254]', '100.100.100.200'];
    for (const uri of [victim.jwksUrl, 'http://localhost:8500/v1', ...[...near, ...link].map((host) => `https://${host}/x`)]) {
      expect(() => remote.named(uri)).toThrow('names no https URL');
    }
    for (const uri of [
      'https://keys.example/jwks',
      'https://10.0.0.1:6443/openid/v1/jwks',
      'https://notlocalhost/x',
      'https://localhost.example/x',
    ])
      expect(remote.named(uri).href).toBe(uri);
    expect(new KeyServer({ issuerUrl: 'https://169.254.1.1' }).named('https://169.254.1.1/jwks').pathname).toBe('/jwks');
  });

  it('does not make kz count with keys that take forever', async () => {
    const main = await start();
    const huge = (bits: number): Record<string, string> => {
      return { kty: 'RSA', kid: 'main', n: Buffer.alloc(bits / 8, 0xff).toString('base64url'), e: 'AQAB' };
    };
    expect(parseKeySet({ keys: [huge(8192)] }, 'x').keys).toHaveLength(1);
    // As long as the modulus: each check takes as long as a signature.
    expect(parseKeySet({ keys: [{ ...huge(3072), e: huge(3072).n }] }, 'x').keys).toEqual([]);
    expect(parseKeySet({ keys: [{ ...huge(3072), e: 'AQAAAAAAAAAB' }] }, 'x').keys).toEqual([]);
    main.jwks = { keys: Array.from({ length: 10 }, () => huge(16_384)) };
    const verifier = await Verifier.open([main.entry()], { env: {} });
    const jwt = main.token({}, { alg: 'RS256' });
    await expect(verifier.verify(jwt, signal)).rejects.toMatchObject({ message: expect.stringContaining('has no key for') as string });
  });

  it('does not tell callers what is at an address: only the operator reads why', async () => {
    const main = await start();
    const { service, told, lines } = await serve(main.yaml({ name: 'main' }));
    main.trouble = 404;
    const failures = await Promise.all(
      Array.from({ length: 20 }, () => service.verify(main.token(), 'http', signal).catch((error: unknown) => error)),
    );
    for (const failure of failures) {
      expect(failure).toMatchObject({ code: 'keys-unavailable', status: 503, retryAfterMs: 5000, hint: undefined });
      expect((failure as Error).message).not.toMatch(/127\.0\.0\.1|404/);
    }
    expect(told).toEqual([
      expect.stringMatching(/^the keys of issuer "main" cannot be had: http:\/\/127\.0\.0\.1:\d+\/jwks answered 404$/),
    ]);
    expect(lines).toHaveLength(20);
  });
});
