// The keys to kz's own stores. Who holds one can read every secret, also those that this config does not give out: they are not inherited
// by programs, nor handed out as values.

export const SECRET_ZERO: readonly string[] = ['KEYZERO_PASSPHRASE', 'KEYZERO_AGE_KEY'];

/** What kz's providers log in with, where the value itself is the secret. Direct programs inherit it, as they would without kz. */
export const LOGINS: readonly string[] = [
  ...['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_SECURITY_TOKEN', 'AWS_CONTAINER_AUTHORIZATION_TOKEN'],
  ...['VAULT_TOKEN', 'BAO_TOKEN', 'VAULT_SECRET_ID', 'KEYZERO_JWT', 'OP_SERVICE_ACCOUNT_TOKEN', 'OP_CONNECT_TOKEN'],
];
