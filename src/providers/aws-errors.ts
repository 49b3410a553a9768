// What AWS says when it refuses → KzError. Names of errors, actions and secrets are told; AWS's own sentences are read and not passed on,
// and some of them are not even kept as causes, because they quote what was sent.
import { KzError, systemCode, type ErrorCode } from '../core/errors.ts';
import { tlsHint } from './ask-json.ts';

/** What was asked, of whom, for whom. */
export interface Question {
  /** As IAM writes it: `secretsmanager:GetSecretValue`. */
  readonly action: string;
  /** `secret "prod/db"`, or several. */
  readonly what: string;
  /** `Secrets Manager in eu-west-1`. */
  readonly where: string;
  readonly region: string;
  readonly profile: string | undefined;
}

/** The part of an error of the SDK that counts; an item of a batch answer has no more. */
export interface Fault {
  readonly name: string;
  readonly message: string;
  readonly status?: number | undefined;
  readonly cause?: unknown;
}

const THROTTLED = new Set([
  'ThrottlingException',
  'Throttling',
  'ThrottledException',
  'TooManyRequestsException',
  'TooManyUpdates',
  'RequestLimitExceeded',
  'RequestThrottled',
  'RequestThrottledException',
  'SlowDown',
]);

/** AWS would answer the same request later. */
export function isThrottled({ name, status }: Fault): boolean {
  return THROTTLED.has(name) || status === 429 || status === 503;
}

/** The same request may succeed at once: AWS failed, the connection broke, or the SDK has just learnt how wrong this clock is. */
export function isPassing(fault: Fault, error: unknown): boolean {
  const broken = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes(systemCode(error) ?? '');
  return broken || (fault.status ?? 0) >= 500 || metadataOf(error)?.clockSkewCorrected === true;
}

export function faultOf(error: unknown): Fault {
  const status = metadataOf(error)?.httpStatusCode;
  const known = error instanceof Error ? error : new Error('unknown');
  return { name: known.name, message: known.message, status: typeof status === 'number' ? status : undefined, cause: error };
}

function metadataOf(error: unknown): { readonly httpStatusCode?: unknown; readonly clockSkewCorrected?: unknown } | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined;
  return typeof error.$metadata === 'object' && error.$metadata !== null ? error.$metadata : undefined;
}

/** The error of the whole answer, or of one item of a batch. */
export function awsError(fault: Fault, question: Question): KzError {
  return unreachable(fault, question) ?? refused(fault, question) ?? notThere(fault, question) ?? failed(fault, question);
}

const ADDRESS = '`endpoint` in [providers.aws], or AWS_ENDPOINT_URL';

function unreachable({ cause }: Fault, { where }: Question): KzError | undefined {
  const code = systemCode(cause);
  if (code === undefined) return undefined;
  const unavailable = (problem: string, hint?: string): KzError =>
    new KzError('provider-unavailable', `cannot reach ${where}: ${problem} (${code})`, { hint, cause });
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return unavailable('no such host', 'check the region, the endpoint and the network');
  if (code === 'ECONNREFUSED') return unavailable('nothing listens there', `is it running? check ${ADDRESS}`);
  const hint = tlsHint(code, ADDRESS);
  return hint === undefined ? unavailable('the connection failed') : unavailable('its TLS certificate or handshake was refused', hint);
}

const EXPIRED = new Set(['ExpiredTokenException', 'ExpiredToken', 'TokenRefreshRequired', 'RequestExpired']);
const NOT_ACCEPTED = new Set([
  'UnrecognizedClientException',
  'InvalidSignatureException',
  'InvalidClientTokenId',
  'SignatureDoesNotMatch',
  'IncompleteSignature',
  'IncompleteSignatureException',
  'MissingAuthenticationToken',
  'MissingAuthenticationTokenException',
  'AuthFailure',
  'NotAuthorized',
]);
const KMS = new Set(['DecryptionFailure', 'EncryptionFailure', 'InvalidKeyId', 'KMSAccessDeniedException']);

function refused({ name, message, cause }: Fault, { action, what, where, profile }: Question): KzError | undefined {
  if (EXPIRED.has(name)) {
    return new KzError('provider-locked', `the AWS credentials have expired (${name})`, { hint: howToLogin(profile), cause });
  }
  if (NOT_ACCEPTED.has(name)) {
    const hint = 'to see whose they are, run `aws sts get-caller-identity`; a wrong clock or a region that is not enabled look the same';
    return new KzError('provider-locked', `${where} does not accept the AWS credentials (${name})`, { hint, cause });
  }
  const isDenied = name === 'AccessDeniedException' || name === 'AccessDenied';
  if (KMS.has(name) || (isDenied && /access to kms|ciphertext|perform: kms:/i.test(message))) {
    const hint = 'allow kms:Decrypt (to write, also kms:GenerateDataKey) on the key that encrypts it';
    return new KzError('provider-denied', `${where} may not use the KMS key of ${what} (${name})`, { hint, cause });
  }
  if (!isDenied) return undefined;
  const hint = `allow ${action} in the IAM policy of these credentials; to see whose they are, run \`aws sts get-caller-identity\``;
  return new KzError('provider-denied', `${where} refused ${action} on ${what} (${name})`, { hint, cause });
}

