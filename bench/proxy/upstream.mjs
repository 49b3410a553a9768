// What all engines lead to: an HTTP/1.1 server on TLS that does as little as it can. `node upstream.mjs '{"key":…,"cert":…,"expect":…}'`
// prints the port it listens on. A request without the right Authorization gets a 401,
// so that an engine that does not do its work cannot look fast.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:tls';
import { bodyOf, CONTENT_TYPES } from './bodies.mjs';

/** @typedef {import('./bodies.mjs').Kind} Kind */
/** @typedef {{ socket: import('node:tls').TLSSocket, target: URL, head: string }} Asked */

const settings = /** @type {{ key: string, cert: string, expect: string }} */ (JSON.parse(process.argv[2] ?? ''));
const allowed = `Bearer ${settings.expect}\r\n`;
const small = reply(Buffer.from(JSON.stringify({ id: 1, text: 'x'.repeat(302 - 18) })));
const received = reply(Buffer.from('{}'));
const SSE_EVENTS = 10;
const SSE_EVERY_MS = 50;

/** @type {Map<string, ReturnType<typeof bodyOf>>} */
const bodies = new Map();
const options = { key: readFileSync(settings.key), cert: readFileSync(settings.cert), ALPNProtocols: ['http/1.1'], noDelay: true };

const server = createServer(options, serve).listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify(server.address()));
});
process.stdin.resume().once('end', () => process.exit(0));

/** @param {Buffer} body */
function reply(body, type = 'application/json') {
  return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${String(body.length)}\r\n\r\n`), body]);
}

/** @param {import('node:tls').TLSSocket} socket */
function serve(socket) {
  /** @type {Buffer | undefined} */
  let before;
  /** @type {{ push(chunk: Buffer): boolean } | undefined} */
  let upload;
  socket.on('error', () => undefined);
  socket.on('data', (/** @type {Buffer} */ chunk) => {
    let at = 0;
    if (upload === undefined) {
      const all = before === undefined ? chunk : Buffer.concat([before, chunk]);
      const end = all.indexOf('\r\n\r\n');
      if (end < 0) {
        before = all;
        return;
      }
      before = undefined;
      const head = all.toString('latin1', 0, end + 2);
      upload = answer(socket, head);
      chunk = all;
      at = end + 4;
    }
    if (upload?.push(at === 0 ? chunk : chunk.subarray(at)) === true) {
      upload = undefined;
      socket.write(received);
    }
  });
}

/**
 * Returns a counter for the body that follows.
 * @param {import('node:tls').TLSSocket} socket
 * @param {string} head
 */
function answer(socket, head) {
  if (!head.includes(allowed)) {
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n');
    return undefined;
  }
  if (head.startsWith('GET /small ')) {
    socket.write(small);
    return undefined;
  }
  const target = new URL(head.slice(head.indexOf(' ') + 1, head.indexOf(' HTTP/1.1')), 'https://localhost');
  const asked = { socket, target, head };
  if (head.startsWith('POST ')) return uploadCounter(head);
  if (target.pathname === '/down') void down(asked);
  else if (target.pathname === '/events') events(asked);
  else socket.write(reply(Buffer.from(head), 'text/plain'));
  return undefined;
}

/** @param {Asked} asked */
async function down({ socket, target }) {
  const kind = /** @type {Kind} */ (target.searchParams.get('kind'));
  const total = Number(target.searchParams.get('bytes'));
  const chunked = target.searchParams.has('chunked');
  const key = `${kind} ${String(total)}`;
  const body = bodies.get(key) ?? bodyOf(kind, total);
  bodies.set(key, body);
  const framing = chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${String(total)}`;
  socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${CONTENT_TYPES[kind]}\r\n${framing}\r\n\r\n`);
  const framed = (/** @type {Buffer} */ piece) => (chunked ? inChunk(piece) : piece);
  const block = framed(body.block);
  if (body.first.length > 0) socket.write(framed(body.first));
  for (let sent = 0; sent < body.count; sent++) if (!socket.write(block) && !(await drained(socket))) return;
  if (body.last.length > 0) socket.write(framed(body.last));
  if (chunked) socket.write('0\r\n\r\n');
}

/** @param {Buffer} piece */
function inChunk(piece) {
  return Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]);
}

/**
 * False when the other side is gone.
 * @param {import('node:tls').TLSSocket} socket
 * @returns {Promise<boolean>}
 */
function drained(socket) {
  return new Promise((resolve) => {
    const end = (/** @type {boolean} */ open) => {
      socket.off('drain', onDrain).off('close', onClose);
      resolve(open);
    };
    const onDrain = () => {
      end(true);
    };
    const onClose = () => {
      end(false);
    };
    socket.on('drain', onDrain).on('close', onClose);
    if (socket.destroyed) end(false);
  });
}

/**
 * Each event holds the time of its own write: all processes of a machine share this clock.
 * @param {Asked} asked
 */
function events({ socket }) {
  socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n');
  let sent = 0;
  const send = () => {
    if (socket.destroyed) return;
    sent++;
    socket.write(inChunk(Buffer.from(`data: ${String(process.hrtime.bigint())}\n\n`)));
    if (sent < SSE_EVENTS) setTimeout(send, SSE_EVERY_MS);
    else socket.write('0\r\n\r\n');
  };
  send();
}

/** @param {string} head */
function uploadCounter(head) {
  const length = /\r\ncontent-length: *(\d+)/i.exec(head);
  let left = length === null ? Infinity : Number(length[1]);
  const last = Buffer.from('\r\n0\r\n\r\n');
  /** @type {Buffer} */
  let tail = Buffer.alloc(0);
  return {
    push(/** @type {Buffer} */ chunk) {
      left -= chunk.length;
      if (length !== null) return left <= 0;
      // Chunked: the last chunk is the empty one. No block of ours ends in the bytes of one.
      tail = chunk.length >= last.length ? chunk.subarray(-last.length) : Buffer.concat([tail, chunk]).subarray(-last.length);
      return tail.equals(last);
    },
  };
}
