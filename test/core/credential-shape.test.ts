import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  explainsRandomValue,
  looksLikeSecretName,
  looksLikeSecretValue,
  RANDOM_SHAPE,
  secretValueShape,
} from '../../src/core/credential-shape.ts';

const SECRET_NAMES = `
  GITHUB_TOKEN GITHUB_PERSONAL_ACCESS_TOKEN GH_TOKEN NPM_TOKEN HF_TOKEN SLACK_BOT_TOKEN TELEGRAM_BOT_TOKEN VAULT_TOKEN API_TOKENS githubToken
  npm_config__authToken _authToken GITHUBTOKEN GITHUB_TOKEN_2 GITHUB_TOKEN_PROD ACTIONS_ID_TOKEN_REQUEST_TOKEN TOKEN AWS_SESSION_TOKEN
  CLIENT_SECRET OAUTH_CLIENT_SECRET SECRET SECRETS JWT_SECRET NEXTAUTH_SECRET BETTER_AUTH_SECRET SECRET_KEY_BASE DJANGO_SECRET_KEY
  STRIPE_WEBHOOK_SECRET SESSION_SECRET AZURE_CLIENT_SECRET CLIENT_SECRET_VALUE
  PASSWORD DB_PASSWORD PGPASSWORD POSTGRES_PASSWORD MYSQL_ROOT_PASSWORD MYSQL_PWD DB_PASS SMTP_PASS FTP_PASSWD KEYSTORE_PASSWORD ADMIN_PASSWORD_HASH
  GPG_PASSPHRASE KEYZERO_PASSPHRASE
  API_KEY APIKEY OPENAI_API_KEY ANTHROPIC_API_KEY OPENAI_API_KEY_1 API_KEYS X-Api-Key apiKey OPENAI_APIKEY SENDGRID_KEY KEY APP_KEY ENCRYPTION_KEY
  STRIPE_SECRET_KEY PRIVATE_KEY PRIVATE_KEY_PEM SSH_PRIVATE_KEY_BASE64 VAPID_PRIVATE_KEY AZURE_STORAGE_KEY COSMOS_PRIMARY_KEY LICENSE_KEY SIGNINGKEY
  AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY VAULT_SECRET_ID PAGERDUTY_ROUTING_KEY DATADOG_APP_KEY
  GOOGLE_CREDENTIALS GOOGLE_CREDENTIALS_JSON FIREBASE_CREDENTIAL DB_CREDS WALLET_MNEMONIC
  BASIC_AUTH REGISTRY_AUTH HTTP_AUTHORIZATION AUTHORIZATION VAPID_PRIVATE AZURE_DEVOPS_EXT_PAT GITHUB_PAT
  SENTRY_DSN DSN SLACK_WEBHOOK SLACK_WEBHOOK_URL DISCORD_WEBHOOK_URLS
  CONNECTION_STRING AZURE_STORAGE_CONNECTION_STRING CONN_STRING DB_CONN_STR DB_CONNECTION_URL
  DATABASE_URL DATABASE_URL_TEST TEST_DATABASE_URL POSTGRES_URL POSTGRES_PRISMA_URL POSTGRESQL_URI MONGO_URI MONGODB_URI MONGOLAB_URI
  REDIS_URL REDIS_TLS_URL REDISCLOUD_URL AMQP_URL CLOUDAMQP_URL CELERY_BROKER_URL MYSQL_URL JAWSDB_URL HEROKU_POSTGRESQL_RED_URL CLEARDB_DATABASE_URL
`;

