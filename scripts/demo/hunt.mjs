// The last step of the demo: one program with and without a sandbox, in search of something to take.
import { copyFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {{ files: number, reached: boolean, seen: boolean }} Loot */

/**
 * @typedef {object} Stage
 * @property {(args: string[]) => Promise<{ stdout: string, stderr: string }>} kz
 * @property {string} project
 * @property {(title: string) => void} step
 * @property {(text: string) => void} show
 * @property {(claim: string, holds: boolean, evidence?: string) => void} check
 */

/** @param {Stage} stage */
export async function hunt({ kz, project, step, show, check }) {
  step('a program that goes hunting, first without a sandbox');
  copyFileSync(fileURLToPath(new URL('hunter.mjs', import.meta.url)), join(project, 'hunter.mjs'));
  let connections = 0;
  const service = createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  await once(service.listen(0, '127.0.0.1'), 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (service.address());
  try {
    const program = ['--', 'node', 'hunter.mjs', String(port), String(process.pid)];
    show('kz run --blind --sandbox off -- node hunter.mjs');
    const loose = await kz(['run', '--blind', '--sandbox', 'off', ...program]);
    const took = /** @type {Loot} */ (JSON.parse(loose.stdout));
    check(
      'it finds what is there',
      took.files > 0 && took.reached && connections === 1,
      'the store with its key, a service of this machine',
    );
    show('kz run --blind -- node hunter.mjs');
    const held = await kz(['run', '--blind', ...program]);
    const [, why] = /no sandbox \((.*?)\)/.exec(held.stderr) ?? [];
    if (why !== undefined) {
      show(`not shown on this machine: ${why}`);
      return;
    }
    const got = /** @type {Loot} */ (JSON.parse(held.stdout));
    check('in the sandbox nothing is', got.files === 0 && !got.reached && connections === 1, 'no store, no service');
    check('it sees no other process', process.platform !== 'linux' || (took.seen && !got.seen), 'not even who started it');
  } finally {
    service.close();
  }
}
