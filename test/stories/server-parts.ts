// What the stories of `kz server` serve: bundles' policies, resources and backends, and the API that they lead to.
import type http from 'node:http';
import { bodyOf } from './upstream.ts';

export type Json = Readonly<Record<string, unknown>>;

export const HOSTS = { hosts: ['api.example'], methods: ['GET', 'POST'] };

export const POLICIES: readonly Json[] = [
  { name: 'no-prod', rule: "ref.matches('prod/**')", effect: 'deny' },
  { name: 'acme', rule: "org == 'acme'", effect: 'allow' },
];

export const RESOURCES: readonly Json[] = [
  { ref: 'github/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS },
  { ref: 'github/raw', resolver: 'gh', from: 'GITHUB_PAT', mode: 'direct' },
  { ref: 'github/short', resolver: 'gh', from: 'GITHUB_PAT', mode: 'short_lived', ...HOSTS },
  { ref: 'prod/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS },
];

export const BACKENDS: Json = { gh: { type: 'env_file', path: './secrets.env' } };

export const BIG = 100 * 1024 * 1024;

/** An API that gives back what it gets, its credential too; and what no API should do. */
export function serveApi(request: http.IncomingMessage, response: http.ServerResponse): void {
  const [path] = (request.url ?? '').split('?', 1);
  const credential = request.headers.authorization ?? 'nothing';
  switch (path) {
    case '/big':
      pour(response, BIG);
      return;
    case '/binary':
      response.writeHead(200, { 'content-type': 'image/png' }).end(Buffer.from([0x89, 0x50, 0, 0xff, 0xfe, 1]));
      return;
    case '/redirect':
      response.writeHead(302, { location: 'https://elsewhere.example/next', 'set-cookie': 'session=1' }).end();
      return;
    case '/hang':
      return;
    default:
      void echo(request, response, credential);
  }
}

async function echo(request: http.IncomingMessage, response: http.ServerResponse, credential: string): Promise<void> {
  const body = await bodyOf(request);
  const { url, method } = request;
  const encoded = Buffer.from(credential).toString('base64');
  response.writeHead(200, { 'content-type': 'application/json', 'x-echo': credential });
  response.end(JSON.stringify({ url, method, credential, encoded, body, escaped: encodeURIComponent(credential) }));
}

/** As fast as it is read, and no further. */
function pour(response: http.ServerResponse, bytes: number): void {
  let left = bytes;
  const chunk = Buffer.alloc(65_536, 'x');
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': bytes });
  const more = (): void => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      if (!response.write(chunk)) return;
    }
    response.end();
  };
  response.on('drain', more);
  more();
}

/** One resource of every kind, and rules of every kind; `localPort` is that of an upstream on localhost. */
export function everyKind(localPort: number): Readonly<Record<'policies' | 'resources', readonly Json[]>> {
  const port = String(localPort);
  return {
    policies: [
      { name: 'no-prod', rule: "ref.matches('prod/**')", effect: 'deny' },
      { name: 'errs', rule: "claims.nothing.of.this == 'x'", effect: 'allow' },
      { name: 'regex', rule: "'bomb' in context && string(context.bomb).matches('^(a+)+$')", effect: 'allow' },
      { name: 'readers', rule: "org == 'readers' && request.method == 'GET'", effect: 'allow' },
      { name: 'path', rule: "org == 'path' && request.path.startsWith('/public/')", effect: 'allow' },
      { name: 'acme', rule: "org == 'acme'", effect: 'allow' },
    ],
    resources: [
      { ref: 'github/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS },
      { ref: 'github/raw', resolver: 'gh', from: 'GITHUB_PAT', mode: 'direct', ...HOSTS },
      { ref: 'github/short', resolver: 'gh', from: 'GITHUB_PAT', mode: 'short_lived', ...HOSTS },
      { ref: 'github/none', resolver: 'gh', from: 'NOT_THERE', ...HOSTS },
      { ref: 'github/lines', resolver: 'gh', from: 'MULTI', ...HOSTS },
      { ref: 'paths/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS, paths: ['/public/**'] },
      { ref: 'local/pat', resolver: 'gh', from: 'GITHUB_PAT', hosts: [`localhost:${port}`], methods: ['GET'] },
      { ref: 'wild/pat', resolver: 'gh', from: 'GITHUB_PAT', hosts: ['*.a.localhost', '*.a.example'], methods: ['GET'] },
      { ref: 'query/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS, credential_location: 'query:key' },
      { ref: 'basic/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS, credential_location: 'basic:ci' },
      { ref: 'key/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS, credential_location: 'header:X-Api-Key:' },
      { ref: 'glob/*/pat', resolver: 'gh', from: '{1}_PAT', ...HOSTS },
      { ref: 'prod/pat', resolver: 'gh', from: 'GITHUB_PAT', ...HOSTS },
      { ref: 'prod/raw', resolver: 'gh', from: 'GITHUB_PAT', mode: 'direct' },
    ],
  };
}
