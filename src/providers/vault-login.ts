// The ways into Vault: a token that the user has, or a login that gives kz one of its own. What proves who we are is read from the place
// that the config names, sent to Vault and nowhere else, and never part of an error.
import { randomUUID } from 'node:crypto';
import { KzError } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { isRecord } from '../core/record.ts';
import { at } from './ask-json.ts';
import { fromVariable, locked, readIfThere, readText } from './login-source.ts';
import type { Lease, ProviderContext } from './provider.ts';
import { setting, type VaultAnswer, type VaultOptions, type VaultServer } from './vault-server.ts';
import { findWorkloadJwt, missingJwtHint } from './workload-jwt.ts';

export interface Login {
  readonly token: string;
  /** Made by kz for itself, so kz may shorten and revoke it. */
  readonly isOurs: boolean;
  /** Cannot be revoked, and what was issued to it lives on until it ends. */
  readonly isBatch: boolean;
  /** When it ends by itself, as far as the login has said so. */
  readonly lease?: Lease | undefined;
  /** What it was given at first. */
  readonly lifeMs?: number | undefined;
}

/** Of the user's token. */
export const LOGIN_LEASE = 'login';
/** Another one for each login of kz's own. */
const OWN_LOGIN = `${LOGIN_LEASE}:`;

/** What an engine has lent has slashes in its id. */
export function isLoginLease({ id }: Lease): boolean {
  return id === LOGIN_LEASE || (id.startsWith(OWN_LOGIN) && !id.includes('/'));
}

export interface LoginContext {
  readonly options: VaultOptions;
  readonly env: ProviderContext['env'];
  readonly server: VaultServer;
}

type Method = Exclude<VaultOptions['auth'], 'token' | undefined>;

