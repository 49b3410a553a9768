// One connection of the load generator: CONNECT through the proxy, or straight there, then TLS with the certificate verified.
import { connect as connectPlain } from 'node:net';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { ResponseReader } from './response-reader.mjs';

/** @typedef {import('node:tls').TLSSocket} TLSSocket */
/** @typedef {{ proxy: URL | undefined, context: import('node:tls').SecureContext }} Way */

/**
 * @param {string | undefined} proxy
 * @param {string} ca PEM
 * @returns {Way}
 */
export function way(proxy, ca) {
  return { proxy: proxy === undefined ? undefined : new URL(proxy), context: createSecureContext({ ca }) };
}

/**
 * @param {Way} way
 * @param {string} host
 * @param {number} port
 * @returns {Promise<TLSSocket>}
 */
export async function open({ proxy, context }, host, port) {
  const plain =
    proxy === undefined ? connectPlain({ host: '127.0.0.1', port, noDelay: true }) : await tunnel(proxy, `${host}:${String(port)}`);
  const socket = connectTls({ socket: plain, servername: host, secureContext: context, ALPNProtocols: ['http/1.1'] });
  await new Promise((resolve, reject) => {
    plain.once('error', reject);
    socket.once('secureConnect', resolve).once('error', reject);
  });
  socket.removeAllListeners('error').on('error', fail);
  return socket;
}

/**
 * @param {URL} proxy
 * @param {string} authority
 * @returns {Promise<import('node:net').Socket>}
 */
function tunnel(proxy, authority) {
  const login =
    proxy.username === ''
      ? ''
      : `Proxy-Authorization: Basic ${Buffer.from(`${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`).toString('base64')}\r\n`;
  return new Promise((resolve, reject) => {
    const socket = connectPlain({ host: proxy.hostname, port: Number(proxy.port), noDelay: true });
    socket.once('error', reject);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${login}\r\n`);
    let head = '';
    const onData = (/** @type {Buffer} */ chunk) => {
      head += chunk.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      socket.off('data', onData).pause();
      if (head.startsWith('HTTP/1.1 200')) resolve(socket);
      else reject(new Error(`CONNECT: ${head.slice(0, head.indexOf('\r\n'))}`));
    };
    socket.on('data', onData);
  });
}

/**
 * One request and its response.
 * @param {TLSSocket} socket
 * @param {Buffer | (() => Promise<void>)} request bytes, or what writes them
 * @param {(piece: Buffer) => void} [onBody]
 * @returns {Promise<ResponseReader>}
 */
export function exchange(socket, request, onBody) {
  return new Promise((resolve, reject) => {
    const reader = new ResponseReader(onBody);
    const onData = (/** @type {Buffer} */ chunk) => {
      if (!reader.push(chunk)) return;
      off();
      if (reader.status === 200) resolve(reader);
      else reject(new Error(`the answer was: ${reader.head}`));
    };
    const onClose = () => {
      off();
      reject(new Error('closed before the response was complete'));
    };
    const off = () => socket.off('data', onData).off('close', onClose);
    socket.on('data', onData).on('close', onClose);
    if (typeof request === 'function') request().catch(reject);
    else socket.write(request);
  });
}

/** @param {Error} error */
export function fail(error) {
  console.error(error);
  process.exit(1);
}
