// The header fields that a caller may add to a request with a credential. Refuses those that say who asks, which host, path or method is
// meant, where the message ends, and which part of the answer comes back.
import type { CredentialLocation } from '../../config/bundle.ts';
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

/** Throws header-forbidden for what stands where the credential goes. */
export function checkHeaders(fields: readonly Field[], location: CredentialLocation): void {
  const injected = injectedHeader(location);
  if (injected === undefined) return;
  const found = fields.find(([name]) => sameHeader(name, injected));
  if (found !== undefined) throw new ServerFailure('header-forbidden', `header ${found[0]} may not be set: kz puts the credential there`);
}

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

const ROUTING = 'it could lead the request to another host or path';
const FRAMING = 'it belongs to the connection, which is kz’s own';
const METHOD = 'servers take it for another method';
const IDENTITY = 'it could change for whom the request speaks';
const PART = 'a value that comes back in parts could not be found';

const FORBIDDEN = new Map([
  ...entries(FRAMING, 'content-length transfer-encoding connection keep-alive te trailer upgrade expect http2-settings max-forwards'),
  ...entries(
    ROUTING,
    'host forwarded x-forwarded x-host x-original-url x-rewrite-url x-http-host-override x-http-path-override x-middleware-subrequest',
  ),
  ...entries(METHOD, 'x-http-method x-http-method-override x-method-override x-http-verb-override'),
  ...entries(
    IDENTITY,
    'cookie cookie2 x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip fastly-client-ip client-ip',
  ),
  ...entries(IDENTITY, 'remote-user x-remote-user x-user x-webauth-user sudo on-behalf-of x-on-behalf-of x-redmine-switch-user'),
  ...entries(PART, 'range if-range request-range x-ms-range'),
]);

/** Kubernetes has `Impersonate-Extra-…`, proxies that sign people in have `X-Auth-Request-…`. */
const FORBIDDEN_PREFIXES: readonly (readonly [prefix: string, why: string])[] = [
  ['proxy-', FRAMING],
  ['sec-websocket-', FRAMING],
  ['x-forwarded-', ROUTING],
  ['x-original-', ROUTING],
  ['x-rewrite-', ROUTING],
  ['x-envoy-', ROUTING],
  ['impersonate-', IDENTITY],
  ['x-impersonate-', IDENTITY],
  ['x-remote-', IDENTITY],
  ['x-auth-request-', IDENTITY],
  ['x-kz-', FRAMING],
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
  const key = keyOf(name);
  const why = FORBIDDEN.get(key) ?? FORBIDDEN_PREFIXES.find(([prefix]) => key.startsWith(prefix))?.[1];
  if (why !== undefined) throw new ServerFailure('header-forbidden', `header ${name} may not be set: ${why}`);
}