/** Throws `provider-locked` when what a login needs is not there, or the server refuses it. */
export async function logIn(context: LoginContext, signal: AbortSignal): Promise<Login> {
  const method = context.options.auth ?? 'token';
  if (method === 'token') return { token: await userToken(context), isOurs: false, isBatch: false };
  const { server, options } = context;
  const mount = (options.mount ?? method).replace(/^\/*(?:auth\/)?|\/+$/g, '');
  const body = await CREDENTIALS[method](context, signal);
  const askedAt = Date.now();
  const path = `auth/${mount.split('/').map(encodeURIComponent).join('/')}/login`;
  const answer = await server.ask({ method: 'POST', path, body, mayRepeat: false }, signal);
  if (answer.status !== 200) {
    const isHalf = method === 'approle' && !Object.hasOwn(body, 'secret_id');
    throw refused(answer, { method, mount, isHalf, who: server.who, namespaceHint: server.namespaceHint });
  }
  const auth = at(answer.body, 'auth');
  const token = at(auth, 'client_token');
  if (typeof token !== 'string' || token === '') throw noToken(auth, method, server.who);
  const lease = leaseOf(auth, askedAt);
  return { token, isOurs: true, isBatch: at(auth, 'token_type') === 'batch', lease, lifeMs: lease?.durationMs };
}

/** What `run` has to type to be let in again. */
export function loginHint({ options, server }: LoginContext): string {
  const login = (options.auth ?? 'token') === 'token' ? 'run `vault login`, or set VAULT_TOKEN' : 'look at the policies of its role';
  return server.namespace === undefined ? login : `${login}; ${server.namespaceHint}`;
}

function leaseOf(auth: unknown, askedAt: number): Lease | undefined {
  const seconds = at(auth, 'lease_duration');
  if (typeof seconds !== 'number' || seconds <= 0) return undefined;
  const durationMs = seconds * 1000;
  return { id: OWN_LOGIN + randomUUID(), expiresAt: askedAt + durationMs, durationMs, renewable: at(auth, 'renewable') === true };
}

/** The same places in the same order as Vault's own program, but for `token_file`. */
async function userToken({ options, env, server }: LoginContext): Promise<string> {
  const fromEnv = setting(env, 'TOKEN');
  const file = options.token_file ?? (fromEnv === undefined ? absolutePath('~/.vault-token', '/', env) : undefined);
  const token = file === undefined ? fromEnv?.trim() : await readIfThere(file, server.who);
  const from = file === undefined ? 'VAULT_TOKEN' : `file ${JSON.stringify(file)}`;
  if (token === undefined || token === '') {
    const hasRole = setting(env, 'ROLE_ID') !== undefined;
    const hint = hasRole ? 'VAULT_ROLE_ID is set: write `auth = "approle"` in [providers.vault]' : 'run `vault login`, or set VAULT_TOKEN';
    const reason =
      options.token_file === undefined ? 'VAULT_TOKEN is not set and there is none in ~/.vault-token' : `there is none in ${from}`;
    throw locked(`kz has no token for ${server.who}: ${reason}`, hint);
  }
  // It becomes a header, where a line break would begin another one.
  if (!/^[\x21-\x7e]+$/.test(token)) throw locked(`what ${from} holds is no token for ${server.who}: it has spaces or line breaks in it`);
  return token;
}

/** What each method wants to know, as the body of its login. */
const CREDENTIALS: Readonly<Record<Method, (context: LoginContext, signal: AbortSignal) => Promise<object>>> = {
  approle: async ({ options, env, server }) => {
    const roleId = options.role_id ?? fromVariable(options.role_id_env, env, server.who) ?? setting(env, 'ROLE_ID');
    if (roleId === undefined)
      throw locked(`the approle login to ${server.who} needs a role id`, 'set `role_id` in [providers.vault], or VAULT_ROLE_ID');
    const secretId =
      options.secret_id_file === undefined
        ? (fromVariable(options.secret_id_env, env, server.who) ?? setting(env, 'SECRET_ID'))
        : await readText(options.secret_id_file, server.who);
    return { role_id: roleId.trim(), ...(secretId === undefined ? {} : { secret_id: secretId.trim() }) };
  },

  kubernetes: async ({ options, server }) => {
    const { role, jwt_file: file = '/var/run/secrets/kubernetes.io/serviceaccount/token' } = options;
    if (role === undefined)
      throw new KzError('config-invalid', 'the kubernetes login of vault needs a role', { hint: 'set `role` in [providers.vault]' });
    return { role, jwt: await readText(file, server.who) };
  },

  jwt: async (context, signal) => {
    const { role } = context.options;
    return { ...(role === undefined ? {} : { role }), jwt: await findJwt(context, signal) };
  },

  aws: async ({ options, server }, signal) => {
    const { signedIdentity } = await import('./vault-aws-login.ts');
    const { role, server_id: serverId } = options;
    return { ...(role === undefined ? {} : { role }), ...(await signedIdentity(serverId, server.who, signal)) };
  },
};

async function findJwt({ options, env, server }: LoginContext, signal: AbortSignal): Promise<string> {
  const { jwt_env: variable, jwt_file: file, audience } = options;
  const found = await findWorkloadJwt({ env, who: server.who, variable, file, audience }, signal);
  if (found !== undefined) return found.jwt;
  throw locked(`the jwt login to ${server.who} has no JWT`, missingJwtHint(env, '`jwt_env` or `jwt_file` in [providers.vault]'));
}

interface Attempt {
  readonly method: Method;
  readonly mount: string;
  /** An approle login without a secret id, which few roles are content with. */
  readonly isHalf: boolean;
  readonly who: string;
  readonly namespaceHint: string;
}

const REFUSED_HINTS: Readonly<Record<Method, string>> = {
  approle: 'check the role id, or ask for a new secret id: `vault write -f auth/approle/role/ROLE/secret-id`',
  kubernetes: 'the role has to bind this service account and its namespace: `vault read auth/kubernetes/role/ROLE`',
  jwt: 'the role has to accept the token’s audience and claims: `vault read auth/jwt/role/ROLE`',
  aws: 'the role has to bind the principal that `aws sts get-caller-identity` names, and `server_id` be what the server expects',
};

function refused({ status, errors }: VaultAnswer, { method, mount, isHalf, who, namespaceHint }: Attempt): KzError {
  if (status === 404 || errors.includes('no handler for route')) {
    const hint = `set \`mount\` in [providers.vault] to where it is; ${namespaceHint}`;
    return locked(`${who} has no ${method} login at "auth/${mount}"`, hint);
  }
  if (status >= 500) return new KzError('provider-failed', `${who} answered ${String(status)} to the ${method} login at "auth/${mount}"`);
  if (isHalf && status === 400) {
    const hint = 'set VAULT_SECRET_ID, or `secret_id_file` in [providers.vault]';
    return locked(`${who} refused the approle login at "auth/${mount}" (400); VAULT_SECRET_ID is not set`, hint);
  }
  // Vault gives 403, and not 404, for a path without a handler to whom has no token yet.
  const hint = status === 403 ? `${REFUSED_HINTS[method]}; and \`mount\` be where the method is; ${namespaceHint}` : REFUSED_HINTS[method];
  return locked(`${who} refused the ${method} login at "auth/${mount}" (${String(status)})`, hint);
}

function noToken(auth: unknown, method: Method, who: string): KzError {
  if (isRecord(at(auth, 'mfa_requirement'))) return locked(`${who} wants a second factor for the ${method} login, which kz cannot give`);
  return new KzError('provider-failed', `${who} gave no token for the ${method} login`);
}
