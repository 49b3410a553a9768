// The keys to kz's own stores. Who holds one can read every secret, also those that this config does not give out: they are not inherited
// by programs, nor handed out as values.

export const SECRET_ZERO: readonly string[] = ['KEYZERO_PASSPHRASE', 'KEYZERO_AGE_KEY'];
