// varlock with its plugin for AWS, where both are installed, in bench/peers or in the folder that VARLOCK names: the same secrets out of the
// same Secrets Manager. Its telemetry is switched off.
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {import('./lab.mjs').Lab} Lab */
/** @typedef {import('./lab.mjs').Place} Place */

const { VARLOCK = fileURLToPath(new URL('../peers', import.meta.url)) } = process.env;
const modules = join(VARLOCK, 'node_modules');
const plugin = '@varlock/aws-secrets-plugin';

/** Of the right form: varlock looks at that, the servers look at nothing. */
const KEYS = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLEEXAMPLE12', AWS_SECRET_ACCESS_KEY: 'n'.repeat(40) };

/** Undefined when they are not installed. */
export function varlock() {
  if (![plugin, 'varlock'].every((name) => existsSync(join(modules, name)))) return undefined;
  const command = [process.execPath, join(modules, 'varlock/bin/cli.js'), 'run', '--'];
  return { label: `varlock ${versionOf('varlock')}, plugin ${versionOf(plugin)}`, command };
}

/**
 * A folder with a schema that names the first secrets, and the plugin.
 * @param {Lab} lab
 * @param {{ count: number, endpoint: string, way: string }} how
 * @returns {Place}
 */
export function placeOfVarlock(lab, { count, endpoint, way }) {
  const names = [...lab.secrets.keys()].slice(0, count);
  const folder = join('places', 'varlock', `${String(count)}-${way}`);
  const schema = [
    `# @plugin(${plugin})`,
    '# @initAws(region=eu-west-1, accessKeyId=$AWS_ACCESS_KEY_ID, secretAccessKey=$AWS_SECRET_ACCESS_KEY)',
    '# @defaultRequired=true @defaultSensitive=true',
    '# ---',
    ...['# @type=awsAccessKey', 'AWS_ACCESS_KEY_ID=', '# @type=awsSecretKey', 'AWS_SECRET_ACCESS_KEY='],
    ...names.map((name) => `${name}=awsSecret("bench/${name}")`),
  ];
  lab.write(join(folder, '.env.schema'), `${schema.join('\n')}\n`);
  lab.write(join(folder, 'package.json'), JSON.stringify({ dependencies: { [plugin]: versionOf(plugin) } }));
  const here = join(lab.folder, folder);
  symlinkSync(modules, join(here, 'node_modules'));
  const env = { ...KEYS, AWS_ENDPOINT_URL: endpoint, VARLOCK_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };
  return { folder: here, env };
}

/** @param {string} name */
function versionOf(name) {
  const about = /** @type {{ version: string }} */ (JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8')));
  return about.version;
}
