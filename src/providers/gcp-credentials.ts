// Google's application default credentials: which file, and what is in it. Google's library makes tokens of it; kz looks for the file itself,
// because the library looks in the environment of the process, asks `gcloud` for a project, and waits for networks that are not there.
import type { AuthClient } from 'google-auth-library';
import { KzError, systemCode } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { isRecord } from '../core/record.ts';
import { decodeText } from './document.ts';
import { readGuardedFile } from './guarded-file.ts';
import type { ProviderContext } from './provider.ts';

export type Fetch = typeof fetch;

export interface Credentials {
  /** In words for a person. */
  readonly account: string;
  /** Names the file in errors. */
  readonly label: string;
  /** Is it a person, who can log in again? */
  readonly isPerson: boolean;
  /** Of Google's library, which keeps the token until it ends. */
  readonly client: AuthClient;
}

export const LOGIN_HINT = 'run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS';

const SCOPE = 'https://www.googleapis.com/auth/cloud-platform';
const TOKEN_TIMEOUT_MS = 15_000;

/** Undefined when there is no file and none was promised. Throws `provider-locked`. `fetchToken` is how tests reach their own server. */
export async function readCredentials(env: ProviderContext['env'], fetchToken?: Fetch): Promise<Credentials | undefined> {
  const named = env.GOOGLE_APPLICATION_CREDENTIALS;
  if (named !== undefined && named !== '') {
    const label = `the file ${JSON.stringify(named)} of GOOGLE_APPLICATION_CREDENTIALS`;
    const text = await readText(absolutePath(named, '.', env), label);
    if (text === undefined) throw new KzError('provider-locked', `${label} does not exist`, { hint: LOGIN_HINT });
    return toCredentials(text, label, fetchToken);
  }
  const folder = env.CLOUDSDK_CONFIG === undefined || env.CLOUDSDK_CONFIG === '' ? '~/.config/gcloud' : env.CLOUDSDK_CONFIG;
  const path = absolutePath(`${folder}/application_default_credentials.json`, '.', env);
  const text = await readText(path, `file ${JSON.stringify(path)}`);
  return text === undefined ? undefined : toCredentials(text, `file ${JSON.stringify(path)}`, fetchToken);
}

async function readText(path: string, label: string): Promise<string | undefined> {
  try {
    return decodeText(await readGuardedFile(path, { label, maxMebibytes: 1 })) ?? '';
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    const why = error instanceof KzError ? '' : `: ${code ?? 'unknown error'}`;
    throw new KzError('provider-locked', `cannot read ${label}${why}`, { hint: `run \`ls -l ${path}\``, cause: error });
  }
}

async function toCredentials(text: string, label: string, fetchToken: Fetch | undefined): Promise<Credentials> {
  const content = parse(text);
  try {
    const made = content === undefined ? undefined : makeClient(content, { sdk: await import('./google-sdk.ts'), fetchToken });
    if (made !== undefined) return { ...made, label };
  } catch {
    // Told below: the library's errors may quote the file.
  }
  throw new KzError('provider-locked', `${label} holds no Google credentials that kz knows`, { hint: LOGIN_HINT });
}

type Json = Readonly<Record<string, unknown>>;

function parse(text: string): Json | undefined {
  try {
    const content: unknown = JSON.parse(text);
    return isRecord(content) ? content : undefined;
  } catch {
    return undefined;
  }
}

interface Tools {
  readonly sdk: typeof import('./google-sdk.ts');
  readonly fetchToken: Fetch | undefined;
}

type Made = Omit<Credentials, 'label'>;

/** Undefined when something is missing, or the type is not known. */
function makeClient(content: Json, tools: Tools): Made | undefined {
  switch (content.type) {
    case 'service_account':
      return serviceAccount(content, tools);
    case 'authorized_user':
      return authorizedUser(content, tools);
    case 'external_account':
      return externalAccount(content, tools);
    case 'external_account_authorized_user':
      return externalUser(content, tools);
    case 'impersonated_service_account':
      return impersonated(content, tools);
    default:
      return undefined;
  }
}

function serviceAccount(content: Json, tools: Tools): Made | undefined {
  const { client_email: email, private_key: key, private_key_id: keyId } = textsOf(content);
  if (email === undefined || key === undefined) return undefined;
  const options = { email, key, ...(keyId === undefined ? {} : { keyId }), scopes: [SCOPE], ...common(content, tools) };
  return { account: email, isPerson: false, client: new tools.sdk.JWT(options) };
}

function authorizedUser(content: Json, tools: Tools): Made | undefined {
  const { client_id: clientId, client_secret: clientSecret, refresh_token: refreshToken } = textsOf(content);
  if (clientId === undefined || clientSecret === undefined || refreshToken === undefined) return undefined;
  const client = new tools.sdk.UserRefreshClient({ clientId, clientSecret, refreshToken, ...common(content, tools) });
  return { account: 'the login of gcloud', isPerson: true, client };
}

function externalAccount(content: Json, tools: Tools): Made | undefined {
  const { ExternalAccountClient } = tools.sdk;
  // The parse boundary: the library looks at what is in it.
  const client = ExternalAccountClient.fromJSON({ ...content, ...common(content, tools) } as unknown as ExternalAccountOptions);
  if (client === null) return undefined;
  client.scopes = [SCOPE];
  return { account: client.getServiceAccountEmail() ?? 'workload identity federation', isPerson: false, client };
}

type ExternalAccountOptions = Parameters<Tools['sdk']['ExternalAccountClient']['fromJSON']>[0];

function externalUser(content: Json, tools: Tools): Made {
  const options = { ...content, ...common(content, tools) } as unknown as ExternalUserOptions;
  return { account: 'the federated login of gcloud', isPerson: true, client: new tools.sdk.ExternalAccountAuthorizedUserClient(options) };
}

type ExternalUserOptions = ConstructorParameters<Tools['sdk']['ExternalAccountAuthorizedUserClient']>[0];

function impersonated(content: Json, tools: Tools): Made | undefined {
  const { service_account_impersonation_url: url = '' } = textsOf(content);
  const targetPrincipal = /\/serviceAccounts\/([^/:]+):generateAccessToken$/.exec(url)?.[1];
  const source = isRecord(content.source_credentials) ? makeClient(content.source_credentials, tools) : undefined;
  if (targetPrincipal === undefined || source === undefined) return undefined;
  const delegates = Array.isArray(content.delegates) ? content.delegates.filter((name) => typeof name === 'string') : [];
  const options = { sourceClient: source.client, targetPrincipal, targetScopes: [SCOPE], delegates, ...common(content, tools) };
  return { account: targetPrincipal, isPerson: source.isPerson, client: new tools.sdk.Impersonated(options) };
}

function common(content: Json, { fetchToken }: Tools) {
  const { quota_project_id: quotaProjectId } = textsOf(content);
  return {
    // Otherwise the library prints requests and answers, with their tokens, when GOOGLE_SDK_NODE_LOGGING asks for it.
    useAuthRequestParameters: false,
    transporterOptions: { timeout: TOKEN_TIMEOUT_MS, ...(fetchToken === undefined ? {} : { fetchImplementation: fetchToken }) },
    ...(quotaProjectId === undefined ? {} : { quotaProjectId }),
  };
}

function textsOf(content: Json): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(Object.entries(content).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}