const MISSING = new Set(['ResourceNotFoundException', 'ParameterNotFound', 'ParameterVersionNotFound']);

function notThere({ name, message, cause }: Fault, question: Question): KzError | undefined {
  if (MISSING.has(name)) return missing(question, cause, / for (staging label|versionid|secret ?version)/i.test(message));
  const isGoing = name === 'InvalidRequestException' && /deletion|deleted/i.test(message);
  return isGoing ? pendingDeletion(question, cause) : undefined;
}

/** Looking in the wrong region is a usual cause, so it is named. */
export function missing({ action, what, where, region }: Question, cause?: unknown, isVersion = false): KzError {
  if (isVersion) {
    return new KzError('secret-missing', `${what} has no such version in ${where}`, {
      hint: `${what} is in ${region}, without that version`,
      cause,
    });
  }
  const list = action.startsWith('ssm:') ? 'aws ssm describe-parameters' : 'aws secretsmanager list-secrets';
  const look = `run \`${list} --region ${region}\``;
  // An ARN says itself where it is.
  const hint = what.includes('"arn:')
    ? `to see what is there, ${look}`
    : `if it should be in ${region}, ${look}; if it is elsewhere, set \`region\` in [providers.aws]`;
  return new KzError('secret-missing', `${what} is not in ${where}`, { hint, cause });
}

function pendingDeletion({ what, where, region }: Question, cause: unknown): KzError {
  const id = /"(.+)"/.exec(what)?.[1] ?? 'NAME';
  const hint = `it is scheduled for deletion; to keep it, run \`aws secretsmanager restore-secret --region ${region} --secret-id ${id}\``;
  return new KzError('secret-missing', `${what} in ${where} is scheduled for deletion`, { hint, cause });
}

const NOT_AN_ID = new Set(['ValidationException', 'InvalidParameterException']);
const READ = /:(?:Batch)?Get/;

/** Without the cause where it quotes what was sent or received: the value, when it was written. */
function failed({ name, status, cause }: Fault, { action, what, where }: Question): KzError {
  const answered = status === undefined ? '' : ` with status ${String(status)}`;
  if (cause instanceof SyntaxError) {
    const hint = 'something else answers there: check `endpoint` in [providers.aws], AWS_ENDPOINT_URL, and proxies';
    return new KzError('provider-failed', `${where} answered ${action}${answered}, and not as AWS does`, { hint });
  }
  if (NOT_AN_ID.has(name)) {
    const code: ErrorCode = READ.test(action) ? 'ref-invalid' : 'provider-failed';
    const hint =
      code === 'ref-invalid' ? 'correct the name' : 'its name or its value is not one that AWS takes; a standard parameter holds 4 KiB';
    return new KzError(code, `${where} does not take ${what} for ${action} (${name})`, { hint });
  }
  return new KzError('provider-failed', `${where} failed at ${action} on ${what}: ${name}${answered}`, { cause });
}

/** Without the cause: that of a credential process is what the program printed. */
export function credentialsError(error: unknown, profile: string | undefined): KzError {
  const { name, message } = faultOf(error);
  const whose = profile === undefined ? '' : ` for profile ${JSON.stringify(profile)}`;
  const code = systemCode(error);
  if (code !== undefined && /^E[A-Z]+$/.test(code) && name !== 'CredentialsProviderError') {
    return new KzError('provider-unavailable', `cannot reach what gives AWS credentials${whose} (${code})`);
  }
  const hint = howToLogin(profile);
  if (/\bsso\b/i.test(message))
    return new KzError('provider-locked', `the AWS SSO session${whose} has expired or was never opened`, { hint });
  if (EXPIRED.has(name) || /expired/i.test(message))
    return new KzError('provider-locked', `the AWS credentials${whose} have expired`, { hint });
  const why = `run \`aws sts get-caller-identity${forProfile(profile)}\``;
  if (message.includes('Could not load credentials from any providers')) {
    const elsewhere =
      profile === undefined ? 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `profile` in [providers.aws]' : `to see why, ${why}`;
    return new KzError('provider-locked', `found no AWS credentials${whose}`, { hint: `${hint}, or ${elsewhere}` });
  }
  return new KzError('provider-locked', `cannot get AWS credentials${whose} (${name})`, { hint: `to see why, ${why}` });
}

function howToLogin(profile: string | undefined): string {
  return `run \`aws sso login${forProfile(profile)}\``;
}

function forProfile(profile: string | undefined): string {
  return profile === undefined ? '' : ` --profile ${profile}`;
}
