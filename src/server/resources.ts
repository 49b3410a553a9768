// The resources of a bundle as they are served: which of them a ref means, and which requests its value may travel in.
import type { Bundle, ResourceEntry } from '../config/bundle.ts';
import { KzError } from '../core/errors.ts';
import { compileRefGlob, literalPrefix, type RefGlob } from '../policy/ref.ts';
import { compileRules, type Rule } from '../policy/rule.ts';

/** A resource as it is served. */
export interface Resource {
  readonly entry: ResourceEntry;
  /** Its hosts, methods and paths, each combination one rule that allows (policy/decide.ts). Empty: no request may carry its value. */
  readonly rules: readonly Rule[];
}

export interface FoundResource {
  readonly resource: Resource;
  /** What the stars of a glob matched, from left to right. */
  readonly captures: readonly string[];
}

interface Row {
  readonly resource: Resource;
  readonly glob: RefGlob;
  readonly prefix: number;
}

export class ResourceTable {
  readonly all: readonly Resource[];
  readonly #exact: ReadonlyMap<string, Resource>;
  /** The longest literal prefix first, ties as in the file. */
  readonly #globs: readonly Row[];

  /** Throws one error with everything that cannot be compiled. */
  static compile({ resources }: Pick<Bundle, 'resources'>): ResourceTable {
    const problems: KzError[] = [];
    const rows = resources.flatMap((entry) => {
      try {
        return [compileResource(entry)];
      } catch (error) {
        if (!(error instanceof KzError)) throw error;
        problems.push(...(error.code === 'several' ? error.problems : [error]));
        return [];
      }
    });
    if (problems.length > 0) throw KzError.all(problems);
    return new ResourceTable(rows);
  }

  private constructor(rows: readonly Row[]) {
    this.all = rows.map(({ resource }) => resource);
    this.#exact = new Map(rows.filter(({ glob }) => glob.isExact).map(({ resource }) => [resource.entry.ref, resource]));
    this.#globs = rows.filter(({ glob }) => !glob.isExact).sort((a, b) => b.prefix - a.prefix);
  }

  /**
   * The exact one, else the glob that says most before its first star. A field of what is exact leads to no glob: what holds for the whole (its mode,
   * its hosts) would not hold for its parts. `ref` has no problem (policy/ref.ts).
   */
  find(ref: string): FoundResource | undefined {
    const exact = this.#exact.get(ref);
    if (exact !== undefined) return { resource: exact, captures: [] };
    if (ref.includes('#') && this.#exact.has(ref.slice(0, ref.indexOf('#')))) return undefined;
    for (const { resource, glob } of this.#globs) {
      const captures = glob.match(ref);
      if (captures !== undefined) return { resource, captures };
    }
    return undefined;
  }
}

function compileResource(entry: ResourceEntry): Row {
  const glob = compileRefGlob(entry.ref);
  if ('problem' in glob) {
    throw new KzError('config-invalid', `resource ${JSON.stringify(entry.ref)} ${glob.problem}`, { at: entry.at });
  }
  const paths: readonly (string | undefined)[] = entry.paths ?? [undefined];
  const entries = entry.hosts.flatMap((host) => paths.map((path) => ({ allow: true, host, path, methods: entry.methods })));
  // Rules call themselves after the config that they usually come from.
  const rules = entry.methods.length === 0 ? [] : compiled(entry, entries);
  return { resource: { entry, rules }, glob, prefix: literalPrefix(entry.ref).length };
}

function compiled(entry: ResourceEntry, entries: Parameters<typeof compileRules>[0]): readonly Rule[] {
  try {
    return compileRules(entries);
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    const problems = error.code === 'several' ? error.problems : [error];
    throw KzError.all(
      [...new Set(problems.map(({ message }) => message.replace(/^blind\.connections\.\d+ /, '')))].map(
        (message) => new KzError('config-invalid', `resource ${JSON.stringify(entry.ref)} ${message}`, { at: entry.at }),
      ),
    );
  }
}
