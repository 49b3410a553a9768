// The connection to AWS: the library, region, credentials and one client per service and region. Asks again while AWS throttles, until the
// signal aborts, and says so.
import { setMaxListeners } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { awsError, credentialsError, faultOf, isPassing, isThrottled, type Fault, type Question } from './aws-errors.ts';
import type { ProviderContext } from './provider.ts';

export type Sdk = typeof import('./aws-sdk.ts');
type SecretsClient = InstanceType<Sdk['SecretsManagerClient']>;
type ParametersClient = InstanceType<Sdk['SSMClient']>;
type Credentials = ReturnType<Sdk['fromNodeProviderChain']>;

/** What a request is about: the rest of a Question is the session's. */
export interface Request {
  readonly action: string;
  readonly what: string;
  /** Left out: the session's. */
  readonly region?: string | undefined;
}

/** Sends one command with a client; the last argument is for `send`. */
type Send<Client, Answer> = (client: Client, sdk: Sdk, options: { abortSignal: AbortSignal }) => Promise<Answer>;

const NAMES = { SECRETS_MANAGER: 'Secrets Manager', SSM: 'the Parameter Store' } as const;
type Service = keyof typeof NAMES;

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;
/** For AWS's own failures and broken connections; throttling has no limit but the signal. */
const MOST_FAILURES = 4;

export class AwsSession {
  readonly profile: string | undefined;
  readonly #options: NonNullable<ProviderOptions['aws']>;
  readonly #env: ProviderContext['env'];
  readonly #secretsClients = new Map<string, SecretsClient>();
  readonly #parametersClients = new Map<string, ParametersClient>();
  #sdk: Promise<Sdk> | undefined;
  #credentials: Credentials | undefined;
  #region: Promise<string> | undefined;

  constructor(options: NonNullable<ProviderOptions['aws']>, env: ProviderContext['env']) {
    this.#options = options;
    this.#env = env;
    this.profile = options.profile ?? this.#variable('AWS_PROFILE');
  }

