// What `kz validate` says of the sandbox: settings without effect, paths that are not there, and paths that give away more than they look
// like. Looks at the paths, and changes nothing.
import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { userDirectory } from '../config/find.ts';
import type { Config } from '../config/load.ts';
import type { Locate } from '../config/places.ts';
import { insistingLayer, type SandboxLayer } from '../config/sandbox-layers.ts';
import { sandboxSettings } from '../config/sandbox-settings.ts';
import { formatPlace } from '../core/errors.ts';

type Env = Readonly<Record<string, string | undefined>>;

export function sandboxWarnings(config: Config, locate: Locate, env: Env = process.env): string[] {
  const { sandboxLayers: layers, blind } = config;
  const isOff = sandboxSettings(blind).mode === 'off';
  const places = isOff ? undefined : secretPlaces(config, env);
  return layers.flatMap((layer, index) => {
    const at: At = (...path) => formatPlace(locate({ ...layer.origin, path: [...layer.origin.path, ...path] }));
    const idle = modeWarnings(layer, layers, at);
    if (places === undefined) return [...idle, ...offWarnings(layer, at)];
    return [...idle, ...pathWarnings(layer, places, at), ...revealWarnings(layer, layers.slice(0, index), at)];
  });
}

type At = (...path: readonly (string | number)[]) => string;

function modeWarnings({ table: { mode } }: SandboxLayer, layers: readonly SandboxLayer[], at: At): string[] {
  const strict = insistingLayer(layers);
  if (strict === undefined || mode === undefined || mode === 'strict') return [];
  return [
    `${at('mode')}: "${mode}" has no effect: ${strict.origin.file.path} says "strict"; only \`kz run --blind --sandbox=${mode}\` goes against it`,
  ];
}

function offWarnings({ table }: SandboxLayer, at: At): string[] {
  const idle = (['read', 'write', 'hide', 'allow_loopback'] as const).filter((key) => (table[key] ?? []).length > 0);
  return idle.map((key) => `${at(key)}: the sandbox is off, and \`${key}\` has no effect`);
}

interface SecretPlaces {
  readonly home: string;
  /** What opens everything: kz's own folder, and the store if that is elsewhere. */
  readonly own: readonly string[];
}

function secretPlaces({ providers }: Config, env: Env): SecretPlaces {
  const store = providers.store?.path;
  const home = env.HOME !== undefined && env.HOME !== '' ? env.HOME : homedir();
  return {
    home: likelyPath(home),
    own: [userDirectory(env), ...(store === undefined ? [] : [store])].map(likelyPath),
  };
}

function pathWarnings({ table }: SandboxLayer, places: SecretPlaces, at: At): string[] {
  return (['read', 'write', 'hide'] as const).flatMap((key) =>
    (table[key] ?? []).flatMap((path, index) => {
      const real = realPath(path);
      const why = real === undefined ? 'which is not there' : dangerOf(key, real, places);
      return why === undefined ? [] : [`${at(key, index)}: \`${key}\` names ${path}, ${why}`];
    }),
  );
}

const KZ_FILES = 'kz’s own files (your secrets, what it trusts)';

function dangerOf(key: 'read' | 'write' | 'hide', real: string, { home, own }: SecretPlaces): string | undefined {
  if (key === 'hide') return undefined;
  if (own.some((path) => isWithin(real, path))) return `which is among ${KZ_FILES}`;
  if (key === 'read') return undefined;
  if (isWithin(home, real)) {
    const what = real === home ? 'your home folder' : 'which holds your home folder';
    return `${what}: whoever can change what your shell and your tools load at their start is out of the sandbox`;
  }
  return own.some((path) => isWithin(path, real)) ? `which holds ${KZ_FILES}` : undefined;
}

/** Of two files that disagree, `read` wins; the other one's author should know. */
function revealWarnings({ table }: SandboxLayer, earlier: readonly SandboxLayer[], at: At): string[] {
  return (table.read ?? []).flatMap((path, index) => {
    const hiding = earlier.find((layer) => layer.table.hide?.some((hidden) => isWithin(likelyPath(path), likelyPath(hidden))));
    return hiding === undefined ? [] : [`${at('read', index)}: \`read\` names ${path}, which ${hiding.origin.file.path} hides`];
  });
}

/** Undefined when nothing is there. */
function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** What is not there yet has at least a folder above that is. */
function likelyPath(path: string): string {
  const real = realPath(path);
  return real ?? (dirname(path) === path ? path : join(likelyPath(dirname(path)), basename(path)));
}

function isWithin(path: string, folder: string): boolean {
  const outer = resolve(folder);
  return path === outer || path.startsWith(outer === sep ? sep : outer + sep);
}
