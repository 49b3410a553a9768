// What several files say of the sandbox, as one: `[blind.sandbox]` merges key by key, as the rest of `[blind]` does, with two exceptions.
// Lists add up, so that no file takes away what another one hides. And what the user's own file calls `strict` stays strict: a project
// cannot make it weaker, only `--sandbox` on the command line can.
import type { Origin } from './load.ts';
import type { BlindEntry } from './schema.ts';

export type SandboxTable = Exclude<NonNullable<BlindEntry['sandbox']>, string>;

/** What one file says. */
export interface SandboxLayer {
  /** Of `blind.sandbox`. */
  readonly origin: Origin;
  /** `sandbox = "…"` is a table with a mode; paths are absolute. */
  readonly table: SandboxTable;
}

export function sandboxLayer(
  sandbox: NonNullable<BlindEntry['sandbox']>,
  origin: Origin,
  absolute: (path: string) => string,
): SandboxLayer {
  if (typeof sandbox === 'string') return { origin, table: { mode: sandbox } };
  const paths = (['read', 'write', 'hide'] as const).flatMap((key) => {
    const list = sandbox[key];
    return list === undefined ? [] : [[key, list.map(absolute)] as const];
  });
  return { origin, table: { ...sandbox, ...Object.fromEntries(paths) } };
}

/** Weakest first. Undefined when no file says anything. */
export function mergeSandbox(layers: readonly SandboxLayer[]): SandboxTable | undefined {
  if (layers.length === 0) return undefined;
  const merged: SandboxTable = {};
  const insists = insistingLayer(layers) !== undefined;
  for (const { table } of layers) {
    if (table.mode !== undefined) merged.mode = insists ? 'strict' : table.mode;
    if (table.read !== undefined) merged.read = union(merged.read, table.read);
    if (table.write !== undefined) merged.write = union(merged.write, table.write);
    if (table.hide !== undefined) merged.hide = union(merged.hide, table.hide);
    if (table.allow_loopback !== undefined) merged.allow_loopback = union(merged.allow_loopback, table.allow_loopback);
  }
  return merged;
}

/** The user's own file, when it says `strict`. */
export function insistingLayer(layers: readonly SandboxLayer[]): SandboxLayer | undefined {
  return layers.find(({ origin, table }) => origin.file.layer === 'user' && table.mode === 'strict');
}

function union<T>(first: readonly T[] | undefined, second: readonly T[]): T[] {
  return [...new Set([...(first ?? []), ...second])];
}
