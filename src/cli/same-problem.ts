// What is wrong with several secrets for one reason (a server that is down) is said once, with their names. Pure; it decides only what is
// printed: JSON has every error as it is.
import { KzError } from '../core/errors.ts';

/** In the order in which they first come. What has a place of its own in a file stays alone. */
export function oncePerReason(problems: readonly KzError[]): readonly KzError[] {
  const groups = new Map<string, { readonly first: KzError; readonly reason: string; readonly names: string[] }>();
  for (const [index, problem] of problems.entries()) {
    const { name, reason } = takenApart(problem);
    const key = name === undefined ? String(index) : JSON.stringify([problem.code, reason, problem.hint]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { first: problem, reason, names: name === undefined ? [] : [name] });
    else if (name !== undefined && !group.names.includes(name)) group.names.push(name);
  }
  return [...groups.values()].map(({ first, reason, names }) => {
    if (names.length < 2) return first;
    return new KzError(first.code, `${reason} (${names.join(', ')})`, { hint: first.hint, cause: first });
  });
}

/** Whoever puts a secret's name in front of an error keeps the error as the cause. */
function takenApart({ code, message, at, cause }: KzError): { name?: string; reason: string } {
  if (at !== undefined || !(cause instanceof KzError) || cause.code !== code) return { reason: message };
  const end = `: ${cause.message}`;
  return message.endsWith(end) ? { name: message.slice(0, -end.length), reason: cause.message } : { reason: message };
}
