// The load generator: a process that obeys one JSON command a line and answers each with one. Where it goes is in its environment, as a
// blind run sets it: HTTPS_PROXY, SSL_CERT_FILE, SECRET_1. Its arguments are the ports of the two upstreams.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { bodyOf, CONTENT_TYPES } from './bodies.mjs';
import { exchange, fail, open, way } from './client.mjs';
import { ResponseReader } from './response-reader.mjs';

/** @typedef {import('node:tls').TLSSocket} TLSSocket */
/** @typedef {import('./bodies.mjs').Kind} Kind */
/** @typedef {{ kind: Kind, bytes: number, chunked: boolean }} Body */

const [port, portOfOthers] = process.argv.slice(2).map(Number);
const authorization = `Authorization: Bearer ${process.env.SECRET_1 ?? ''}\r\n`;
const there = way(process.env.HTTPS_PROXY, readFileSync(process.env.SSL_CERT_FILE ?? '', 'utf8'));
const HEADERS = 'User-Agent: load\r\nAccept: */*\r\n';

/** @type {Record<string, (command: any) => unknown>} */
const COMMANDS = { environment, echo, small, down, up, stall, events, hosts, watch, watched };

/** @type {{ stop: boolean, done: Promise<unknown>, worst: number, requests: number } | undefined} */
let watching;
/** @type {TLSSocket | undefined} */
let kept;

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => void obey(line).catch(fail));
lines.once('close', () => process.exit(0));

/** @param {string} line */
async function obey(line) {
  const command = /** @type {{ do: string }} */ (JSON.parse(line));
  console.log(JSON.stringify((await COMMANDS[command.do]?.(command)) ?? {}));
}

function environment() {
  const { HTTPS_PROXY, SSL_CERT_FILE, SECRET_1 } = process.env;
  return { parent: process.ppid, env: { HTTPS_PROXY, SSL_CERT_FILE, SECRET_1 } };
}

/**
 * @param {string} path
 * @param {string} [more] further headers, with their line ends
 */
function get(path, more = '', host = 'localhost', at = port) {
  return Buffer.from(
    `${more === '' ? 'GET' : 'POST'} ${path} HTTP/1.1\r\nHost: ${host}:${String(at)}\r\n${authorization}${HEADERS}${more}\r\n`,
  );
}

function connect() {
  return open(there, 'localhost', port ?? 0);
}

/** The request as the upstream got it, as the child sees it: the swap and the way back in one. */
async function echo() {
  const socket = await connect();
  const pieces = /** @type {Buffer[]} */ ([]);
  await exchange(socket, get('/echo'), (piece) => pieces.push(piece));
  socket.destroy();
  return { text: Buffer.concat(pieces).toString('latin1'), token: process.env.SECRET_1 };
}

/**
 * Every connection asks again as soon as it has its answer. Latencies in ms.
 * @param {{ connections: number, seconds: number }} command
 */
async function small({ connections, seconds }) {
  const request = get('/small');
  const sockets = await Promise.all(Array.from({ length: connections }, connect));
  const times = /** @type {number[]} */ ([]);
  const begin = performance.now();
  const end = begin + seconds * 1000;
  await Promise.all(sockets.map((socket) => again(socket, request, { end, times })));
  const took = (performance.now() - begin) / 1000;
  for (const socket of sockets) socket.destroy();
  times.sort((a, b) => a - b);
  const at = (/** @type {number} */ part) => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0;
  return { requests: times.length, rate: times.length / took, p50: at(0.5), p99: at(0.99) };
}

/**
 * @param {TLSSocket} socket
 * @param {Buffer} request
 * @param {{ end: number, times: number[] }} run
 * @returns {Promise<void>}
 */
function again(socket, request, { end, times }) {
  return new Promise((resolve) => {
    const reader = new ResponseReader();
    let sent = performance.now();
    socket.on('data', (/** @type {Buffer} */ chunk) => {
      if (!reader.push(chunk)) return;
      if (reader.status !== 200) fail(new Error(`the answer was: ${reader.head}`));
      const now = performance.now();
      times.push(now - sent);
      if (now >= end) {
        resolve();
        return;
      }
      sent = now;
      socket.write(request);
    });
    socket.on('close', () => {
      if (performance.now() < end) fail(new Error('a connection was closed'));
    });
    socket.write(request);
  });
}

