// Who kz is for Google, and the token that says so: from a credentials file, or from the metadata server of a machine at Google.
import { orAborted } from '../core/abort.ts';
import { KzError, systemCode } from '../core/errors.ts';
import { FirstUse } from '../core/first-use.ts';
import { JsonServer } from './ask-json.ts';
import { LOGIN_HINT, readCredentials, type Credentials, type Fetch } from './gcp-credentials.ts';
import type { ProviderContext } from './provider.ts';

/** What a request carries: the token, and the project that pays for it when that is another one. */
export type LoginHeaders = Readonly<Record<string, string>>;

interface Source {
  readonly account: string;
  readonly headers: () => Promise<LoginHeaders>;
}

export class GoogleLogin {
  readonly #env: ProviderContext['env'];
  readonly #source: FirstUse<Source>;
  #current: Promise<LoginHeaders> | undefined;
  #refused: LoginHeaders | undefined;

  constructor(env: ProviderContext['env'], fetchToken?: Fetch) {
    this.#env = env;
    this.#source = new FirstUse(() => openSource(env, fetchToken));
  }

  /** Many callers, one request. Throws `provider-locked`, `provider-denied`, `provider-unavailable`, and what the signal was aborted with. */
  async headers(signal: AbortSignal): Promise<LoginHeaders> {
    signal.throwIfAborted();
    this.#current ??= this.#ask().finally(() => {
      this.#current = undefined;
    });
    return orAborted(this.#current, signal);
  }

  /** The API did not take these: the next ones come from a new login. */
  forget(refused: LoginHeaders): void {
    if (this.#refused === refused) return;
    this.#refused = refused;
    this.#source.forget();
  }

  async account(signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    return (await orAborted(this.#source.get(), signal)).account;
  }

  async #ask(): Promise<LoginHeaders> {
    const source = await this.#source.get();
    const headers = await source.headers();
    const payer = this.#env.GOOGLE_CLOUD_QUOTA_PROJECT;
    return payer === undefined || payer === '' ? headers : { ...headers, 'x-goog-user-project': payer };
  }
}

async function openSource(env: ProviderContext['env'], fetchToken: Fetch | undefined): Promise<Source> {
  const credentials = await readCredentials(env, fetchToken);
  if (credentials === undefined) return machine(env);
  return { account: credentials.account, headers: () => tokenOf(credentials) };
}

async function tokenOf(credentials: Credentials): Promise<LoginHeaders> {
  try {
    return Object.fromEntries(await credentials.client.getRequestHeaders());
  } catch (error) {
    throw refusal(error, credentials);
  }
}

/** Without a cause: the library's errors hold the request, and with it what kz logs in with. */
function refusal(error: unknown, { account, label, isPerson }: Credentials): KzError {
  const { status, words } = answerOf(error);
  const hint = isPerson
    ? LOGIN_HINT
    : 'the key or the account may be gone: run `gcloud iam service-accounts keys list`, or log in yourself';
  if (/invalid_grant|invalid_rapt/.test(words)) {
    const reason = words.includes('invalid_rapt') ? 'invalid_rapt' : 'invalid_grant';
    return new KzError('provider-locked', `Google no longer accepts the credentials in ${label} (${reason})`, { hint });
  }
  if (status === 403) {
    return new KzError('provider-denied', `Google gives no token for ${account}`, {
      hint: 'to act as another account takes roles/iam.serviceAccountTokenCreator on it',
    });
  }
  if (status !== undefined && status < 500) {
    return new KzError('provider-locked', `Google refused the credentials in ${label} (${String(status)})`, { hint });
  }
  const code = status === undefined ? systemCode(error) : String(status);
  if (code === undefined || code.startsWith('ERR_')) {
    return new KzError('provider-locked', `cannot log in with the credentials in ${label}`, { hint: LOGIN_HINT });
  }
  return new KzError('provider-unavailable', `cannot reach Google to log in: ${code}`);
}

/** What an OAuth server or a Google API said, as far as it is known words. */
function answerOf(error: unknown): { readonly status: number | undefined; readonly words: string } {
  const response = propertyOf(error, 'response');
  const status = propertyOf(response, 'status');
  const data = propertyOf(response, 'data');
  const words = ['error', 'error_subtype', 'error_description'].map((name) => propertyOf(data, name));
  return { status: typeof status === 'number' ? status : undefined, words: words.filter((word) => typeof word === 'string').join(' ') };
}

function propertyOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

const METADATA_ADDRESS = '169.254.169.254';
const TOKEN_PATH = '/computeMetadata/v1/instance/service-accounts/default/token';

/** Off Google's machines nothing answers there, and packets may vanish without a word. */
const METADATA_TIMEOUT_MS = 3000;

/** A token is used until so long before its end. */
const MARGIN_MS = 60_000;

function machine(env: ProviderContext['env']): Source {
  const host = [env.GCE_METADATA_HOST, env.GCE_METADATA_IP].find((name) => name !== undefined && name !== '');
  const isOff = /^true$/i.test(env.NO_GCE_CHECK ?? '') || env.METADATA_SERVER_DETECTION === 'none';
  if (isOff && host === undefined) throw noCredentials();
  let token: { readonly headers: LoginHeaders; readonly until: number } | undefined;
  const headers = async (): Promise<LoginHeaders> => {
    if (token === undefined || token.until < Date.now())
      token = await askMachine(new URL(`http://${host ?? METADATA_ADDRESS}${TOKEN_PATH}`));
    return token.headers;
  };
  return { account: 'the service account of this machine', headers };
}

async function askMachine(url: URL): Promise<{ readonly headers: LoginHeaders; readonly until: number }> {
  const server = new JsonServer({ who: `the metadata server at ${url.host}` });
  try {
    const patience = AbortSignal.timeout(METADATA_TIMEOUT_MS);
    const answer = await server.ask({ method: 'GET', url, headers: { 'metadata-flavor': 'Google' } }, patience);
    const [token, seconds] = [propertyOf(answer.body, 'access_token'), propertyOf(answer.body, 'expires_in')];
    // Other clouds have other servers at the same address.
    const isGoogle = answer.headers['metadata-flavor'] === 'Google';
    if (isGoogle && typeof token === 'string' && typeof seconds === 'number') {
      return { headers: { authorization: `Bearer ${token}` }, until: Date.now() + seconds * 1000 - MARGIN_MS };
    }
  } catch {
    // Whatever it was, there is no token to be had here.
  } finally {
    server.close();
  }
  throw noCredentials();
}

function noCredentials(): KzError {
  const problem = 'GOOGLE_APPLICATION_CREDENTIALS is not set, gcloud is not logged in, and this machine has no service account';
  return new KzError('provider-locked', `there are no Google credentials: ${problem}`, { hint: LOGIN_HINT });
}
