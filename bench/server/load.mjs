// The load generator, a process of its own: `node load.mjs` obeys one JSON command a line and answers each with one. HTTP/1.1, connections that
// stay open, and no request on one before the answer to the last: closed loop, or, with `rate`, as many a second as that says.
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { ResponseReader } from '../proxy/response-reader.mjs';

/** @typedef {{ port: number, requests: import('./lab.mjs').Request[], connections: number, seconds?: number, count?: number, rate?: number, expect: string }} Load */
/** @typedef {{ free: Connection[], next: () => Buffer, record: (ms: number) => void, expect: Buffer }} Shared */

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => void obey(line).catch(fail));
lines.once('close', () => process.exit(0));

/** @param {string} line */
async function obey(line) {
  const command = /** @type {Load} */ (JSON.parse(line));
  console.log(JSON.stringify(await load(command)));
}

/** @param {unknown} error */
function fail(error) {
  console.error(error);
  process.exit(1);
}

/** @param {Load} command */
async function load(command) {
  const { port, connections, requests, expect } = command;
  const times = new Times();
  const texts = requests.map((request) => textOf(request, port));
  let turn = 0;
  /** @type {Shared} */
  const shared = {
    free: [],
    next: () => texts[turn++ % texts.length] ?? Buffer.alloc(0),
    record: (ms) => {
      times.put(ms);
    },
    expect: Buffer.from(expect),
  };
  const all = await Promise.all(Array.from({ length: connections }, () => Connection.open(port, shared)));
  const begin = performance.now();
  const missed = command.rate === undefined ? await closedLoop(all, command) : await paced(all, shared, { ...command, rate: command.rate });
  const took = (performance.now() - begin) / 1000;
  for (const connection of all) connection.end();
  return { ...times.summary(), rate: times.count / took, missed };
}

/**
 * @param {import('./lab.mjs').Request} request
 * @param {number} port
 */
function textOf({ method, path, headers, body }, port) {
  const all = { host: `127.0.0.1:${String(port)}`, ...headers, 'content-length': String(Buffer.byteLength(body)) };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${head.join('')}\r\n${body}`);
}

class Connection {
  #socket;
  #shared;
  #reader = new ResponseReader((piece) => {
    this.#isExpected ||= piece.includes(this.#shared.expect);
  });
  #isExpected = false;
  #since = 0;
  #isEnded = false;
  /** @type {(() => void) | undefined} */
  #answered;

  /**
   * @param {number} port
   * @param {Shared} shared
   * @returns {Promise<Connection>}
   */
  static open(port, shared) {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true });
      socket.once('error', reject).once('connect', () => {
        resolve(new Connection(socket, shared));
      });
    });
  }

  /**
   * @param {import('node:net').Socket} socket
   * @param {Shared} shared
   */
  constructor(socket, shared) {
    this.#socket = socket;
    this.#shared = shared;
    socket.removeAllListeners('error').on('error', fail);
    socket.on('close', () => {
      if (!this.#isEnded) fail(new Error('a connection was closed'));
    });
    socket.on('data', (/** @type {Buffer} */ chunk) => {
      this.#take(chunk);
    });
  }

  /**
   * @param {number} since from when on its time counts
   * @param {() => void} answered
   */
  send(since, answered) {
    this.#since = since;
    this.#answered = answered;
    this.#socket.write(this.#shared.next());
  }

  end() {
    this.#isEnded = true;
    this.#socket.destroy();
  }

  /** @param {Buffer} chunk */
  #take(chunk) {
    if (!this.#reader.push(chunk)) return;
    if (this.#reader.status !== 200 || !this.#isExpected) {
      fail(new Error(`the answer was: ${chunk.toString('latin1')}`));
      return;
    }
    this.#isExpected = false;
    this.#shared.record(performance.now() - this.#since);
    this.#answered?.();
  }
}

/**
 * Every connection asks again as soon as it has its answer.
 * @param {Connection[]} all
 * @param {Load} load
 */
async function closedLoop(all, { seconds = Infinity, count = Infinity }) {
  const end = performance.now() + seconds * 1000;
  let left = count;
  await Promise.all(
    all.map(
      (connection) =>
        new Promise((resolve) => {
          const again = () => {
            const now = performance.now();
            if (now >= end || left <= 0) {
              resolve(undefined);
              return;
            }
            left -= 1;
            connection.send(now, again);
          };
          again();
        }),
    ),
  );
  return 0;
}

/**
 * A request is due at its time, whatever became of those before it. Its time counts from then if it had to wait for a connection, so that a
 * server that stalls is not asked less for it; and from when it was sent if one was free: that this process woke up late is not the server's.
 * @param {Connection[]} all
 * @param {Shared} shared
 * @param {Load & { rate: number }} load
 * @returns {Promise<number>} how many had to wait
 */
function paced(all, { free }, { rate, seconds = 1 }) {
  const total = Math.round(rate * seconds);
  const begin = performance.now();
  free.push(...all);
  /** @type {number[]} */
  const waiting = [];
  let [due, answered, missed] = [0, 0, 0];
  return new Promise((resolve) => {
    const done = (/** @type {Connection} */ connection) => {
      answered += 1;
      if (answered === total) {
        clearInterval(timer);
        resolve(missed);
      }
      const since = waiting.shift();
      if (since === undefined) free.push(connection);
      else start(connection, since);
    };
    const start = (/** @type {Connection} */ connection, /** @type {number} */ since) => {
      connection.send(since, () => {
        done(connection);
      });
    };
    const timer = setInterval(() => {
      for (; due < total && begin + (due * 1000) / rate <= performance.now(); due++) {
        // Each in its turn, as many clients would.
        const connection = free.shift();
        if (connection !== undefined) {
          start(connection, performance.now());
          continue;
        }
        missed += 1;
        waiting.push(begin + (due * 1000) / rate);
      }
    }, 1);
  });
}

/** Every single one, in ms: no buckets that round. */
class Times {
  count = 0;
  #all = new Float64Array(1 << 16);

  /** @param {number} ms */
  put(ms) {
    if (this.count === this.#all.length) {
      const more = new Float64Array(this.#all.length * 2);
      more.set(this.#all);
      this.#all = more;
    }
    this.#all[this.count++] = ms;
  }

  summary() {
    const sorted = this.#all.subarray(0, this.count).sort();
    const at = (/** @type {number} */ part) => sorted[Math.max(0, Math.ceil(this.count * part) - 1)] ?? NaN;
    return { requests: this.count, p50: at(0.5), p99: at(0.99), worst: at(1) };
  }
}
