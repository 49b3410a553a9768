// Every provider, in one screen. `open` imports lazily, so a command loads only the providers that its config uses.
import type { ProviderOptions } from '../config/schema.ts';
import type { ProviderName } from '../config/provider-names.ts';
import type { Provider, ProviderContext } from './provider.ts';

export interface ProviderRow {
  /** What it is, for `kz add` and the docs. */
  readonly summary: string;
  /** A ref as a person would write it. */
  readonly example: string;
  /** Throws `ref-invalid` for what can be no ref of it, whatever there is. Absent where only the provider itself says. */
  readonly checkRef?: (text: string) => Promise<unknown>;
  readonly open: (options: ProviderOptions, context: ProviderContext) => Promise<Provider>;
}

export const PROVIDERS: Readonly<Record<ProviderName, ProviderRow>> = {
  keychain: {
    summary: 'the system keychain (macOS Keychain, Secret Service)',
    example: 'github-pat',
    open: async (options, context) => (await import('./keychain.ts')).openKeychain(options.keychain ?? {}, context),
  },
  store: {
    summary: 'kz’s own encrypted file, one per user',
    example: 'github-pat',
    open: async (options, context) => (await import('./store.ts')).openStore(options.store ?? {}, context),
  },
  age: {
    summary: 'an age-encrypted file in the repository',
    example: 'secrets.env.age#GITHUB_TOKEN',
    open: async (options, context) => (await import('./age.ts')).openAge(options.age ?? {}, context),
  },
  env: {
    summary: 'a variable of kz’s own environment',
    example: 'GITHUB_TOKEN',
    open: async (_options, context) => (await import('./env.ts')).openEnv(context),
  },
  file: {
    summary: 'a mounted file, or one key of a JSON, YAML or dotenv file',
    example: '/run/secrets/db-url',
    open: async (_options, context) => (await import('./file.ts')).openFile(context.env),
  },
  exec: {
    summary: 'the output of a program',
    example: 'pass show github-pat',
    open: async (options, context) => (await import('./exec.ts')).openExec(options.exec, context),
  },
  aws: {
    summary: 'AWS Secrets Manager and SSM Parameter Store',
    example: 'sm://prod/db#password',
    checkRef: async (text) => (await import('./aws-ref.ts')).parseAwsRef(text),
    open: async (options, context) => (await import('./aws.ts')).openAws(options.aws ?? {}, context),
  },
  vault: {
    summary: 'HashiCorp Vault and OpenBao',
    example: 'secret/prod/db#password',
    checkRef: async (text) => (await import('./vault-ref.ts')).parseVaultRef({ text, directory: '' }),
    open: async (options, context) => (await import('./vault.ts')).openVault(options.vault ?? {}, context),
  },
  '1password': {
    summary: '1Password',
    example: 'op://vault/item/field',
    checkRef: async (text) => (await import('./onepassword-ref.ts')).parseOpRef(text),
    open: async (options, context) => (await import('./onepassword.ts')).openOnePassword(options['1password'] ?? {}, context),
  },
  gcp: {
    summary: 'Google Cloud Secret Manager',
    example: 'projects/p/secrets/s',
    // The project of a ref that names none is known to the provider only: any will do.
    checkRef: async (text) => (await import('./gcp-ref.ts')).parseGcpRef(text, 'p'),
    open: async (options, context) => (await import('./gcp.ts')).openGcp(options.gcp ?? {}, context),
  },
  keyzero: {
    summary: 'a kz server',
    example: 'github/pat',
    checkRef: async (text) => {
      (await import('./keyzero.ts')).checkKeyzeroRef(text);
    },
    open: async (options, context) => (await import('./keyzero.ts')).openKeyzero(options.keyzero ?? {}, context),
  },
};
