// http-mitm-proxy 1.x doing what kz does: swaps the token in Authorization, looks for the values in responses as they stream. It gets kz's
// own matcher, so that what is compared is the proxying. `node http-mitm-proxy.mjs SETTINGS.json`, see engines.mjs.
import { Agent } from 'node:https';
import { loadPeer, maskOf, settings } from './peer.mjs';

/** @typedef {(error?: unknown, chunk?: Buffer) => void} Next */
/**
 * @typedef {object} Context
 * @property {{ headers: Record<string, string | undefined> }} proxyToServerRequestOptions
 * @property {{ headers: Record<string, unknown> }} serverToProxyResponse
 * @property {import('node:http').ServerResponse} proxyToClientResponse
 * @property {(step: (context: Context, next: Next) => void) => void} onResponse
 * @property {(step: (context: Context, chunk: Buffer, next: Next) => void) => void} onResponseData
 * @property {(step: (context: Context, next: Next) => void) => void} onResponseEnd
 */
/**
 * @typedef {object} MitmProxy
 * @property {(step: (context: unknown, error: unknown) => void) => void} onError
 * @property {(step: (context: Context, next: Next) => void) => void} onRequest
 * @property {(options: Record<string, unknown>, done: () => void) => void} listen
 */

const { Proxy } = /** @type {{ Proxy: new () => MitmProxy }} */ (loadPeer('http-mitm-proxy'));
const mask = maskOf();
// It reports to standard output, which is ours.
console.debug = console.info = () => undefined;

const proxy = new Proxy();
proxy.onError((_context, error) => {
  console.error(error);
});
proxy.onRequest((context, callback) => {
  const { headers } = context.proxyToServerRequestOptions;
  if (headers.authorization !== undefined) headers.authorization = mask.swap(headers.authorization);
  const rewriter = mask.stream();
  context.onResponse((_context, next) => {
    mask.fields(context.serverToProxyResponse.headers);
    next();
  });
  context.onResponseData((_context, chunk, next) => {
    next(null, rewriter.push(chunk));
  });
  context.onResponseEnd((_context, next) => {
    const rest = rewriter.end();
    if (rest.length > 0) context.proxyToClientResponse.write(rest);
    next();
  });
  callback();
});
const options = {
  host: '127.0.0.1',
  port: settings.port,
  sslCaDir: settings.folder,
  keepAlive: true,
  httpsAgent: new Agent({ keepAlive: true, ca: settings.upstreamCa }),
};
proxy.listen(options, () => {
  console.log('listening');
});
