// The connection rules of a config, compiled, and where each is written.
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

/** One place for each rule. Costs a second parser: 15 ms. */
export async function placesOfRules({ blind, blindOrigin }: Config): Promise<readonly Place[]> {
  if (blind?.connections === undefined || blindOrigin === undefined) return [];
  const { locator } = await import('../config/locate.ts');
  const { file, path } = blindOrigin;
  const locate = locator(file.text);
  return blind.connections.map((_rule, index) => ({ file: file.path, ...locate([...path, index]) }));
}

/** The same without columns, and at once for rules that are written as nearly everybody writes them. */
export async function linesOfRules(config: Config): Promise<readonly Place[]> {
  const { blind, blindOrigin } = config;
  if (blind?.connections === undefined || blindOrigin === undefined) return [];
  const { path, text } = blindOrigin.file;
  const headers = text.split('\n').flatMap((line, index) => (HEADER.test(line) ? [index + 1] : []));
  if (headers.length === blind.connections.length) return headers.map((line) => ({ file: path, line }));
  return placesOfRules(config);
}

const HEADER = /^[ \t]*\[\[[ \t]*blind[ \t]*\.[ \t]*connections[ \t]*\]\]/;
