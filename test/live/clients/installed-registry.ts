// A stand-in for npm's registry that has what is installed here: a package of this clone's node_modules and everything that it needs.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import type http from 'node:http';
import { basename, dirname, join } from 'node:path';
import { answerJson } from '../../stories/upstream.ts';

interface Package {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface Installed {
  readonly about: Package;
  readonly folder: string;
}

/** Serves `name` and what it depends on, under `https://host/`. `modules` is a node_modules folder. */
export function installedRegistry(host: string, modules: string, name: string): http.RequestListener {
  const packages = new Map<string, Installed>();
  collect(dirname(modules), name, packages);
  const all = [...packages.values()];
  return ({ url = '' }, response) => {
    const [path = ''] = decodeURIComponent(url.slice(1)).split('?');
    const tarball = packages.get(path.replace(/\.tgz$/, ''));
    const versions = all.filter(({ about }) => about.name === path);
    if (path.endsWith('.tgz') && tarball !== undefined) response.end(packed(tarball.folder));
    else if (versions.length > 0) answerJson(response, document(host, versions));
    else answerJson(response, { error: 'not found' }, 404);
  };
}

function document(host: string, installed: readonly Installed[]): unknown {
  const versions = installed.map(({ about }) => {
    const tarball = `https://${host}/${about.name}@${about.version}.tgz`;
    return [about.version, { ...about, scripts: undefined, devDependencies: undefined, dist: { tarball } }] as const;
  });
  return { name: installed[0]?.about.name, 'dist-tags': { latest: versions[0]?.[0] }, versions: Object.fromEntries(versions) };
}

/** As Node finds it from `from`, and then whatever that one needs. */
function collect(from: string, name: string, found: Map<string, Installed>): void {
  const folder = join(from, 'node_modules', name);
  if (!existsSync(join(folder, 'package.json'))) {
    // An optional one for another system, or one that this system does without.
    if (from !== dirname(from)) collect(dirname(from), name, found);
    return;
  }
  const about = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Package;
  const key = `${about.name}@${about.version}`;
  if (found.has(key)) return;
  found.set(key, { about, folder });
  for (const each of Object.keys({ ...about.dependencies, ...about.optionalDependencies })) collect(folder, each, found);
}

function packed(folder: string): Buffer {
  const args = ['czf', '-', '--exclude=node_modules', '-C', dirname(folder), basename(folder)];
  return execFileSync('tar', args, { maxBuffer: 1 << 28 });
}
