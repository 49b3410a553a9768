// The load generator, which is the blind child itself: it obeys one JSON command a line and answers each with one. `node load.mjs NAME PORT
// proxy|name`: through the proxy that the environment names, or as a client that knows of none, straight to the name.
import { readFileSync } from 'node:fs';
import { connect as connectPlain } from 'node:net';
import { createInterface } from 'node:readline';
import { connect as connectTls } from 'node:tls';
import { bodyOf, CONTENT_TYPES } from '../proxy/bodies.mjs';
import { exchange, fail, open, way } from '../proxy/client.mjs';
import { ResponseReader } from '../proxy/response-reader.mjs';

/** @typedef {import('node:tls').TLSSocket} TLSSocket */
/** @typedef {{ kind: import('../proxy/bodies.mjs').Kind, bytes: number }} Body */

const [host = '', portText, how] = process.argv.slice(2);
const port = Number(portText);
const token = process.env.SECRET_1 ?? '';
const there = way(process.env.HTTPS_PROXY, readFileSync(process.env.SSL_CERT_FILE ?? '', 'utf8'));

/** @type {Record<string, (command: any) => unknown>} */
const COMMANDS = { echo, small, down, up };

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => void obey(line).catch(fail));
lines.once('close', () => process.exit(0));

/** @param {string} line */
async function obey(line) {
  const command = /** @type {{ do: string }} */ (JSON.parse(line));
  console.log(JSON.stringify((await COMMANDS[command.do]?.(command)) ?? {}));
}

/** @returns {Promise<TLSSocket>} */
async function connect() {
  if (how === 'proxy') return open(there, host, port);
  const plain = connectPlain({ host, port, noDelay: true });
  const socket = connectTls({ socket: plain, servername: host, secureContext: there.context, ALPNProtocols: ['http/1.1'] });
  await new Promise((resolve, reject) => {
    plain.once('error', reject);
    socket.once('secureConnect', resolve).once('error', reject);
  });
  return socket.removeAllListeners('error').on('error', fail);
}

/**
 * @param {string} line method and path
 * @param {string} [more] further headers, with their line ends
 */
function request(line, more = '') {
  const authorization = `Authorization: Bearer ${token}\r\n`;
  return Buffer.from(`${line} HTTP/1.1\r\nHost: ${host}:${String(port)}\r\n${authorization}User-Agent: load\r\nAccept: */*\r\n${more}\r\n`);
}

/** The request as the upstream got it, as the child sees it; and whether the child is on a network of its own. */
async function echo() {
  const socket = await connect();
  const pieces = /** @type {Buffer[]} */ ([]);
  await exchange(socket, request('GET /echo'), (piece) => pieces.push(piece));
  socket.destroy();
  const interfaces = readFileSync('/proc/net/dev', 'utf8').matchAll(/^ *(\S+):/gm);
  return { text: Buffer.concat(pieces).toString('latin1'), token, interfaces: [...interfaces].map(([, name]) => name) };
}

/**
 * Every connection asks again as soon as it has its answer.
 * @param {{ connections: number, seconds: number }} command
 */
async function small({ connections, seconds }) {
  const sockets = await Promise.all(Array.from({ length: connections }, connect));
  const begin = performance.now();
  const counts = await Promise.all(sockets.map((socket) => again(socket, begin + seconds * 1000)));
  const took = (performance.now() - begin) / 1000;
  for (const socket of sockets) socket.destroy();
  return { rate: counts.reduce((sum, count) => sum + count, 0) / took };
}

/**
 * @param {TLSSocket} socket
 * @param {number} end
 * @returns {Promise<number>} how many requests
 */
function again(socket, end) {
  const asked = request('GET /small');
  return new Promise((resolve) => {
    const reader = new ResponseReader();
    let count = 0;
    socket.on('data', (/** @type {Buffer} */ chunk) => {
      if (!reader.push(chunk)) return;
      if (reader.status !== 200) fail(new Error(`the answer was: ${reader.head}`));
      count++;
      if (performance.now() >= end) resolve(count);
      else socket.write(asked);
    });
    socket.on('close', () => {
      if (performance.now() < end) fail(new Error('a connection was closed'));
    });
    socket.write(asked);
  });
}

/** @param {Body} body */
async function down({ kind, bytes }) {
  const socket = await connect();
  const begin = performance.now();
  const { bytes: came } = await exchange(socket, request(`GET /down?kind=${kind}&bytes=${String(bytes)}`));
  const seconds = (performance.now() - begin) / 1000;
  socket.destroy();
  if (came !== bytes) throw new Error(`${String(came)} bytes came instead of ${String(bytes)}`);
  return { seconds };
}

/** @param {Body} body */
async function up({ kind, bytes }) {
  const socket = await connect();
  const { first, block, count, last } = bodyOf(kind, bytes);
  const head = request('POST /up', `Content-Type: ${CONTENT_TYPES[kind]}\r\nContent-Length: ${String(bytes)}\r\n`);
  const begin = performance.now();
  await exchange(socket, async () => {
    socket.write(head);
    if (first.length > 0) socket.write(first);
    for (let sent = 0; sent < count; sent++) if (!socket.write(block)) await new Promise((resolve) => socket.once('drain', resolve));
    if (last.length > 0) socket.write(last);
  });
  const seconds = (performance.now() - begin) / 1000;
  socket.destroy();
  return { seconds };
}
