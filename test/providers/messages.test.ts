// What somebody reads whose config is nearly right: the name of the secret once, and a next step that works.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { Access } from '../../src/providers/resolve.ts';
import { resolveSecrets } from '../../src/providers/secrets.ts';
import { AwsFake } from '../fixtures/aws-fake.ts';
import { CANARY, isolate, open as openAws, put, REGION } from './aws-contract.ts';
import { NEVER, text } from './vault-bench.ts';
import { VaultLab } from './vault-lab.ts';

isolate();
const lab = VaultLab.forThisFile();
let aws: AwsFake;
let folder: string;

beforeAll(async () => {
  aws = await AwsFake.start();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-messages-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});
afterAll(() => aws.stop());

/** Of each secret of the config: its value, or what is said of it. */
async function said(config: string, env: Readonly<Record<string, string>> = {}): Promise<Record<string, unknown>> {
  const head = `[providers.aws]\nregion = "${REGION}"\nendpoint = "${aws.endpoint}"\n[providers.vault]\naddress = "${lab.fake.address}"\n`;
  writeFileSync(join(folder, '.keyzero.toml'), `${head}${config}`);
  const full = { HOME: folder, VAULT_TOKEN: lab.fake.token, AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: CANARY, ...env };
  const loaded = await loadConfig({ env: full, cwd: folder });
  const access = new Access(loaded.providers, { env: full, userDirectory: join(folder, 'keyzero') });
  const { secrets } = await resolveSecrets(loaded, {}, access, AbortSignal.timeout(10_000));
  return Object.fromEntries(
    secrets.map((result) => {
      if (result.state === 'set') return [result.name, result.secret.reveal()];
      return [result.name, result.state === 'absent' ? '(absent)' : [result.error.message, result.error.hint]];
    }),
  );
}

const ENV_DOCUMENT = JSON.stringify({ URL: 'u', password: 'CANARY-1', username: 'CANARY-2', none: null, blank: '', pin: 5 });

describe('a key that a document does not have', () => {
  const some = (keys: string): Promise<Record<string, unknown>> =>
    said(`[[secrets_from]]\nprovider = "env"\nref = "DOC"\n${keys}`, { DOC: ENV_DOCUMENT });

  it('is compared with those that it has', async () => {
    expect(await some('keys = ["URL", "pasword"]')).toEqual({
      URL: 'u',
      pasword: ['pasword is missing: env DOC has no key "pasword"', 'did you mean "password"?'],
    });
    expect(await some('keys = { PASSWORD = "passwort" }')).toMatchObject({
      PASSWORD: [`PASSWORD is missing: env DOC has no key "passwort"`, 'did you mean "password"?'],
    });
  });

  it('is like none of them, and no key is printed', async () => {
    const usual = 'give it a value in the document, or correct `keys`';
    expect(await some('keys = { A = "zarquon", B = "none", C = "blank" }')).toEqual({
      A: ['A is missing: env DOC has no key "zarquon"', usual],
      B: ['B is missing: env DOC has no key "none"', usual],
      C: ['C is empty (from env DOC)', usual],
    });
  });

  it('is compared for json_key and templates, too', async () => {
    const config = `[secrets]
KEY = { provider = "env", ref = "DOC", json_key = "pasword" }
DATABASE_URL = { provider = "env", ref = "DOC", template = "x://{usernam}" }
OTHER = { provider = "env", ref = "DOC", template = "{zarquon}" }
`;
    expect(await said(config, { DOC: ENV_DOCUMENT })).toEqual({
      KEY: ['KEY is missing (provider: env, ref: DOC), which has no "pasword"', 'did you mean "password"?'],
      DATABASE_URL: ['DATABASE_URL: DOC has no field "usernam" for its template', 'did you mean "username"?'],
      OTHER: ['OTHER: DOC has no field "zarquon" for its template', 'correct `template`, or add the field to the document'],
    });
  });
});

describe('what AWS does not have', () => {
  const look = `if it should be in ${REGION}, run \`aws secretsmanager list-secrets --region ${REGION}\`; if it is elsewhere, set \`region\` in [providers.aws]`;

  it('is proposed to be put where kz can, and else not', async () => {
    const result = await said(`[secrets]
PLAIN = { provider = "aws", ref = "sm://gone" }
KEY = { provider = "aws", ref = "sm://gone#url" }
PART = { provider = "aws", ref = "sm://gone", json_key = "url" }
OLD = { provider = "aws", ref = "sm://gone@AWSPREVIOUS" }
PARAMETER = { provider = "aws", ref = "ssm:///gone" }
ARN = { provider = "aws", ref = "arn:aws:secretsmanager:${REGION}:123456789012:secret:gone-abcdef" }
[[secrets_from]]
provider = "aws"
ref = "sm://gone"
keys = ["MEMBER"]
`);
    const hints = Object.fromEntries(Object.entries(result).map(([name, each]) => [name, (each as string[])[1]]));
    expect(hints).toEqual({
      PLAIN: `run \`kz put PLAIN\`; ${look}`,
      KEY: `run \`kz put KEY\`; ${look}`,
      PART: `store the whole document as aws sm://gone; ${look}`,
      OLD: `store secret "gone" first; ${look}`,
      PARAMETER: `run \`kz put PARAMETER\`; ${look.replace('secretsmanager list-secrets', 'ssm describe-parameters')}`,
      ARN: `to see what is there, run \`aws secretsmanager list-secrets --region ${REGION}\``,
      MEMBER: look,
    });
  });

  it('is one key of a secret that is there', async () => {
    const provider = openAws(aws.endpoint);
    await put(provider, 'sm://messages', JSON.stringify({ url: CANARY }));
    await provider.close?.(NEVER);
    const result = await said(`[secrets]
NEAR = { provider = "aws", ref = "sm://messages#urls" }
FAR = { provider = "aws", ref = "sm://messages#zarquon" }
OLD = { provider = "aws", ref = "sm://messages#zarquon@AWSCURRENT" }
`);
    expect(Object.values(result).map((each) => (each as string[])[1])).toEqual([
      'did you mean "url"?',
      'run `kz put FAR`',
      'correct the key in the ref',
    ]);
  });
});

