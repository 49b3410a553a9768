// The resources of a bundle as they are served: which of them a ref means, and which requests its value may travel in.
import type { Bundle, ResourceEntry } from '../config/bundle.ts';
import { KzError, type Place } from '../core/errors.ts';
import { compileRefGlob, literalPrefix, type RefGlob } from '../policy/ref.ts';
import { parsePathPattern } from '../policy/request-path.ts';
import { compileRules, type Rule } from '../policy/rule.ts';
import { ServerFailure } from './failure.ts';
import { checkFetch, readFetch } from './fetch/fetch-request.ts';

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
  const { ref, places } = entry;
  const glob = compileRefGlob(ref);
  const problems = pathProblems(entry);
  if ('problem' in glob) throw KzError.all([wrong(entry, glob.problem, { at: places?.ref }), ...problems]);
  if (problems.length > 0) throw KzError.all(problems);
  const resource = { entry, rules: rulesOf(entry) };
  requireCheckable(resource);
  return { resource, glob, prefix: literalPrefix(ref).length };
}

function pathProblems(entry: ResourceEntry): readonly KzError[] {
  return (entry.paths ?? []).flatMap((path, index) => {
    const read = parsePathPattern(path);
    if (!('problem' in read)) return [];
    return [wrong(entry, `has a path ${JSON.stringify(path)} that ${read.problem}`, { at: entry.places?.paths[index] })];
  });
}

function rulesOf(entry: ResourceEntry): readonly Rule[] {
  const { hosts, methods, places } = entry;
  if (methods.length === 0) return [];
  const paths: readonly (string | undefined)[] = entry.paths ?? [undefined];
  const entries = hosts.flatMap((host) => paths.map((path) => ({ allow: true, host, path, methods })));
  try {
    return compileRules(entries, (index) => places?.hosts[Math.floor(index / paths.length)]);
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    // Rules call themselves after the config that they usually come from. A host is in one for each path.
    const found = new Map((error.code === 'several' ? error.problems : [error]).map((each) => [withoutIndex(each.message), each.at]));
    throw KzError.all([...found].map(([problem, at]) => wrong(entry, problem, { at })));
  }
}

function withoutIndex(message: string): string {
  return message.replace(/^blind\.connections\.\d+ /, '');
}

/** A check that would always be refused is no check. */
function requireCheckable(resource: Resource): void {
  const { entry } = resource;
  const { ref, from = '{ref}', check, places } = entry;
  if (check === undefined) return;
  if (ref.includes('*') && from.includes('{')) {
    const hint = 'give the one that is checked a resource of its own, or leave `check` out';
    throw wrong(entry, 'has a check, and is a pattern: nobody can say which value is meant', { at: places?.check, hint });
  }
  try {
    checkFetch(readFetch(check), resource);
  } catch (error) {
    if (!(error instanceof ServerFailure)) throw error;
    throw wrong(entry, `has a check that would be refused: ${error.message}`, { at: places?.check, hint: error.hint });
  }
}

function wrong({ ref, at }: ResourceEntry, problem: string, known: { at: Place | undefined; hint?: string | undefined }): KzError {
  return new KzError('config-invalid', `resource ${JSON.stringify(ref)} ${problem}`, { at: known.at ?? at, hint: known.hint });
}
