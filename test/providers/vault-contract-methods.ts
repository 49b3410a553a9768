// What not every server has: other logins, and namespaces.
import { createHash, createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { VaultCapabilities } from './vault-contract.ts';
import { expectError, rejection, login, type VaultBench } from './vault-bench.ts';

export function methodsContract(bench: VaultBench, capabilities: VaultCapabilities): void {
  const { setUp, provider, get, one, value, write2 } = bench;

  describe.skipIf(!capabilities.jwt)(`a login with a JWT${capabilities.jwt ? '' : ' (skipped: no jwt method)'}`, () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    beforeAll(async () => {
      await setUp('POST', 'sys/auth/ci-jwt', { type: 'jwt' });
      await setUp('POST', 'auth/ci-jwt/config', { jwt_validation_pubkeys: [publicKey.export({ type: 'spki', format: 'pem' })] });
      const role = { role_type: 'jwt', user_claim: 'sub', bound_audiences: ['kz'], token_policies: ['kz-reader'], token_ttl: '30m' };
      await setUp('POST', 'auth/ci-jwt/role/build', role);
    });

    function jwt(audience: string): string {
      const now = Math.floor(Date.now() / 1000);
      const claims = { iss: 'https://ci.invalid', sub: 'repo:app', aud: audience, iat: now, nbf: now - 10, exp: now + 300 };
      const signed = [{ alg: 'RS256', typ: 'JWT' }, claims]
        .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
        .join('.');
      return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
    }

    it('takes it from a variable, a file, or GitHub', async () => {
      await write2('open/jwt', { x: 'y' });
      const options = { auth: 'jwt', mount: 'ci-jwt', role: 'build' } as const;
      expect(await value(provider({ ...options, jwt_env: 'CI_TOKEN' }, { CI_TOKEN: jwt('kz') }), 'kz2/open/jwt#x')).toBe('y');
      const file = join(bench.folder, 'jwt');
      writeFileSync(file, `${jwt('kz')}\n`);
      const vault = provider({ ...options, jwt_file: file }, {});
      expect(await value(vault, 'kz2/open/jwt#x')).toBe('y');
      expect(login(vault)).toMatchObject({ durationMs: 1_800_000 });

      const asked: (string | undefined)[] = [];
      const github = createServer((request, response) => {
        asked.push(request.url, request.headers.authorization);
        response.end(JSON.stringify({ value: jwt('kz') }));
      });
      await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
      const url = `http://127.0.0.1:${String((github.address() as AddressInfo).port)}/token?api-version=2`;
      const env = { ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'request-token' };
      expect(await value(provider({ ...options, audience: 'kz' }, env), 'kz2/open/jwt#x')).toBe('y');
      expect(asked).toEqual(['/token?api-version=2&audience=kz', 'Bearer request-token']);
      github.close();
    });

    it('is locked for another audience', async () => {
      const token = jwt('somebody-else');
      const vault = provider({ auth: 'jwt', mount: 'ci-jwt', role: 'build', jwt_env: 'CI_TOKEN' }, { CI_TOKEN: token });
      const error = await rejection(get(vault, 'kz2/open/jwt#x'));
      expect(error).toMatchObject({ code: 'provider-locked', message: expect.stringMatching(/refused the jwt login/) as string });
      expect(inspect(error)).not.toContain(token);
    });
  });

  describe.skipIf(!capabilities.kubernetes)(`a login of a pod${capabilities.kubernetes ? '' : ' (skipped: no kubernetes method)'}`, () => {
    it('takes the token of the service account', async () => {
      const { kubernetes } = bench.server;
      if (kubernetes === undefined) throw new Error('a bench.server with kubernetes has to say which');
      await write2('open/pod', { x: 'y' });
      await setUp('POST', 'sys/auth/kubernetes', { type: 'kubernetes' });
      await setUp('POST', 'auth/kubernetes/config', kubernetes.config);
      await setUp('POST', 'auth/kubernetes/role/app', {
        bound_service_account_names: [kubernetes.serviceAccount],
        bound_service_account_namespaces: [kubernetes.namespace],
        token_policies: ['kz-reader'],
      });
      const file = join(bench.folder, 'pod-token');
      writeFileSync(file, kubernetes.jwt);
      expect(await value(provider({ auth: 'kubernetes', role: 'app', jwt_file: file }, {}), 'kz2/open/pod#x')).toBe('y');
      const error = await rejection(get(provider({ auth: 'kubernetes', role: 'other', jwt_file: file }, {}), 'kz2/open/pod#x'));
      expect(error).toMatchObject({ code: 'provider-locked' });
    });
  });

  describe.skipIf(!capabilities.aws)(`a login with AWS IAM${capabilities.aws ? '' : ' (skipped: no aws method)'}`, () => {
    const secretKey = `CANARY${randomBytes(16).toString('hex')}`;

    it('signs a request that only AWS can judge, with the bench.server’s id in it', async () => {
      await write2('open/aws', { x: 'y' });
      const signatures: boolean[] = [];
      const sts = createServer((request, response) => {
        const chunks: Buffer[] = [];
        request.on('data', (chunk: Buffer) => chunks.push(chunk));
        request.on('end', () => {
          const isSigned =
            signatureOf(request, Buffer.concat(chunks), secretKey) === /Signature=(\w+)/.exec(request.headers.authorization ?? '')?.[1];
          signatures.push(isSigned);
          response.writeHead(isSigned ? 200 : 403, { 'content-type': 'text/xml' });
          response.end(CALLER_IDENTITY);
        });
      });
      await new Promise<void>((resolve) => sts.listen(0, '127.0.0.1', resolve));
      const endpoint = `http://127.0.0.1:${String((sts.address() as AddressInfo).port)}`;
      await setUp('POST', 'sys/auth/aws', { type: 'aws' });
      await setUp('POST', 'auth/aws/config/client', {
        sts_endpoint: endpoint,
        sts_region: 'us-east-1',
        iam_server_id_header_value: 'vault.test',
      });
      await setUp('POST', 'auth/aws/role/app', {
        auth_type: 'iam',
        bound_iam_principal_arn: 'arn:aws:iam::123456789012:user/app',
        resolve_aws_unique_ids: false,
        token_policies: ['kz-reader'],
      });
      vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAIOSFODNN7EXAMPLE');
      vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretKey);
      vi.stubEnv('AWS_SESSION_TOKEN', undefined);
      const vault = provider({ auth: 'aws', role: 'app', server_id: 'vault.test' }, {});
      expect(await value(vault, 'kz2/open/aws#x')).toBe('y');
      // A real Vault asks STS several times during one login.
      expect(new Set(signatures)).toEqual(new Set([true]));
      const error = await rejection(get(provider({ auth: 'aws', role: 'app' }, {}), 'kz2/open/aws#x'));
      expect(error).toMatchObject({ code: 'provider-locked', message: expect.stringMatching(/refused the aws login/) as string });
      sts.close();
    });
  });

  describe.skipIf(!capabilities.namespaces)(`namespaces${capabilities.namespaces ? '' : ' (skipped: none)'}`, () => {
    it('are separate', async () => {
      await setUp('POST', 'sys/namespaces/kz-team', {});
      await setUp('POST', 'kz-team/sys/mounts/inner', { type: 'kv', options: { version: '1' } });
      await setUp('POST', 'kz-team/inner/app', { x: 'inner' });
      expect(await value(provider({ namespace: 'kz-team' }), 'inner/app#x')).toBe('inner');
      expect(await value(provider({}, { VAULT_TOKEN: bench.server.token, VAULT_NAMESPACE: 'kz-team/' }), 'inner/app#x')).toBe('inner');
      expectError(await one(provider(), 'inner/app#x'), 'ref-invalid', /no secrets engine/, /namespace/);
      expectError(
        await one(provider({ namespace: 'kz-team' }), 'kz2/open/app#x'),
        'ref-invalid',
        /no secrets engine/,
        /namespace "kz-team"/,
      );
    });
  });
}

const CALLER_IDENTITY = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>arn:aws:iam::123456789012:user/app</Arn>
    <UserId>AIDAEXAMPLEUSERID</UserId>
    <Account>123456789012</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>
</GetCallerIdentityResponse>`;

interface SignedRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** AWS Signature Version 4, as its documentation says it: what the signature of this request has to be. */
function signatureOf({ method = '', headers }: SignedRequest, body: Buffer, secretKey: string): string {
  const [, scope = '', names = ''] = /Credential=[^/]+\/([^,]+), ?SignedHeaders=([^,]+)/.exec(String(headers.authorization)) ?? [];
  const lines = names.split(';').map((name) => `${name}:${String(headers[name]).trim()}\n`);
  const canonical = [method, '/', '', lines.join(''), names, createHash('sha256').update(body).digest('hex')].join('\n');
  const digest = createHash('sha256').update(canonical).digest('hex');
  const key = scope
    .split('/')
    .reduce<Buffer>((last, part) => createHmac('sha256', last).update(part).digest(), Buffer.from(`AWS4${secretKey}`));
  const toSign = ['AWS4-HMAC-SHA256', String(headers['x-amz-date']), scope, digest].join('\n');
  return createHmac('sha256', key).update(toSign).digest('hex');
}
