// Files of settings that may hold credentials as well: the program gets them without. What cannot be read, or is too large, is hidden whole.
import { isUtf8 } from 'node:buffer';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isReference, RANDOM_SHAPE, secretValueShape } from '../core/credential-shape.ts';
import { lookAt, systemPath, xdgFolder, type Machine } from './machine.ts';

export interface SettingsFile {
  /** Real. */
  readonly path: string;
  /** Undefined: it has to be hidden. */
  readonly contents: string | undefined;
}

/** Only those that hold credentials. The projects' folders have some of their own. */
export function settingsFiles(machine: Machine, projects: readonly string[], gitConfigs: readonly string[]): readonly SettingsFile[] {
  const found = new Map<string, string | undefined>();
  for (const [place, clean] of places(machine, projects, gitConfigs)) {
    const path = lookAt(place);
    if (path?.kind !== 'file' || found.has(path.path)) continue;
    const text = textOf(path.path);
    const cleaned = text === undefined ? undefined : clean(text);
    if (cleaned === undefined || cleaned !== text) found.set(path.path, cleaned);
  }
  return [...found].map(([path, contents]) => ({ path, contents }));
}

type Clean = (text: string) => string;

function places(machine: Machine, projects: readonly string[], gitConfigs: readonly string[]): (readonly [string, Clean])[] {
  const { env, homes } = machine;
  const config = xdgFolder(machine, 'CONFIG');
  const named = [env.npm_config_userconfig, env.NPM_CONFIG_USERCONFIG, env.npm_config_globalconfig, env.NPM_CONFIG_GLOBALCONFIG].flatMap(
    (path) => (path === undefined || path === '' ? [] : [path]),
  );
  const npm = [
    ...named,
    ...[...homes, ...projects].flatMap((folder) => ['.npmrc', '.yarnrc', '.bunfig.toml', 'bunfig.toml'].map((name) => `${folder}/${name}`)),
    ...[join(config, 'pnpm/rc'), ...['/etc/npmrc', '/usr/etc/npmrc', '/usr/local/etc/npmrc'].map((path) => systemPath(machine, path))],
  ];
  const pip = [env.PIP_CONFIG_FILE ?? '', join(config, 'pip/pip.conf'), join(config, 'uv/uv.toml'), systemPath(machine, '/etc/pip.conf')];
  const git = [join(config, 'git/config'), ...gitConfigs, systemPath(machine, '/etc/gitconfig')];
  return [
    ...npm.map((path) => [path, withoutLogins] as const),
    ...pip.filter((path) => path !== '').map((path) => [path, withoutLogins] as const),
    ...git.map((path) => [path, withoutLogins] as const),
    ...homes.flatMap((home) => Object.entries(AT_HOME).map(([name, clean]) => [`${home}/${name}`, clean] as const)),
    ...projects.map((folder) => [join(folder, '.yarnrc.yml'), withoutLogins] as const),
  ];
}

const AT_HOME: Readonly<Record<string, Clean>> = {
  '.gitconfig': withoutLogins,
  '.yarnrc.yml': withoutLogins,
  '.pip/pip.conf': withoutLogins,
  '.gradle/gradle.properties': withoutLogins,
  '.bundle/config': withoutBundleLogins,
  '.wgetrc': withoutLogins,
  '.curlrc': withoutLogins,
  '.m2/settings.xml': (text) => withoutElements(text, ['password', 'passphrase', 'privateKey']),
  '.nuget/NuGet/NuGet.Config': (text) => withoutElements(text, ['packageSourceCredentials', 'apikeys']),
  '.config/NuGet/NuGet.Config': (text) => withoutElements(text, ['packageSourceCredentials', 'apikeys']),
};

/**
 * Whole lines: `//registry.example.com/:_authToken=…`, `npmAuthToken: …`, `extraheader = AUTHORIZATION: …`, `repoPassword=…`. One whose value is
 * only a reference (`${NPM_TOKEN}`) stays. Of other lines, a login in an address is taken out, and a value that looks like a credential.
 */
function withoutLogins(text: string): string {
  const lines = text.split('\n').map((line) => {
    const [, name = '', value = ''] = /^\s*([^=\s]+?)\s*(?:=|:\s|\s)\s*(.*?)\s*$/.exec(line) ?? [];
    const bare = value.replace(/^(["'])(.*)\1$/, '$2');
    if (bare === '') return line;
    const isLogin = LOGIN.test(name.replace(/["']/g, '')) || WITHIN_TABLE.test(value) || bare.split(/[\s"'`,;={}]+/).some(isCredential);
    // What most lines are is known without the last question, which takes longest.
    if ((!isLogin && !line.includes('@')) || isReference(bare)) return line;
    if (isLogin) return undefined;
    return line.replace(IN_ADDRESS, '$1');
  });
  return lines.filter((line) => line !== undefined).join('\n');
}

const LOGIN =
  /(?:_auth|_authtoken|authtoken|authident|_password|password|passwd|passphrase|token|secret|extraheader|(?:^|:)key|(?:^|:)otp|apikey|api_key|^(?:-u|--?user|user|--header|-H|header|proxy-user))$/i;

/** `"@acme" = { token = "…" }` */
const WITHIN_TABLE = /\{.*\b(?:token|password|_?auth\w*)["']?\s*[=:]\s*["'](?!\$)/i;

function isCredential(word: string): boolean {
  // Most words need no closer look, which takes longer than all the rest.
  const shape = word.length < 16 || !/\d/.test(word) || word.includes('/') ? undefined : secretValueShape(word);
  return shape !== undefined && shape !== RANDOM_SHAPE;
}

/** Up to the last `@` before the path: passwords hold that sign, too. A user name without a password may be a token. */
const IN_ADDRESS = /\b([a-z][a-z0-9+.-]*:\/\/)(?!\$\{[^}]*\}@|(?:git|hg)@)[^\s/"'`]+@/gi;

/** `BUNDLE_GEMS__EXAMPLE__COM: "user:password"`: names of hosts, where settings have words. */
function withoutBundleLogins(text: string): string {
  const lines = text.split('\n').filter((line) => !/^BUNDLE_\w*__\w+:\s*["']?[^"'\s:/]+(?::[^"'\s/]+|.{20,})["']?\s*$/.test(line));
  return withoutLogins(lines.join('\n'));
}

function withoutElements(text: string, names: readonly string[]): string {
  return names.reduce((rest, name) => rest.replace(new RegExp(`<${name}(?:\\s[^>]*)?>[\\s\\S]*?(?:</${name}>|$)`, 'gi'), ''), text);
}

const MOST_BYTES = 262_144;

function textOf(path: string): string | undefined {
  try {
    if (statSync(path).size > MOST_BYTES) return undefined;
    const bytes = readFileSync(path);
    return isUtf8(bytes) ? bytes.toString() : undefined;
  } catch {
    return undefined;
  }
}
