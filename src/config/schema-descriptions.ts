// What each key means, for the JSON Schema that editors show. Apart from the schema, which is built at every start and needs none of it.
// `test/config/schema.test.ts` checks that every key is here and nothing else is.

const SECRET = {
  provider: 'where the value lives',
  ref: 'what the provider calls it',
  required: 'false: the program starts without it (default: true)',
  default: 'used when the provider has no value; never a real secret, since this file is committed',
  description: 'shown when kz asks for the value',
  type: 'the shape that the value must have',
  min_length: 'fewest characters',
  max_length: 'most characters',
  starts_with: 'the prefix that the value must have',
  pattern: 'a regular expression that the whole value must match',
  one_of: 'the only values allowed',
  json_key: 'the field to take when the value is a JSON document: `password` or `db.password`',
  encoding: 'how the provider holds the value; it is decoded before use',
  template: 'the value, built from the fields of a JSON document: `postgres://{username}:{password}@host/db`',
  hosts: 'blind mode: the hosts that this secret may be sent to: `api.example.com`, `*.example.com`, with an optional `:port`',
  swap: 'blind mode: where in a request the token is swapped, instead of where credentials usually are: `header:x-key`, `query:key`, `body:field.name`, `path`, `body`; with `default` beside those places',
  shape:
    'blind mode: how the masked token looks: `exact` (length and kinds of characters of the value), `plain` (without the vendor’s prefix)',
  expose: 'blind mode: true gives the program the real value',
  refresh: 'how often to read the value again: `15m`',
  on_rotate: 'what happens to the program when the value changes: `restart`, `none`, `signal:HUP`',
  check: 'a request that proves that the value still works: `GET https://api.example.com/user`, sent by `kz doctor --live`',
} as const;

const DOCUMENT = {
  provider: 'where the document lives',
  ref: 'what the provider calls it',
  keys: 'the keys to take, or variable name → key (default: every top-level key)',
  required: 'false: the program starts without the document (default: true)',
  refresh: 'how often to read the document again: `15m`',
  on_rotate: 'what happens to the program when one of its values changes: `restart`, `none`, `signal:HUP`',
} as const;

/** Section → key → description. */
export const DESCRIPTIONS = {
  file: {
    secrets: 'variable name → where its value comes from',
    secrets_from: 'documents that hold many values',
    providers: 'defaults for each provider',
    blind: 'what a program started with `kz run --blind` may reach',
  },
  secret: SECRET,
  document: DOCUMENT,
  store: {
    path: 'the encrypted file (default: store.age beside the user configuration)',
    identity: 'where a new store keeps its key (default: file)',
  },
  age: {
    identity: 'file with the age identities that decrypt (default: $KEYZERO_AGE_IDENTITY)',
    recipients: 'who can read a file that kz writes',
  },
  exec: { command: 'the program and its first arguments; the words of the ref follow' },
  keychain: { service: 'the service of a ref without a slash (default: keyzero)' },
  aws: {
    region: 'AWS region (default: $AWS_REGION, then the profile’s)',
    profile: 'profile of the shared AWS configuration',
    endpoint: 'address to ask instead of AWS’s own',
  },
  vault: {
    address: 'address of the server (default: $VAULT_ADDR)',
    namespace: 'namespace (default: $VAULT_NAMESPACE)',
    ca: 'PEM file with the authorities that the server’s certificate may have (default: $VAULT_CACERT, then the system’s)',
    auth: 'how kz logs in (default: token)',
    mount: 'where the auth method is mounted (default: its own name)',
    role: 'the role to log in as (kubernetes, jwt, aws)',
    token_file: 'token: the file that holds it (default: $VAULT_TOKEN, then ~/.vault-token)',
    role_id: 'approle: the role id',
    role_id_env: 'approle: the variable that holds the role id (default: VAULT_ROLE_ID)',
    secret_id_env: 'approle: the variable that holds the secret id (default: VAULT_SECRET_ID)',
    secret_id_file: 'approle: the file that holds the secret id',
    jwt_env: 'jwt: the variable that holds the token',
    jwt_file: 'jwt, kubernetes: the file that holds the token (kubernetes: default that of the pod’s service account)',
    audience: 'jwt: ask the CI system for a token for this audience',
    server_id: 'aws: the value of X-Vault-AWS-IAM-Server-ID',
  },
  '1password': { account: 'account shorthand or id' },
  gcp: { project: 'project of a ref that names none', endpoint: 'address to ask instead of Google’s own' },
  keyzero: {
    url: 'address of the kz server (default: $KEYZERO_URL)',
    ca: 'PEM file with the authorities that the server’s certificate may have (default: the system’s)',
    jwt_file: 'the file that holds the JWT, read again each time',
    jwt_env: 'the variable that holds the JWT (default: KEYZERO_JWT)',
    audience: 'ask the CI system for a JWT for this audience',
  },
  blind: {
    upstream_ca: 'PEM file with certificate authorities that servers may have, beside the system’s',
    scope: 'strict: a secret without hosts, for which none can be inferred, is an error (default: infer)',
    keep_env: 'variables that a blind program keeps although they look like credentials',
    clean_env: 'true: start the program from a short list of variables',
    sandbox: 'what else a blind program is kept from: auto (where this machine can), strict (or it does not start), off',
    connections:
      'rules for outgoing connections: the first match wins, and what matches none is denied; without rules everything is allowed',
  },
  sandbox: {
    mode: 'auto: isolate where this machine can, and say so where it cannot; strict: isolate or do not start; off (default: auto)',
    read: 'files and folders that the program may read although they are hidden',
    write: 'files and folders that the program may change, beside the project and package caches',
    hide: 'files and folders that the program may not see, beside those that hold credentials',
    allow_loopback: 'ports of this machine’s 127.0.0.1 that the program may connect to',
  },
  connection: {
    allow: 'true lets the connection through',
    host: 'a host or an address, `*.suffix` or `*`, with an optional `:port`; or `re:` and a regular expression for the whole name',
    port: 'this port only',
    methods: 'these HTTP methods only; GET does not include HEAD',
    path: 'this path only, without the query: `*` is anything but a slash, `**` anything',
  },
} as const;
