// What a ref of AWS names: a secret of Secrets Manager or a parameter of the Parameter Store, perhaps one version, perhaps one key of it.
import { KzError } from '../core/errors.ts';

interface Common {
  /** The name or the ARN, as AWS takes it. */
  readonly id: string;
  /** Of an ARN; a name is looked for where the config says. */
  readonly region: string | undefined;
  /** One value of a JSON document. */
  readonly key: string | undefined;
  /** `secret "prod/db"`, for messages. */
  readonly label: string;
}

/** At most one of `stage` and `versionId`; without them the current value is meant. */
export interface SecretRef extends Common {
  readonly service: 'secret';
  readonly stage: string | undefined;
  readonly versionId: string | undefined;
}

export interface ParameterRef extends Common {
  readonly service: 'parameter';
  /** `:3`, `:label`, or empty for the newest. */
  readonly selector: string;
}

export type AwsRef = SecretRef | ParameterRef;

/** Throws `ref-invalid`. */
export function parseAwsRef(text: string): AwsRef {
  const parsed = /\p{Cc}/u.test(text) ? undefined : (parseSecret(text) ?? parseParameter(text));
  if (parsed !== undefined) return parsed;
  throw new KzError('ref-invalid', `aws ref ${JSON.stringify(text)} names neither a secret nor a parameter`, {
    hint: 'write it as `sm://name`, `sm://name#key`, `sm://name#key@AWSPREVIOUS`, `ssm:///path/name`, or as an ARN',
  });
}

/** The same for refs that one answer serves, whatever keys of it they want. */
export function sourceOf(ref: AwsRef): string {
  const version = ref.service === 'secret' ? [ref.stage, ref.versionId] : [ref.selector];
  return [ref.service, ref.region, ref.id, ...version].join('\0');
}

/** Undefined for what AWS calls the current value. */
export function versionOf(ref: AwsRef): string | undefined {
  if (ref.service === 'secret') return ref.stage ?? ref.versionId;
  return ref.selector === '' ? undefined : ref.selector.slice(1);
}

const SECRET_NAME = /^[\w/+=.@-]{1,512}$/;
const SECRET_ARN = /^arn:aws[\w-]*:secretsmanager:([a-z0-9-]+):\d*:secret:[\w/+=.@-]{1,512}$/;

function parseSecret(text: string): SecretRef | undefined {
  // A name has no #, so the first one ends it; the version may stand behind the name or behind the key.
  const [named, behind] = splitOnce(withoutScheme(text, 'sm://'), '#');
  const name = splitVersion(named);
  const key = splitVersion(behind);
  const region = SECRET_ARN.exec(name.text ?? '')?.[1];
  const id = region === undefined ? SECRET_NAME.exec(name.text ?? '')?.[0] : name.text;
  if (id === undefined || key.text === '' || (name.version && key.version)) return undefined;
  const label = `secret ${JSON.stringify(id)}`;
  return { service: 'secret', id, region, key: key.text, label, ...stageOrId(name.version ?? key.version) };
}

/** Names and keys may hold an @, so only what can hardly be anything else is a version. */
const VERSION =
  /@(?:(AWSCURRENT|AWSPENDING|AWSPREVIOUS)|stage:([^@#]{1,256})|version:([\w-]{32,64})|([\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}))$/i;

function splitVersion(text: string | undefined): { text: string | undefined; version: RegExpExecArray | undefined } {
  const version = VERSION.exec(text ?? '') ?? undefined;
  return { text: text?.slice(0, version?.index), version };
}

function stageOrId(version: RegExpExecArray | undefined): Pick<SecretRef, 'stage' | 'versionId'> {
  const [, known, stage, id, uuid] = version ?? [];
  return { stage: known?.toUpperCase() ?? stage, versionId: id ?? uuid };
}

const PARAMETER_NAME = /^([\w./-]{1,1011})(:[\w.-]{1,100})?$/;
const PARAMETER_ARN = /^(arn:aws[\w-]*:ssm:([a-z0-9-]+):\d*:parameter\/[\w./-]{1,1011})(:[\w.-]{1,100})?$/;

function parseParameter(text: string): ParameterRef | undefined {
  const [named, key] = splitOnce(withoutScheme(text, 'ssm://'), '#');
  const [, arn, region, ofArn = ''] = PARAMETER_ARN.exec(named) ?? [];
  const [, name, ofName = ''] = PARAMETER_NAME.exec(named) ?? [];
  const id = arn ?? fullName(name);
  if (id === undefined || key === '') return undefined;
  return { service: 'parameter', id, region, key, selector: ofArn + ofName, label: `parameter ${JSON.stringify(id)}` };
}

/** AWS has no names with a slash that do not start with one. */
function fullName(name: string | undefined): string | undefined {
  return name?.includes('/') === true && !name.startsWith('/') ? `/${name}` : name;
}

/** Empty, which is no name, for what starts otherwise. An ARN needs no scheme. */
function withoutScheme(text: string, scheme: string): string {
  if (text.startsWith('arn:')) return text;
  return text.startsWith(scheme) ? text.slice(scheme.length) : '';
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