describe('what Vault does not have', () => {
  it('comes with a command to look', async () => {
    const result = await said(`[secrets]
PLAIN = { provider = "vault", ref = "kv/team/gone#x" }
WHOLE = { provider = "vault", ref = "kv/gone" }
OLD = { provider = "vault", ref = "kv/app?version=7#x" }
DATABASE_URL = { provider = "vault", ref = "kv/app", template = "{xx}" }
[[secrets_from]]
provider = "vault"
ref = "kv/team/gone"
keys = ["MEMBER"]
`);
    const missing = `"kv/team/gone" is not in vault at ${lab.fake.address}`;
    expect(result).toEqual({
      PLAIN: [
        'PLAIN is missing (provider: vault, ref: kv/team/gone#x)',
        'run `kz put PLAIN`; if it should be there, run `vault kv list kv/team`',
      ],
      WHOLE: [
        'WHOLE is missing (provider: vault, ref: kv/gone)',
        'store the whole document as vault kv/gone; if it should be there, run `vault kv list kv`',
      ],
      OLD: ['OLD is missing (provider: vault, ref: kv/app?version=7#x)', 'to see its versions, run `vault kv metadata get kv/app`'],
      DATABASE_URL: ['DATABASE_URL: kv/app has no field "xx" for its template', 'did you mean "x"?'],
      MEMBER: [`MEMBER: ${missing}`, 'if it should be there, run `vault kv list kv/team`'],
    });
  });

  it('is a secret id that is not set, or not the right one', async () => {
    const roleId = text(await lab.fake.request('GET', 'auth/approle/role/ci/role-id'), 'body', 'data', 'role_id');
    const login = (env: Readonly<Record<string, string>>): Promise<unknown> =>
      lab.get(lab.open({ address: lab.fake.address, auth: 'approle', role_id: roleId }, env), ['kv/app#x']);
    const refused = `vault at ${lab.fake.address} refused the approle login at "auth/approle" (400)`;
    await expect(login({})).rejects.toMatchObject({
      code: 'provider-locked',
      message: `${refused}; VAULT_SECRET_ID is not set`,
      hint: 'set VAULT_SECRET_ID, or `secret_id_file` in [providers.vault]',
    });
    await expect(login({ VAULT_SECRET_ID: 'CANARY-wrong' })).rejects.toMatchObject({
      message: refused,
      hint: 'check the role id, or ask for a new secret id: `vault write -f auth/approle/role/ROLE/secret-id`',
    });
  });
});

describe('a server that cannot be reached', () => {
  const refusal = (address: string): Promise<unknown> => lab.get(lab.open({ address }), ['kv/app#x']);

  it('speaks no TLS', async () => {
    await expect(refusal(lab.fake.address.replace('http:', 'https:'))).rejects.toMatchObject({
      code: 'provider-unavailable',
      hint: 'if it speaks no TLS, write `http://` in `address` in [providers.vault], or VAULT_ADDR',
    });
  });

  it('is not there', async () => {
    const hint = 'is it running? check `address` in [providers.vault], or VAULT_ADDR';
    await expect(refusal('http://127.0.0.1:1')).rejects.toMatchObject({ hint });
    const provider = openAws('http://127.0.0.1:1');
    const [outcome] = await provider.get([{ text: 'sm://x', directory: '/' }], NEVER);
    expect(outcome).toMatchObject({ error: { hint: 'is it running? check `endpoint` in [providers.aws], or AWS_ENDPOINT_URL' } });
  });
});

describe('a number that JSON readers do not keep', () => {
  it.each(['12345678901234567890.5', '1e400', '-0.1000000000000000001', '123456789012345678901e-3', '1e-400'])(
    '%s is refused',
    async (n) => {
      const env = { DOC: `{"pin": ${n}, "list": {"a": [${n}]}, "ok": 1}` };
      const problem = (key: string): string => `what "${key}" holds is or has a number with more digits than kz can keep`;
      const hint = 'quote it in the document, as text';
      const result = await said(
        `[secrets]
A = { provider = "env", ref = "DOC", json_key = "pin", default = "d" }
B = { provider = "env", ref = "DOC", json_key = "list", required = false }
C = { provider = "env", ref = "DOC", json_key = "ok" }
[[secrets_from]]
provider = "env"
ref = "DOC"
keys = { PIN = "pin", OK = "ok" }
`,
        env,
      );
      const [A, B, PIN] = [`A: ${problem('pin')}`, `B: ${problem('list')}`, `PIN: ${problem('pin')}`];
      expect(result).toEqual({ A: [A, hint], B: [B, hint], C: '1', PIN: [PIN, hint], OK: '1' });
    },
  );

  it.each([
    ['1.50', '1.5'],
    ['0.1', '0.1'],
    ['-2.5e-7', '-2.5e-7'],
    ['1E3', '1000'],
    ['1e22', '1e+22'],
    ['0.0', '0'],
    ['0e999999999999', '0'],
    ['100000000000000000000000.000', '1e+23'],
    ['12345678901234567890', '12345678901234567890'],
  ])('is not %s', async (written, read) => {
    const config = '[secrets]\nA = { provider = "env", ref = "DOC", json_key = "n" }\n';
    expect(await said(config, { DOC: `{"n": ${written}}` })).toEqual({ A: read });
  });
});
