// The rules of a bundle, ready to be asked. What is wrong with one of them is told at its place in the file.
import type { BundleWarning } from '../../config/bundle-warnings.ts';
import type { Bundle, PolicyEntry } from '../../config/bundle.ts';
import { KzError, type Place } from '../../core/errors.ts';
import { anchored } from '../../policy/cel-searches.ts';
import { openCel, type CelProblem } from '../../policy/cel.ts';
import type { CompiledPolicy } from '../../policy/permit.ts';

export interface CompiledPolicies {
  /** Without those that have a problem. */
  readonly policies: readonly CompiledPolicy[];
  readonly problems: readonly KzError[];
}

export async function compilePolicies({ policies: entries }: Pick<Bundle, 'policies'>): Promise<CompiledPolicies> {
  const engine = await openCel();
  const policies: CompiledPolicy[] = [];
  const problems: KzError[] = [];
  for (const entry of entries) {
    const rule = engine.compile(entry.rule);
    if ('problem' in rule) problems.push(asError(entry, rule));
    else policies.push({ name: entry.name, effect: entry.effect, rule });
  }
  return { policies, problems };
}

/** What a rule that allows lets through besides what its author may mean. Needs the rules of the same bundle. */
export function searchWarnings(
  { policies: entries }: Pick<Bundle, 'policies'>,
  policies: readonly CompiledPolicy[],
): readonly BundleWarning[] {
  const rules = new Map(policies.map(({ name, rule }) => [name, rule]));
  return entries.flatMap(({ name, effect, at }) => {
    const searches = effect === 'allow' ? (rules.get(name)?.searches ?? []) : [];
    return searches.map((pattern) => {
      const what = `the rule of policy ${JSON.stringify(name)} has matches(${JSON.stringify(pattern)})`;
      return {
        text: `${what}, which is true of every text that holds it: for the whole text write ${JSON.stringify(anchored(pattern))}`,
        at,
      };
    });
  });
}

function asError(entry: PolicyEntry, found: CelProblem): KzError {
  const { problem, hint } = found;
  return new KzError('config-invalid', `policy ${JSON.stringify(entry.name)}: ${problem}`, { hint, at: placeOf(entry, found) });
}

/** What a block of lines has in front of each is not in the rule, so of several lines only the line is sure. */
function placeOf({ rule, at }: PolicyEntry, { line, column }: CelProblem): Place {
  if (at.line === undefined || at.column === undefined) return at;
  if (rule.trimEnd().includes('\n')) return { file: at.file, line: at.line + line - 1 };
  return { ...at, column: at.column + column - 1 };
}