/** @param {Body} body */
function pathOf({ kind, bytes, chunked }) {
  return `/down?kind=${kind}&bytes=${String(bytes)}${chunked ? '&chunked' : ''}`;
}

/** @param {Body} body */
async function down(body) {
  const socket = await connect();
  const begin = performance.now();
  const { bytes } = await exchange(socket, get(pathOf(body)));
  const seconds = (performance.now() - begin) / 1000;
  socket.destroy();
  if (bytes !== body.bytes) throw new Error(`${String(bytes)} bytes came instead of ${String(body.bytes)}`);
  return { seconds };
}

/** @param {Body} body */
async function up({ kind, bytes, chunked }) {
  const socket = await connect();
  const { first, block, count, last } = bodyOf(kind, bytes);
  const framed = (/** @type {Buffer} */ piece) =>
    chunked ? Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]) : piece;
  const framing = chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${String(bytes)}`;
  const head = get('/up', `Content-Type: ${CONTENT_TYPES[kind]}\r\n${framing}\r\n`);
  const piece = framed(block);
  const begin = performance.now();
  await exchange(socket, async () => {
    socket.write(head);
    if (first.length > 0) socket.write(framed(first));
    for (let sent = 0; sent < count; sent++) if (!socket.write(piece)) await new Promise((resolve) => socket.once('drain', resolve));
    if (last.length > 0) socket.write(framed(last));
    if (chunked) socket.write('0\r\n\r\n');
  });
  const seconds = (performance.now() - begin) / 1000;
  socket.destroy();
  return { seconds };
}

/**
 * Asks for a body, reads the start of it and then nothing more. The connection stays open until the process ends.
 * @param {Body} body
 */
async function stall(body) {
  const socket = await connect();
  kept = socket;
  socket.write(get(pathOf(body)));
  await new Promise((resolve) => socket.once('data', resolve));
  kept.pause();
}

/** From the write of each server-sent event to its arrival, in ms. */
async function events() {
  const socket = await connect();
  const delays = /** @type {number[]} */ ([]);
  await exchange(socket, get('/events'), (piece) => {
    const now = process.hrtime.bigint();
    for (const [, written = '0'] of piece.toString('latin1').matchAll(/^data: (\d+)$/gm)) delays.push(Number(now - BigInt(written)) / 1e6);
  });
  socket.destroy();
  return { delays };
}

/**
 * A first and a second connection to each host, from TCP to the end of the response; one host after the other, or all at once.
 * @param {{ hosts: string[], atOnce: boolean }} command
 */
async function hosts({ hosts: names, atOnce }) {
  const begin = performance.now();
  const first = /** @type {number[]} */ ([]);
  const later = /** @type {number[]} */ ([]);
  const ask = async (/** @type {string} */ host) => {
    const start = performance.now();
    const socket = await open(there, host, portOfOthers ?? 0);
    await exchange(socket, get('/small', '', host, portOfOthers));
    socket.destroy();
    return performance.now() - start;
  };
  if (atOnce) first.push(...(await Promise.all(names.map(ask))));
  else for (const host of names) first.push(await ask(host));
  const total = performance.now() - begin;
  for (const host of names) later.push(await ask(host));
  return { first, later, total };
}

/** Asks on one connection again and again until `watched`, which says how long the slowest answer took. */
async function watch() {
  const socket = await connect();
  const request = get('/small');
  const state = { stop: false, worst: 0, requests: 0, done: Promise.resolve() };
  const run = async () => {
    while (!state.stop) {
      const sent = performance.now();
      await exchange(socket, request);
      // The first answers come from a connection that is new.
      if (state.requests++ >= 20) state.worst = Math.max(state.worst, performance.now() - sent);
      // Often enough to see a stall, seldom enough to leave the cores to the others.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    socket.destroy();
  };
  state.done = run();
  watching = state;
}

async function watched() {
  if (watching === undefined) throw new Error('nothing is watched');
  watching.stop = true;
  await watching.done;
  return { worst: watching.worst, requests: watching.requests };
}
