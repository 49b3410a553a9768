// Secrets as a keeper handles them: together with those that share a lease, an interval or a provider.
import type { SetSecret } from './secrets.ts';

export function namesOf(secrets: readonly SetSecret[]): string[] {
  return secrets.map(({ name }) => name);
}

/** Those without a key are in no group. */
export function groupBy<T>(items: readonly T[], keyOf: (item: T) => string | undefined): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    if (key === undefined) continue;
    const group = groups.get(key) ?? [];
    group.push(item);
    groups.set(key, group);
  }
  return groups;
}
