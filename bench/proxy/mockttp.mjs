// mockttp doing what kz does, with its callbacks: they get whole bodies, it has none for streams. It gets kz's own matcher.
// `node mockttp.mjs SETTINGS.json`, see engines.mjs. The upstream's CA is in NODE_EXTRA_CA_CERTS: its own option for that costs a lot a request.
import { join } from 'node:path';
import { loadPeer, maskOf, settings } from './peer.mjs';

/** @typedef {Record<string, string | undefined>} Headers */
/**
 * @typedef {object} Callbacks
 * @property {(request: { headers: Headers }) => { headers?: Headers }} beforeRequest
 * @property {(response: { headers: Headers, body: { buffer: Buffer } }) => { headers?: Headers, rawBody?: Buffer }} beforeResponse
 */
/**
 * @typedef {object} Mockttp
 * @property {() => { thenPassThrough: (callbacks: Callbacks) => Promise<unknown> }} forAnyRequest
 * @property {(port: number) => Promise<void>} start
 */

const { getLocal } = /** @type {{ getLocal: (options: Record<string, unknown>) => Mockttp }} */ (loadPeer('mockttp'));
const mask = maskOf();

const https = { keyPath: join(settings.folder, 'ca.key'), certPath: join(settings.folder, 'ca.pem') };
const server = getLocal({ https, recordTraffic: false });
await server.forAnyRequest().thenPassThrough({
  beforeRequest: ({ headers }) => {
    const { authorization } = headers;
    return authorization === undefined ? {} : { headers: { ...headers, authorization: mask.swap(authorization) } };
  },
  beforeResponse: ({ headers, body }) => {
    mask.fields(headers);
    const rewriter = mask.stream();
    const bytes = rewriter.push(body.buffer);
    const rest = rewriter.end();
    if (bytes === body.buffer) return { headers };
    const changed = Buffer.concat([bytes, rest]);
    return { headers: { ...headers, 'content-length': String(changed.length) }, rawBody: changed };
  },
});
await server.start(settings.port);
console.log('listening');
