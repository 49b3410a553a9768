// What is compared: the same blind run with and without isolation. Starts differ in where their secret comes from, ways in how the child goes.
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Program } from '../proxy/processes.mjs';

/**
 * @typedef {object} Lab what all of them share
 * @property {string} folder
 * @property {string} project where the child starts
 * @property {string} kz the program
 * @property {Record<string, string>} env nothing of this machine's own
 * @property {{ name: string, token: string, value: string }[]} secrets
 * @property {{ ca: string, port: number }} upstream
 */
/** @typedef {'off' | 'strict'} Mode */
/** @typedef {{ name: string, mode: Mode, source: 'env' | 'slow' }} Start */
/** @typedef {{ name: string, mode: Mode, how: 'proxy' | 'name' }} Way */

const HOST = 'api.bench.test';
export const FETCH_MS = 150;

/** With `env` there is nothing to wait for meanwhile, so the isolation is built in sequence. */
export const STARTS = /** @type {const} */ ([
  { name: 'in sequence, off', mode: 'off', source: 'env' },
  { name: 'in sequence, strict', mode: 'strict', source: 'env' },
  { name: 'beside a fetch, off', mode: 'off', source: 'slow' },
  { name: 'beside a fetch, strict', mode: 'strict', source: 'slow' },
]);

export const WAYS = /** @type {const} */ ([
  { name: 'off, proxy variables', mode: 'off', how: 'proxy' },
  { name: 'strict, proxy variables', mode: 'strict', how: 'proxy' },
  { name: 'strict, transparent', mode: 'strict', how: 'name' },
]);

/**
 * The child says when it runs.
 * @param {Lab} lab
 * @param {Start} start
 */
export function startOf(lab, { mode, source }) {
  const { name, value } = lab.secrets[0] ?? { name: '', value: '' };
  const program = join(lab.folder, 'slow-provider');
  writeFileSync(program, `#!/bin/sh\nsleep ${String(FETCH_MS / 1000)}\necho "$SOURCE_${name}"\n`);
  chmodSync(program, 0o700);
  const from = source === 'env' ? `provider = "env", ref = "SOURCE_${name}"` : 'provider = "exec", ref = "it"';
  const options = source === 'env' ? [] : ['[providers.exec]', `command = ["${program}"]`];
  const path = place(lab, source, ['[secrets]', `${name} = { ${from}, hosts = ["${HOST}"] }`, ...options]);
  const command = [process.execPath, lab.kz, ...words(mode, path), 'date', '+%s%N'];
  return { command, env: { ...lab.env, [`SOURCE_${name}`]: value } };
}

/**
 * A blind run whose child is the load generator.
 * @param {Lab} lab
 * @param {Way} way
 */
export function sessionOf(lab, { mode, how }) {
  const { port, ca } = lab.upstream;
  const rule = ['[[blind.connections]]', 'allow = true', `host = "${HOST}"`, `port = ${String(port)}`];
  const secrets = lab.secrets.map(({ name }) => `${name} = { provider = "env", ref = "SOURCE_${name}" }`);
  const path = place(lab, 'traffic', ['[secrets]', ...secrets, '[blind]', `upstream_ca = "${ca}"`, ...rule]);
  const resolve = fileURLToPath(new URL('../proxy/resolve.cjs', import.meta.url));
  const load = fileURLToPath(new URL('load.mjs', import.meta.url));
  // What the child's Node would load costs the load generator, not kz.
  const child = ['/usr/bin/env', '-u', 'NODE_OPTIONS', '-u', 'NODE_EXTRA_CA_CERTS', process.execPath, load, HOST, String(port), how];
  const values = lab.secrets.map(({ name, value }) => [`SOURCE_${name}`, value]);
  return new Program({
    command: [process.execPath, '--require', resolve, lab.kz, ...words(mode, path), ...child],
    env: { ...lab.env, ...Object.fromEntries(values) },
    cwd: lab.project,
  });
}

/**
 * @param {Mode} mode
 * @param {string} config
 */
function words(mode, config) {
  return ['run', '--blind', '--sandbox', mode, '-q', '-c', config, '--'];
}

/**
 * @param {Lab} lab
 * @param {string} name
 * @param {string[]} lines
 */
function place(lab, name, lines) {
  const path = join(lab.project, `${name}.toml`);
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
  return path;
}