  async secrets<Answer>(request: Request, send: Send<SecretsClient, Answer>, signal: AbortSignal): Promise<Answer> {
    const sdk = await this.#load();
    const region = request.region ?? (await this.region());
    const client = once(this.#secretsClients, region, () => new sdk.SecretsManagerClient(this.#settings(sdk, 'SECRETS_MANAGER', region)));
    return this.#ask(await this.question('SECRETS_MANAGER', request), () => send(client, sdk, { abortSignal: signal }), sdk, signal);
  }

  async parameters<Answer>(request: Request, send: Send<ParametersClient, Answer>, signal: AbortSignal): Promise<Answer> {
    const sdk = await this.#load();
    const region = request.region ?? (await this.region());
    const client = once(this.#parametersClients, region, () => new sdk.SSMClient(this.#settings(sdk, 'SSM', region)));
    return this.#ask(await this.question('SSM', request), () => send(client, sdk, { abortSignal: signal }), sdk, signal);
  }

  /** For what an answer says about one of its items. */
  async question(service: Service, request: Request): Promise<Question> {
    const region = request.region ?? (await this.region());
    return { ...request, where: this.where(service, region), region, profile: this.profile };
  }

  /** For people. */
  where(service: Service, region: string | undefined): string {
    const endpoint = this.#endpoint(service);
    const host = endpoint !== undefined && URL.canParse(endpoint) ? new URL(endpoint).origin : endpoint;
    const place = region ?? (this.profile === undefined ? 'the default region' : `the region of profile ${this.profile}`);
    return `${NAMES[service]} in ${place}${host === undefined ? '' : ` at ${host}`}`;
  }

  /** The region as far as it is known without reading AWS's own configuration. */
  get configuredRegion(): string | undefined {
    return this.#options.region ?? this.#variable('AWS_REGION') ?? this.#variable('AWS_DEFAULT_REGION');
  }

  /** Throws `provider-unavailable` where nothing names one. */
  async region(): Promise<string> {
    const region = this.configuredRegion ?? (await (this.#region ??= this.#profileRegion()));
    if (/^[a-z\d-]+$/.test(region)) return region;
    throw new KzError('provider-unavailable', `${JSON.stringify(region)} is not an AWS region`, { hint: 'write it as `eu-west-1`' });
  }

  #load(): Promise<Sdk> {
    return (this.#sdk ??= loadQuietly());
  }

  async #profileRegion(): Promise<string> {
    const sdk = await this.#load();
    const client = new sdk.SSMClient({ logger: SILENT, ...this.#profileOption() });
    try {
      return await client.config.region();
    } catch (cause) {
      const whose = this.profile === undefined ? '' : ` for profile ${JSON.stringify(this.profile)}`;
      const hint = 'set `region = "eu-west-1"` in [providers.aws], or AWS_REGION';
      throw new KzError('provider-unavailable', `no AWS region is configured${whose}`, { hint, cause });
    } finally {
      client.destroy();
    }
  }

  close(): void {
    for (const client of [...this.#secretsClients.values(), ...this.#parametersClients.values()]) client.destroy();
  }

  async #ask<Answer>(question: Question, send: () => Promise<Answer>, sdk: Sdk, signal: AbortSignal): Promise<Answer> {
    // Many requests wait for one signal, which is no leak.
    setMaxListeners(0, signal);
    await this.#login(sdk, signal);
    let failures = 0;
    let reason: string | undefined;
    for (let attempt = 0; ; attempt++) {
      try {
        return await send();
      } catch (error) {
        const fault = faultOf(error);
        if (signal.aborted) throw timeout(reason ?? `${question.where} did not answer ${question.action} in time`, signal.reason);
        if (!isThrottled(fault) && !(isPassing(fault, error) && ++failures < MOST_FAILURES)) throw awsError(fault, question);
        reason = busy(fault, question);
        await pause(attempt, reason, signal);
      }
    }
  }

  /** Before the first request, so that what goes wrong here is told apart, and the deadline holds: the chain listens to no signal. */
  async #login(sdk: Sdk, signal: AbortSignal): Promise<void> {
    const waiting = new AbortController();
    const aborted = new Promise<never>((_resolve, reject) => {
      const giveUp = (): void => {
        reject(
          timeout('what gives AWS credentials (SSO, a credential process, the metadata service) did not answer in time', signal.reason),
        );
      };
      if (signal.aborted) giveUp();
      signal.addEventListener('abort', giveUp, { once: true, signal: waiting.signal });
    });
    try {
      await Promise.race([this.#chain(sdk)(), aborted]);
    } catch (error) {
      throw error instanceof KzError ? error : credentialsError(error, this.profile);
    } finally {
      waiting.abort();
    }
  }

  /** The SDK's standard chain, one for all clients. As there, a profile comes before keys in the environment. */
  #chain(sdk: Sdk): Credentials {
    this.#credentials ??= this.#environmentKeys() ?? sdk.fromNodeProviderChain(this.#chainOptions());
    return this.#credentials;
  }

  #environmentKeys(): Credentials | undefined {
    const [accessKeyId, secretAccessKey] = [this.#variable('AWS_ACCESS_KEY_ID'), this.#variable('AWS_SECRET_ACCESS_KEY')];
    if (this.profile !== undefined || accessKeyId === undefined || secretAccessKey === undefined) return undefined;
    const sessionToken = this.#variable('AWS_SESSION_TOKEN');
    return () => Promise.resolve({ accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) });
  }

  #chainOptions(): Parameters<Sdk['fromNodeProviderChain']>[0] {
    const region = this.configuredRegion;
    return {
      logger: SILENT,
      ...this.#profileOption(),
      ...(region === undefined ? {} : { parentClientConfig: { region: () => Promise.resolve(region) } }),
    };
  }

  #profileOption(): { profile?: string } {
    return this.profile === undefined ? {} : { profile: this.profile };
  }

  #settings(sdk: Sdk, service: Service, region: string): ConstructorParameters<Sdk['SecretsManagerClient']>[0] & object {
    const endpoint = this.#endpoint(service);
    return {
      region,
      ...this.#profileOption(),
      credentials: this.#chain(sdk),
      maxAttempts: 1,
      logger: SILENT,
      ...(endpoint === undefined ? {} : { endpoint }),
    };
  }

  /** Undefined: the SDK finds it, in the profile or by the region. */
  #endpoint(service: Service): string | undefined {
    return this.#options.endpoint ?? this.#variable(`AWS_ENDPOINT_URL_${service}`) ?? this.#variable('AWS_ENDPOINT_URL');
  }

  #variable(name: string): string | undefined {
    const value = this.#env[name];
    return value === '' ? undefined : value;
  }
}

/** Left to itself the library warns on the console, which belongs to the child. */
const SILENT = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };

function nothing(): void {
  return undefined;
}

const OLD_NODE_WARNING = 'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED';

/** The first client of a process writes a warning about older versions of Node to standard error, unless a variable forbids it. */
async function loadQuietly(): Promise<Sdk> {
  const sdk = await import('./aws-sdk.ts');
  if (process.env[OLD_NODE_WARNING] !== undefined) return sdk;
  process.env[OLD_NODE_WARNING] = 'true';
  try {
    new sdk.SSMClient({ region: 'none' }).destroy();
  } finally {
    // Nobody else shall inherit it.
    Reflect.deleteProperty(process.env, OLD_NODE_WARNING);
  }
  return sdk;
}

function once<T>(known: Map<string, T>, key: string, make: () => T): T {
  const made = known.get(key) ?? make();
  known.set(key, made);
  return made;
}

function busy(fault: Fault, { where, action }: Question): string {
  const how = isThrottled(fault) ? 'throttling' : 'failing at';
  return `${where} keeps ${how} ${action} (${fault.name}), until kz’s time was over`;
}

async function pause(attempt: number, because: string, signal: AbortSignal): Promise<void> {
  const ms = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
  try {
    await wait(ms, undefined, { signal });
  } catch (cause) {
    throw timeout(because, cause);
  }
}

function timeout(message: string, cause: unknown): KzError {
  return new KzError('provider-timeout', message, { hint: 'allow more with --timeout 60s', cause });
}
