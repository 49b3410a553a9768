/** The top-level keys of a config that are not an environment's name. */
export const FILE_KEYS = ['secrets', 'secrets_from', 'providers', 'blind'] as const;