const SETTING_NAMES = `
  PORT HOST HOSTNAME NODE_ENV LOG_LEVEL DEBUG TZ LANG CI HOME PATH USER SHELL TERM COLORTERM EDITOR PWD OLDPWD TMPDIR BASE_URL API_URL APP_URL
  KEYBOARD KEYBOARD_LAYOUT MONKEY MONKEY_PATCH TURKEY HOTKEY DONKEY_KONG AUTHOR GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL AUTHORITY XAUTHORITY
  TOKENIZERS_PARALLELISM TOKENIZER SECRETARY PASSIVE COMPASS BYPASS PASSENGER_COUNT PATTERN PATIENT PRIVATEER DSNAP
  PUBLIC_KEY PUBLIC_KEY_PATH JWT_PUBLIC_KEY VAPID_PUBLIC_KEY STRIPE_PUBLISHABLE_KEY RECAPTCHA_SITE_KEY DYNAMO_SORT_KEY CACHE_KEY
  NEXT_PUBLIC_API_KEY NEXT_PUBLIC_SUPABASE_ANON_KEY VITE_SENTRY_DSN REACT_APP_TOKEN EXPO_PUBLIC_API_KEY NUXT_PUBLIC_SECRET PUBLIC_STRIPE_KEY
  SSH_AUTH_SOCK GOOGLE_APPLICATION_CREDENTIALS GIT_CONFIG_KEY_0 AWS_SHARED_CREDENTIALS_FILE AWS_WEB_IDENTITY_TOKEN_FILE DB_PASSWORD_FILE PRIVATE_KEY_PATH TLS_KEY_FILE
  SECRETS_DIR PGPASSFILE TOKEN_FILE SECRET_NAME SECRET_ARN KMS_KEY_ID CLIENT_ID GITHUB_CLIENT_ID AUTH0_DOMAIN AUTH0_CLIENT_ID GITHUB_APP_ID KEY_NAME
  TOKEN_URL AUTH_URL OAUTH_TOKEN_ENDPOINT PASSWORD_RESET_URL ACTIONS_ID_TOKEN_REQUEST_URL NEXTAUTH_URL AUTH_ENABLED AUTH_METHOD ENABLE_AUTH DISABLE_AUTH
  MAX_TOKENS OPENAI_MAX_TOKENS CLAUDE_CODE_MAX_OUTPUT_TOKENS TOKENS_PER_MINUTE TOKEN_LIMIT TOKEN_TTL TOKEN_EXPIRES_IN PASSWORD_MIN_LENGTH JWT_ALGORITHM
  JWT_EXPIRES_IN SESSION_TOKEN_MAX_AGE API_KEY_HEADER MYSQL_ALLOW_EMPTY_PASSWORD USE_TOKEN SKIP_PASSWORD_CHECK SECRET_SCANNING KEY_VAULT_NAME
  WEBHOOK_PORT WEBHOOK_PATH REDIS_HOST REDIS_PORT POSTGRES_USER POSTGRES_DB DATABASE_NAME DB_HOST MONGO_PORT AWS_REGION AWS_PROFILE
`;

describe('looksLikeSecretName', () => {
  it.each(SECRET_NAMES.trim().split(/\s+/))('%s is a secret', (name) => {
    expect(looksLikeSecretName(name)).toBe(true);
  });

  it.each(SETTING_NAMES.trim().split(/\s+/))('%s is a setting', (name) => {
    expect(looksLikeSecretName(name)).toBe(false);
  });

  it('has an answer for names that are no names', () => {
    for (const name of ['', '_', '__', '-', '1', 'é', ' ']) expect(looksLikeSecretName(name)).toBe(false);
  });
});

// Made here, and in pieces, so that no scanner takes this file for a leak.
const hex = (bytes: number): string => randomBytes(bytes).toString('hex');
const mixed = (length: number): string =>
  Array.from({ length }, (_, index) => 'aB3dE6gH9kL2nP5qR8tU1wX4z'.charAt((index * 7) % 25)).join('');
const jwt =
  [{ alg: 'HS256' }, { sub: '1' }].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.') + `.${mixed(43)}`;
const pem = (label: string): string => `-----BEGIN ${label}-----\nMIIB${mixed(30)}\n-----END ${label}-----\n`;

