// The header fields that may stand beside a credential. Of a caller that has a request sent those are refused that say who asks, which host,
// path or method is meant, where the message ends, and which part of the answer comes back; of a client of the proxy, whose request it is,
// only those that make another request of it.
import type { CredentialLocation, ResourceEntry } from '../../config/bundle.ts';
import { ServerFailure } from '../failure.ts';

/** Name, value. */
export type Field = readonly [name: string, value: string];

const MOST_FIELDS = 64;
const LARGEST_FIELDS = 16 * 1024;

/** RFC 9110 5.6.2. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]{1,256}$/;
/** Latin1 without controls but tab. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Checks that need no resource. Throws request-invalid or header-forbidden. Fields that kz answers for itself are left out. */
export function readHeaders(headers: Readonly<Record<string, string>>): readonly Field[] {
  const fields = Object.entries(headers);
  if (fields.length > MOST_FIELDS) throw new ServerFailure('request-invalid', `there are more than ${String(MOST_FIELDS)} headers`);
  const size = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
  if (size > LARGEST_FIELDS) throw new ServerFailure('request-invalid', `the headers are larger than ${String(LARGEST_FIELDS)} bytes`);
  const seen = new Set<string>();
  return fields.flatMap(([name, value]): Field[] => {
    checkField(name, value);
    const key = keyOf(name);
    if (seen.has(key)) throw new ServerFailure('header-forbidden', `header ${name} is there twice`);
    seen.add(key);
    return OURS.has(key) ? [] : [[name, value.replace(/^[\t ]+|[\t ]+$/g, '')]];
  });
}

/** Throws header-forbidden for what stands where the credential goes, or names a path that nobody has held against those of the resource. */
export function checkHeaders(fields: readonly Field[], { location, paths }: Pick<ResourceEntry, 'location' | 'paths'>): void {
  if (paths !== undefined) refuseOtherPaths(fields);
  const injected = injectedHeader(location);
  if (injected === undefined) return;
  const found = fields.find(([name]) => sameHeader(name, injected));
  if (found !== undefined) throw notToBeSet(found[0], 'kz puts the credential there');
}

/** For fields that are not the caller's choice alone. Throws header-forbidden for what is another method, host or path to some servers. */
export function checkOverrides(fields: readonly Field[], { paths }: Pick<ResourceEntry, 'paths'>): void {
  for (const [name] of fields) {
    const why = whyForbidden(keyOf(name));
    if (why === METHOD || why === PLACE) throw notToBeSet(name, why);
  }
  if (paths !== undefined) refuseOtherPaths(fields);
}

/** What is copied, moved or looked up is not at the path of the request. Harmless where all paths are allowed. */
function refuseOtherPaths(fields: readonly Field[]): void {
  const found = fields.find(([name]) => OTHER_PATH.test(keyOf(name)));
  if (found !== undefined) throw notToBeSet(found[0], 'the resource is for some paths only, and it names another one');
}

/** WebDAV (RFC 4918 10.3), Swift, the stores of AWS, Google, Azure and others, the namespaces of Vault. */
const OTHER_PATH = /^(?:destination|x-copy-from|x-vault-namespace|x-[a-z]+-(?:copy|rename|move)-source)$/;

/** Undefined: it goes elsewhere. */
function injectedHeader(location: CredentialLocation): string | undefined {
  switch (location.kind) {
    case 'header':
      return location.name;
    case 'basic':
      return 'Authorization';
    case 'query':
      return undefined;
  }
}

export function sameHeader(one: string, other: string): boolean {
  return keyOf(one) === keyOf(other);
}

/** CGI and what descends from it (PHP, WSGI, Rack) cannot tell `X_Api_Key` from `X-Api-Key`; some servers take any other mark for a dash too. */
function keyOf(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-');
}

/** What comes back is searched for values: no coding and no charset that hides them. */
const OURS = new Set(['accept-encoding', 'accept-charset', 'grpc-accept-encoding', 'a-im']);

const FRAMING = 'it belongs to the connection, which is kz’s own';
const ROUTING = 'it could lead the request to another host or path';
/** The same, of those that honest clients do not send. CGI takes `Proxy` for the variable HTTP_PROXY (httpoxy). */
const PLACE = 'servers take it for another host or path';
const METHOD = 'servers take it for another method';
const IDENTITY = 'it could change for whom the request speaks';
const PART = 'a value that comes back in parts could not be found';

const FORBIDDEN = new Map([
  ...entries(FRAMING, 'content-length transfer-encoding connection keep-alive te trailer upgrade expect http2-settings max-forwards'),
  ...entries(ROUTING, 'host forwarded x-forwarded x-middleware-subrequest'),
  ...entries(PLACE, 'proxy x-host x-http-host-override x-http-path-override'),
  ...entries(METHOD, 'x-http-method x-http-method-override x-method-override x-http-verb-override'),
  ...entries(
    IDENTITY,
    'cookie cookie2 x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip fastly-client-ip client-ip',
  ),
  ...entries(IDENTITY, 'x-user x-userinfo sudo on-behalf-of x-on-behalf-of x-redmine-switch-user'),
  ...entries(IDENTITY, 'x-client-cert x-client-dn x-client-verify x-arr-clientcert'),
  ...entries(IDENTITY, 'x-consumer-id x-consumer-custom-id x-consumer-username x-consumer-groups'),
  ...entries(IDENTITY, 'cf-access-jwt-assertion cf-access-authenticated-user-email'),
  ...entries(PART, 'range if-range request-range x-ms-range'),
]);

/** Kubernetes has `Impersonate-Extra-…`; the others are of what stands in front of servers and signs people, or machines, in. */
const FORBIDDEN_PREFIXES: readonly (readonly [prefix: string, why: string])[] = [
  ...entries(FRAMING, 'proxy- sec-websocket- x-kz-'),
  ...entries(ROUTING, 'x-forwarded- x-envoy-'),
  ...entries(PLACE, 'x-original- x-rewrite-'),
  ...entries(IDENTITY, 'impersonate- x-impersonate- remote- x-remote- x-webauth- x-auth-request- x-authenticated- x-authentik-'),
  ...entries(IDENTITY, 'x-pomerium- x-ms-client-principal x-goog-authenticated- x-goog-iap- x-amzn-oidc- x-amzn-mtls- ssl-client- x-ssl-'),
];

function entries(why: string, names: string): readonly (readonly [string, string])[] {
  return names.split(' ').map((name) => [name, why]);
}

function checkField(name: string, value: string): void {
  if (!TOKEN.test(name)) throw new ServerFailure('header-forbidden', `${JSON.stringify(name.slice(0, 64))} is not the name of a header`);
  if (!VALUE.test(value)) {
    throw new ServerFailure(
      'header-forbidden',
      `header ${name} has a value with a line end, a control character or a character beyond latin1`,
    );
  }
  const why = whyForbidden(keyOf(name));
  if (why !== undefined) throw notToBeSet(name, why);
}

function whyForbidden(key: string): string | undefined {
  return FORBIDDEN.get(key) ?? FORBIDDEN_PREFIXES.find(([prefix]) => key.startsWith(prefix))?.[1];
}

function notToBeSet(name: string, why: string): ServerFailure {
  return new ServerFailure('header-forbidden', `header ${name} may not be set: ${why}`);
}
