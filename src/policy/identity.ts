// Who a verified token speaks for, in the seven words that policies are written with.

type TextField = 'org' | 'service' | 'env' | 'action' | 'branch' | 'actor';

/** A field that the claims say nothing of is empty. */
export type Identity = Readonly<Record<TextField, string>> & { readonly groups: readonly string[] };

/** What kind of tokens an issuer gives out, and where the bundle looks instead. */
export interface Profile {
  readonly type: 'github-actions' | 'kubernetes' | 'gcp' | 'aws' | 'custom';
  /** Identity field → keys on the way to the claim. Takes the place of what the type says of that field. */
  readonly map: ReadonlyMap<string, readonly string[]>;
}

type Claims = Readonly<Record<string, unknown>>;
type KeyPath = readonly string[];
/** The first place where there is something counts. */
type Places = Readonly<Partial<Record<keyof Identity, readonly KeyPath[]>>>;

const KUBERNETES = 'kubernetes.io';
/** https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html */
const AWS = 'https://sts.amazonaws.com/';

const PLACES: Readonly<Record<Profile['type'], Places>> = {
  'github-actions': {
    org: [['repository_owner']],
    service: [['repository']],
    env: [['environment']],
    action: [['workflow'], ['workflow_ref']],
    branch: [['ref']],
    actor: [['actor']],
  },
  kubernetes: {
    org: [['namespace'], [KUBERNETES, 'namespace']],
    service: [['serviceaccount'], ['service_account'], [KUBERNETES, 'serviceaccount', 'name']],
    groups: [['groups']],
  },
  gcp: {
    org: [['project_id'], ['google', 'compute_engine', 'project_id']],
    service: [['email']],
    actor: [['email']],
  },
  aws: {
    org: [['account_id'], ['account'], [AWS, 'aws_account']],
    service: [['arn'], ['role_arn'], [AWS, 'principal_id']],
  },
  custom: {},
};

/**
 * Of claims that were verified. What is neither text nor a whole number is not there, nor is a number that JavaScript takes for another one; of groups
 * only texts are.
 */
export function identityOf({ type, map }: Profile, claims: Claims): Identity {
  const proven = type === 'gcp' ? withoutDoubtfulEmail(claims) : claims;
  const account = type === 'kubernetes' ? serviceAccount(claims) : undefined;
  const text = (field: TextField, otherwise = ''): string => {
    const own = map.get(field);
    if (own !== undefined) return textAt(claims, own) ?? '';
    return firstText(proven, PLACES[type][field] ?? []) ?? otherwise;
  };
  const own = map.get('groups');
  const groups = own === undefined ? (PLACES[type].groups ?? []) : [own];
  return {
    org: text('org', account?.namespace),
    service: text('service', account?.name),
    env: text('env'),
    action: text('action'),
    branch: text('branch'),
    actor: text('actor'),
    groups: groups.map((path) => groupsAt(claims, path)).find((found) => found.length > 0) ?? [],
  };
}

/** Every Kubernetes token says in `sub` whose it is, those of clusters that leave the rest out too. */
function serviceAccount(claims: Claims): { readonly namespace: string; readonly name: string } | undefined {
  const [, namespace, name] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(textAt(claims, ['sub']) ?? '') ?? [];
  return namespace === undefined || name === undefined ? undefined : { namespace, name };
}

/** Anybody can have an account with an address that nobody has verified. Tokens of machines may say nothing of that. */
function withoutDoubtfulEmail(claims: Claims): Claims {
  const { email_verified: verified = true } = claims;
  return verified === true || verified === 'true' ? claims : { ...claims, email: undefined };
}

function firstText(claims: Claims, paths: readonly KeyPath[]): string | undefined {
  for (const path of paths) {
    const text = textAt(claims, path);
    if (text !== undefined) return text;
  }
  return undefined;
}

function textAt(claims: Claims, path: KeyPath): string | undefined {
  const value = valueAt(claims, path);
  if (Number.isSafeInteger(value)) return String(value);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** One text is a list of one. */
function groupsAt(claims: Claims, path: KeyPath): readonly string[] {
  const value = valueAt(claims, path);
  const all: readonly unknown[] = Array.isArray(value) ? value : [value];
  return all.filter((group): group is string => typeof group === 'string' && group !== '');
}

/** Only what the token itself says: nothing that JavaScript objects have by birth. */
function valueAt(claims: Claims, path: KeyPath): unknown {
  let value: unknown = claims;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, key)) return undefined;
    value = (value as Claims)[key];
  }
  return value;
}