describe('secretValueShape', () => {
  it.each([
    ...['ghp_', 'gho_', 'ghs_', 'github_pat_'].map((prefix) => [prefix + mixed(36), 'a GitHub token']),
    ['glpat-' + mixed(20), 'a GitLab token'],
    ['sk-' + mixed(48), 'a model or search API key'],
    ['sk-proj-' + mixed(48), 'a model or search API key'],
    ['sk-ant-api03-' + mixed(48), 'an Anthropic key'],
    ['hf_' + mixed(34), 'a model or search API key'],
    ['sk_live_' + mixed(24), 'a Stripe key'],
    ['rk_test_' + mixed(24), 'a Stripe key'],
    ['whsec_' + mixed(32), 'a Stripe key'],
    ['xoxb-' + '1234567890-' + mixed(24), 'a Slack token'],
    ['https://hooks.slack.com/services/' + 'T01234567/B01234567/' + mixed(24), 'a Slack webhook'],
    ['https://discord.com/api/webhooks/' + '123456789012345678/' + mixed(68), 'a Discord webhook'],
    ['AKIA' + 'Z7QJ4N2WX5T6R3YB', 'an AWS access key'],
    ['AIza' + mixed(35), 'a Google credential'],
    ['npm_' + mixed(36), 'a package registry token'],
    ['ntn_' + mixed(46), 'a Notion token'],
    ['secret_' + mixed(43), 'a Notion token'],
    ['SG.' + mixed(22) + '.' + mixed(43), 'a service token'],
    ['lin_api_' + mixed(40), 'a service token'],
    ['shpat_' + hex(16), 'a service token'],
    ['dop_v1_' + hex(32), 'a cloud token'],
    ['hvs.' + mixed(24), 'a secret manager token'],
    ['AGE-SECRET-KEY-1' + mixed(58).toUpperCase(), 'an age identity'],
    ['123456789:' + mixed(35), 'a Telegram bot token'],
    [jwt, 'a JSON Web Token'],
    [`Bearer ${jwt}`, 'a JSON Web Token'],
    ['Bearer ' + mixed(20), 'an Authorization header'],
    ['Basic ' + Buffer.from('admin:CANARY').toString('base64'), 'an Authorization header'],
    [pem('PRIVATE KEY'), 'a private key'],
    [pem('RSA PRIVATE KEY'), 'a private key'],
    [pem('OPENSSH PRIVATE KEY'), 'a private key'],
    [pem('PGP PRIVATE KEY BLOCK'), 'a private key'],
    [JSON.stringify({ type: 'service_account', private_key: pem('PRIVATE KEY') }), 'a private key'],
    ['postgres://app:CANARY-1@db:5432/app', 'a URL with a password'],
    ['postgres://app:CANARY/1#x@db:5432/app', 'a URL with a password'],
    ['redis://:CANARY-1@cache:6379', 'a URL with a password'],
    ['mongodb+srv://u:CANARY@cluster.example.net/?retryWrites=true', 'a URL with a password'],
    ['https://' + hex(16) + '@o0.ingest.example.com/42', 'a URL with a key'],
    ['https://ghp_' + mixed(36) + '@github.com/o/r.git', 'a URL with a key'],
    ['https://api.example.com/hook?token=CANARY-12345', 'a URL with a key'],
    ['jdbc:postgresql://db/app?user=a&password=CANARY-12', 'a URL with a key'],
    ['Server=db;User Id=sa;Password=CANARY-1;', 'a connection string with a password'],
    ['host=db user=app password=CANARY-1', 'a connection string with a password'],
    ['DefaultEndpointsProtocol=https;AccountName=a;AccountKey=' + mixed(60) + '==', 'a connection string with a password'],
    ['9f86d081884c7d659a2feaa0c55ad015', RANDOM_SHAPE],
    [mixed(44), RANDOM_SHAPE],
    [` ${mixed(40)}\n`, RANDOM_SHAPE],
  ])('%s', (value, shape) => {
    expect(secretValueShape(value)).toBe(shape);
    expect(looksLikeSecretValue(value)).toBe(true);
  });

  it.each(
    [
      ['', 'true', '0', '3000', 'production', 'debug', 'localhost', '127.0.0.1', 'hunter2', 'eu-west-1', 'changeme', 'Hello, world'],
      [
        'ghp_',
        'ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
        'sk-xxxxxxxxxxxxxxxxxxxxxxxx',
        'sk-your-key-goes-here-please',
        'npm_config_registry',
      ],
      [
        '${GITHUB_TOKEN}',
        '$GITHUB_TOKEN',
        '${env:GITHUB_TOKEN}',
        '${input:github-token}',
        '<your-token>',
        '{{ token }}',
        'Bearer ${GITHUB_TOKEN}',
      ],
      [
        'https://example.com',
        'https://example.com:8080/path?x=1',
        'https://registry:5000/@scope/name',
        'redis://cache:6379/0',
        'file:./dev.db',
      ],
      [
        'postgres://app@db/app',
        'postgres://app:${DB_PASSWORD}@db/app',
        'postgres://app:<password>@db/app',
        'https://x.example.com/?token=${TOKEN_VALUE}',
      ],
      [
        '/usr/local/share/applications/a1b2c3d4/e5f6g7h8/file.json',
        './certs/internal-ca.pem',
        '/nix/store/' + mixed(32) + '-openssl-3',
        '~/.config/keyzero/config.toml',
      ],
      ['a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d', '2026-01-01T00:00:00.000Z', 'sha256:' + '0'.repeat(64), '0'.repeat(64), 'ab'.repeat(30)],
      [
        'my-very-long-application-name-in-kebab-case-2',
        'eu-west-1-production-cluster-02-node-03',
        'arn:aws:iam::123456789012:role/some-role-name',
      ],
      ['internal-service-42.eu-west-1.elb.amazonaws.example.com', '@modelcontextprotocol/server-github', 'ghcr.io/owner/image:1.2.3'],
      [pem('CERTIFICATE'), pem('PUBLIC KEY'), 'MyVeryLongConfigurationClassNameForTheApplication', 'a sentence with a password in it'],
    ].flat(),
  )('%s is nothing', (value) => {
    expect(secretValueShape(value)).toBeUndefined();
  });

  it('never says any part of the value', () => {
    const canary = `CANARY-${hex(20)}`;
    for (const value of [canary, `ghp_${canary}`, `postgres://u:${canary}@h/`, `Bearer ${canary}`, `password=${canary}`]) {
      expect(secretValueShape(value) ?? '').not.toContain('CANARY');
      expect(looksLikeSecretValue(value)).toBe(true);
    }
  });

  it('finds what generators of secrets make', () => {
    let missed = 0;
    for (let round = 0; round < 300; round++) {
      const values = [
        hex(16),
        hex(32),
        randomBytes(32).toString('base64'),
        randomBytes(32).toString('base64url'),
        randomBytes(48).toString('base64'),
      ];
      missed += values.filter((value) => !looksLikeSecretValue(value)).length;
    }
    // Chance makes a few of them look like words.
    expect(missed).toBeLessThan(100);
  });

  it('reads long input in one pass: with the square of its length this would not end in time', () => {
    for (const unit of ['a', 'a:', 'a_', '://', '?key=', '-----BEGIN A ', 'password=', 'a1', ' ', 'eyJ.', '@']) {
      expect(looksLikeSecretValue(unit.repeat(300_000))).toBeTypeOf('boolean');
    }
  });
});

describe('explainsRandomValue', () => {
  it.each(['GIT_COMMIT', 'COMMIT_SHA', 'GITHUB_SHA', 'IMAGE_DIGEST', 'HOSTNAME', 'BUILD_ID', 'CERT_FILE', 'CLIENT_ID', 'VITE_ANON'])(
    '%s does',
    (name) => {
      expect(explainsRandomValue(name)).toBe(true);
    },
  );

  it.each(['SALT', 'PEPPER', 'SHAPE', 'COMMITTEE', 'FOO'])('%s does not', (name) => {
    expect(explainsRandomValue(name)).toBe(false);
  });
});
