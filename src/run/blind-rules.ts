// The connection rules of a config, compiled, and where each is written. Positions cost a second parser, which is loaded only when somebody
// asks for them.
import type { Config } from '../config/load.ts';
import type { Place } from '../core/errors.ts';
import { compileRules, type Rule } from '../policy/rule.ts';

/** Throws `config-invalid` with the place of every rule that is wrong. */
export async function rulesOf(config: Config): Promise<readonly Rule[]> {
  const entries = config.blind?.connections ?? [];
  try {
    return compileRules(entries);
  } catch {
    const places = await placesOfRules(config);
    return compileRules(entries, (index) => places[index]);
  }
}

/** One place for each rule. */
export async function placesOfRules({ blind, blindOrigin }: Config): Promise<readonly Place[]> {
  if (blind?.connections === undefined || blindOrigin === undefined) return [];
  const { locator } = await import('../config/locate.ts');
  const { file, path } = blindOrigin;
  const locate = locator(file.text);
  return blind.connections.map((_rule, index) => ({ file: file.path, ...locate([...path, index]) }));
}
