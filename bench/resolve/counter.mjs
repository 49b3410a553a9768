// An HTTP server that passes every request on, counts it and holds it up: what a provider asks, how much of it at once, and how much of it
// one after the other. The delay stands for the way to a server that is not on this machine; without one, loopback hides all widths.
import { once } from 'node:events';
import { Agent, createServer, request as send } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {{ requests: number, logins: number, atOnce: number, inSequence: number }} Counts */

/** Of the response that is passed on: it is complete, and its length is known. */
const NOT_PASSED_ON = ['connection', 'keep-alive', 'transfer-encoding', 'content-length'];

export class Counter {
  /** Does this request ask for something else than secrets? */
  #isLogin;
  #upstream;
  #delayMs;
  #agent = new Agent({ keepAlive: true });
  #server = createServer((request, response) => {
    this.#pass(request, response).catch(() => response.destroy());
  });
  #open = 0;
  #longest = 0;
  /** @type {Counts} */
  #counts = { requests: 0, logins: 0, atOnce: 0, inSequence: 0 };

  /** @param {{ upstream: string, delayMs: number, isLogin: (request: IncomingMessage) => boolean }} options */
  constructor({ upstream, delayMs, isLogin }) {
    this.#upstream = new URL(upstream);
    this.#delayMs = delayMs;
    this.#isLogin = isLogin;
  }

  /** Its address. */
  async start() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    return `http://127.0.0.1:${String(typeof address === 'object' && address !== null ? address.port : 0)}`;
  }

  /** Since the last time. */
  take() {
    const counts = { ...this.#counts, inSequence: this.#longest };
    this.#counts = { requests: 0, logins: 0, atOnce: 0, inSequence: 0 };
    this.#longest = 0;
    return counts;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
    this.#agent.destroy();
  }

  /**
   * @param {IncomingMessage} request
   * @param {ServerResponse} response
   */
  async #pass(request, response) {
    this.#counts.requests++;
    if (this.#isLogin(request)) this.#counts.logins++;
    this.#counts.atOnce = Math.max(this.#counts.atOnce, ++this.#open);
    // One more than the longest row of requests that were answered before this one came.
    const place = this.#longest + 1;
    try {
      const body = await bytesOf(request);
      await wait(this.#delayMs);
      const { status, headers, content } = await this.#ask(request, body);
      response.writeHead(status, { ...headers, 'content-length': String(content.length) });
      // Before the answer leaves: what it sets off must not look as if it had been asked at once.
      this.#longest = Math.max(this.#longest, place);
      this.#open--;
      response.end(content);
    } catch (error) {
      this.#open--;
      throw error;
    }
  }

  /**
   * @param {IncomingMessage} request
   * @param {Buffer} body
   */
  async #ask({ method, url, headers }, body) {
    const asked = send(new URL(url ?? '/', this.#upstream), { method, headers, agent: this.#agent });
    asked.end(body);
    const [answer] = /** @type {[IncomingMessage]} */ (await once(asked, 'response'));
    const passed = Object.entries(answer.headers).filter(([name]) => !NOT_PASSED_ON.includes(name));
    return { status: answer.statusCode ?? 502, headers: Object.fromEntries(passed), content: await bytesOf(answer) };
  }
}

/** @param {IncomingMessage} message */
async function bytesOf(message) {
  /** @type {Buffer[]} */
  const chunks = [];
  message.on('data', (/** @type {Buffer} */ chunk) => chunks.push(chunk));
  await once(message, 'end');
  return Buffer.concat(chunks);
}
