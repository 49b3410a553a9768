// What the two Node peers share: their settings, and kz's own masking, so that what differs is the proxying.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/**
 * @typedef {object} Settings
 * @property {number} port
 * @property {string} folder where the peer's CA is
 * @property {string} upstreamCa PEM
 * @property {string} require a file beside the `node_modules` that has the peer
 * @property {string} mask kz's masking, bundled
 * @property {{ name: string, token: string, value: string }[]} secrets
 */

export const settings = /** @type {Settings} */ (JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')));

// So that nothing is left when the benchmark is interrupted.
process.stdin.resume().once('end', () => process.exit(0));

/** @typedef {{ push(chunk: Buffer): Buffer, end(): Buffer }} Rewriter */
/** @typedef {{ text(text: string): string, stream(): Rewriter }} Remasker */
/** @typedef {{ Remasker: new (entries: unknown[]) => Remasker, Secret: new (value: string) => object }} Mask */

/**
 * @param {string} name
 * @returns {unknown}
 */
export function loadPeer(name) {
  return createRequire(settings.require)(name);
}

export function maskOf() {
  const { Remasker, Secret } = /** @type {Mask} */ (loadPeer(settings.mask));
  const entries = settings.secrets.map(({ name, token, value }) => ({ name, token, secret: new Secret(value) }));
  const remasker = new Remasker(entries);
  const values = new Map(settings.secrets.map(({ token, value }) => [token, value]));
  return {
    /** @param {string} text */
    swap: (text) => text.replace(/kz_masked_[0-9a-f]{32}/g, (token) => values.get(token) ?? token),
    stream: () => remasker.stream(),
    /** @param {Record<string, unknown>} headers */
    fields: (headers) => {
      for (const [name, value] of Object.entries(headers)) if (typeof value === 'string') headers[name] = remasker.text(value);
    },
  };
}
