// Where the proxy leads, whoever asks: to hosts, methods and paths that some resource names. With that it is nobody's open proxy, nor a way to
// addresses that are not public, but for hosts that are named without a star: who has a name below one chooses where it leads.
import { compileRules, type Rule } from '../../policy/rule.ts';
import { isExactHost } from '../fetch/fetch-request.ts';
import type { Resource } from '../resources.ts';

export const NOTHING_ALLOWED = compileRules([{ allow: false, host: '*' }]);

const unions = new WeakMap<readonly unknown[], readonly Rule[]>();

/** The same list as long as the resources are the same. */
export function reachable(resources: readonly Resource[]): readonly Rule[] {
  const known = unions.get(resources);
  if (known !== undefined) return known;
  const rules = resources.flatMap((resource) => resource.rules);
  // The first one that fits says whether its host is named.
  const exact = rules.filter(({ entry }) => isExactHost(entry.host));
  const others = rules.filter(({ entry }) => !isExactHost(entry.host)).map(withoutName);
  // Without any rule everything would be allowed.
  const union = rules.length === 0 ? NOTHING_ALLOWED : [...exact, ...others];
  unions.set(resources, union);
  return union;
}

/** In a blind run `*.example.com` names a host: there, the rules are of whoever runs the program. */
function withoutName(rule: Rule): Rule {
  const decision = { ...rule.decision };
  const unnamed = { ...rule, namesHost: false, decision };
  decision.rule = unnamed;
  return unnamed;
}
