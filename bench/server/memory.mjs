// What a server of kz holds after many requests. Nobody outside can make it collect its garbage, so the least of many readings counts: one of
// them comes soon after V8 did it by itself.
import { memoryOf } from '../proxy/processes.mjs';
import { kzRequests } from './lab.mjs';
import { LOGGED, startKz } from './subjects.mjs';

/** @typedef {{ after: number, rss: number, heap: number }} Reading bytes */

const READINGS = 40;
const RULES = 100;

/**
 * @param {import('./lab.mjs').Lab} lab
 * @param {{ marks: readonly number[], load: (command: object) => Promise<unknown> }} how `marks`: after how many requests it is read
 * @returns {Promise<Reading[]>}
 */
export async function memoryAfter(lab, { marks, load }) {
  const requests = await kzRequests(lab, { rules: RULES, mode: 'masked' });
  const server = await startKz(lab, RULES, LOGGED);
  /** @type {Reading[]} */
  const readings = [];
  let sent = 0;
  const ask = async (/** @type {number} */ count) => {
    await load({ port: server.port, requests, connections: 64, count, expect: 'KZ_TOK_' });
    sent += count;
  };
  try {
    for (const mark of marks) {
      // The readings are spread over the last tenth of what comes before the mark.
      const each = Math.max(1, Math.floor(mark / 10 / READINGS));
      await ask(mark - sent - each * READINGS);
      const least = { rss: Infinity, heap: Infinity };
      for (let count = 0; count < READINGS; count++) {
        await ask(each);
        least.heap = Math.min(least.heap, await heapOf(server.port));
        least.rss = Math.min(least.rss, memoryOf(server.pid).now * 2 ** 20);
      }
      readings.push({ after: mark, ...least });
    }
  } finally {
    await server.end();
  }
  return readings;
}

/** @param {number} port */
async function heapOf(port) {
  const response = await fetch(`http://127.0.0.1:${String(port)}/metrics`);
  const found = /^nodejs_heap_size_used_bytes (\S+)$/m.exec(await response.text())?.[1];
  if (found === undefined) throw new Error('/metrics does not say how large the heap is');
  return Number(found);
}
