// What a blind child's environment is, and why: masked tokens, the session's own variables, and what it inherits of the parent's plain
// settings. Pure. What is a credential, or only looks like one, stays behind: names are told, values never.
import { explainsRandomValue, looksLikeSecretName, RANDOM_SHAPE, secretValueShape } from '../core/credential-shape.ts';
import { LOGINS, SECRET_ZERO } from '../core/secret-zero.ts';
import type { Secret } from '../core/secret.ts';
import { ESSENTIAL, fitting, isNeverInherited, valuesOf, type ChildEnvironment, type Variables } from './environment.ts';

export interface BlindEnvironmentPlan {
  /** Name → what stands in for the secret. */
  readonly masked: ReadonlyMap<string, string>;
  /** Secrets that the child gets as they are, because the config says so. */
  readonly exposed?: ReadonlyMap<string, Secret> | undefined;
  /** Every name that the config declares: the ones in neither map are removed from the child even when inherited. */
  readonly declared: readonly string[];
  /** Proxy, certificates, preload: these win over everything, also over a secret of the same name. */
  readonly session: ReadonlyMap<string, string>;
  /** Start from ESSENTIAL instead of everything that is no credential. */
  readonly clean: boolean;
  /** Names to inherit although they look like credentials, or although the environment is clean. */
  readonly keep: readonly string[];
  /** Further names that are credentials: those that providers' options name, and those that the `env` provider read. */
  readonly credentials?: readonly string[] | undefined;
  /** Is the value of any resolved secret in this text, in whatever encoding? */
  readonly holdsSecret: (text: string) => boolean;
}

/** What else kz's providers, and the clouds' own tools, log in with and whose names do not say so. */
const CREDENTIALS = words(`
  AWS_ACCESS_KEY_ID AWS_WEB_IDENTITY_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_CONTAINER_CREDENTIALS_FULL_URI
  AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE VAULT_ROLE_ID BWS_ACCESS_TOKEN BW_SESSION BW_CLIENTID BW_CLIENTSECRET
  GOOGLE_APPLICATION_CREDENTIALS GOOGLE_CREDENTIALS CLOUDSDK_AUTH_ACCESS_TOKEN_FILE
  AZURE_FEDERATED_TOKEN_FILE AZURE_CLIENT_CERTIFICATE_PATH SOPS_AGE_KEY_FILE SOPS_AGE_KEY_CMD DOCKER_AUTH_CONFIG
`);
/** One for each account that 1Password's CLI is signed in to. */
const OP_SESSION = 'OP_SESSION_';

/** Another way out, or other certificates: the session sets its own, and one that it does not know would lead around it. */
const PROXY = /^(?:(?:\w+_)?(?:https?|ftp|all|no|rsync|socks\d?|wss?)_?|npm_config_|pip_)proxy$/i;
const CERTIFICATES = words(`
  SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE CURL_CA_BUNDLE AWS_CA_BUNDLE GIT_SSL_CAINFO GIT_SSL_CAPATH
  GIT_PROXY_SSL_CAINFO PIP_CERT CARGO_HTTP_CAINFO DENO_CERT DENO_TLS_CA_STORE NIX_SSL_CERT_FILE SYSTEM_CERTIFICATE_PATH HTTPLIB2_CA_CERTS
  npm_config_ca npm_config_cafile NPM_CONFIG_CA NPM_CONFIG_CAFILE YARN_HTTPS_CA_FILE_PATH YARN_CA_FILE_PATH BUNDLE_SSL_CA_CERT COMPOSER_CAFILE
  GRPC_DEFAULT_SSL_ROOTS_FILE_PATH CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE HEX_CACERTS_PATH
`);

/** Throws `secret-invalid` for a value that no environment can hold. */
export function blindEnvironment(parent: Variables, plan: BlindEnvironmentPlan): ChildEnvironment {
  const variables: Record<string, string> = {};
  const removed: string[] = [];
  const replaced: string[] = [];
  for (const [name, value] of Object.entries(parent)) {
    if (value === undefined || plan.session.has(name)) continue;
    if (plan.masked.has(name) || plan.exposed?.has(name) === true) replaced.push(name);
    else if (inherits(name, value, plan)) variables[name] = value;
    else removed.push(name);
  }
  withoutHalfOfGit(variables, removed);
  for (const [name, text] of plan.masked) variables[name] = fitting(name, text);
  Object.assign(variables, valuesOf(plan.exposed ?? new Map()), Object.fromEntries(plan.session));
  return { variables, removed, replaced };
}

/** Git stops when GIT_CONFIG_COUNT announces a GIT_CONFIG_VALUE_0 that is not there: a header with a login, say. */
function withoutHalfOfGit(variables: Record<string, string>, removed: readonly string[]): void {
  if (removed.some((name) => /^GIT_CONFIG_(?:KEY|VALUE)_\d+$/.test(name))) delete variables.GIT_CONFIG_COUNT;
}

/** What decides about one variable of the parent. */
export type Inheritance = Pick<BlindEnvironmentPlan, 'declared' | 'clean' | 'keep' | 'credentials' | 'holdsSecret'>;

/** The parent's variables as far as the session may add to them: what would not be inherited is not carried on inside of the session's either. */
export function mayBeAddedTo(parent: Variables, plan: Inheritance): Variables {
  const kept = ADDED_TO.map((name) => [name, parent[name]] as const).filter(
    ([name, value]) => value === undefined || inherits(name, value, plan),
  );
  return { ...parent, ...Object.fromEntries(ADDED_TO.map((name) => [name, undefined])), ...Object.fromEntries(kept) };
}

/** The session's own value of these starts with what they held before. */
const ADDED_TO = ['NODE_OPTIONS', 'JAVA_TOOL_OPTIONS'];

function inherits(name: string, value: string, plan: Inheritance): boolean {
  // 1. What no child inherits.
  if (isNeverInherited(name, plan.declared)) return false;
  // 2. Without these nothing starts. A secret that is also part of them (the user's name, a folder) is there by coincidence.
  if (ESSENTIAL.includes(name)) return true;
  // 3. A real value, under whatever name: not even when it is asked for. That is what `expose` is for.
  if (plan.holdsSecret(value)) return false;
  // 4. What the user asks for by name.
  if (plan.keep.includes(name)) return true;
  // 5. Everything else that is no credential and does not lead around the session.
  return !plan.clean && plan.credentials?.includes(name) !== true && !isCredential(name, value) && !leadsElsewhere(name);
}

function isCredential(name: string, value: string): boolean {
  if (SECRET_ZERO.includes(name) || LOGINS.includes(name) || CREDENTIALS.has(name) || name.startsWith(OP_SESSION)) return true;
  return looksLikeSecretName(name) || looksLikeCredential(name, value);
}

function looksLikeCredential(name: string, value: string): boolean {
  const shape = secretValueShape(value);
  if (shape === RANDOM_SHAPE) return !explainsRandomValue(name);
  return shape !== undefined || holdsCredential(value);
}

/** In the middle: `{"token":"ghp_…"}`, `--header "Authorization: Basic …"`. Random words are left alone: long settings are full of them. */
function holdsCredential(value: string): boolean {
  if (/authorization["']?\s*[:=]\s*["']?\w+ +\S{8}/i.test(value)) return true;
  return value.split(/[\s"'`,;=]+/).some((word) => {
    const shape = secretValueShape(word);
    return shape !== undefined && shape !== RANDOM_SHAPE;
  });
}

function leadsElsewhere(name: string): boolean {
  return CERTIFICATES.has(name) || PROXY.test(name);
}

function words(list: string): ReadonlySet<string> {
  return new Set(list.trim().split(/\s+/));
}
