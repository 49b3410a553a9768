// The provider names a config may use. What each one does is in src/providers/; a test checks that the two agree.

export const PROVIDER_NAMES = ['keychain', 'store', 'age', 'env', 'file', 'exec', 'aws', 'vault', '1password', 'gcp', 'keyzero'] as const;

export type ProviderName = (typeof PROVIDER_NAMES)[number];

/** Other names for the same providers: KeyZero's own, and those of its server's bundles. */
export const PROVIDER_ALIASES = {
  hashicorp: 'vault',
  hashicorp_vault: 'vault',
  aws_secrets_manager: 'aws',
  onepassword_cli: '1password',
} as const satisfies Record<string, ProviderName>;

export type ProviderAlias = keyof typeof PROVIDER_ALIASES;

export function canonicalProvider(name: ProviderName | ProviderAlias): ProviderName {
  return isAlias(name) ? PROVIDER_ALIASES[name] : name;
}

function isAlias(name: string): name is ProviderAlias {
  return Object.hasOwn(PROVIDER_ALIASES, name);
}
