// All that is wrong with a configuration that loads: what blind mode would refuse, refs that can name nothing, checks that would never be sent.
// Asks no provider.
import type { Config, Declaration, DocumentDeclaration } from '../config/load.ts';
import { lazyLocator, placeIn, type Locate } from '../config/places.ts';
import { KzError } from '../core/errors.ts';
import { PROVIDERS } from '../providers/table.ts';
import { checkBlind, type BlindCheck } from './blind-check.ts';
import { unsendable } from './credential-check.ts';

/** Throws one error that holds every problem, each with its place. */
export async function checkConfig(config: Config): Promise<BlindCheck> {
  const locate = await lazyLocator();
  const problems: KzError[] = [];
  const blind = await blindOr(config, problems);
  for (const declaration of [...config.secrets.values(), ...config.documents]) problems.push(...(await refProblems(declaration, locate)));
  for (const declaration of config.secrets.values()) problems.push(...checkProblems(declaration, locate));
  if (blind === undefined || problems.length > 0) throw KzError.all(problems);
  return blind;
}

async function blindOr(config: Config, problems: KzError[]): Promise<BlindCheck | undefined> {
  try {
    return await checkBlind(config);
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    problems.push(...(error.code === 'several' ? error.problems : [error]));
    return undefined;
  }
}

async function refProblems(declaration: Declaration | DocumentDeclaration, locate: Locate): Promise<KzError[]> {
  try {
    await PROVIDERS[declaration.provider].checkRef?.(declaration.ref);
    return [];
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    const at = placeIn(declaration, ['ref'], locate);
    const name = 'name' in declaration ? `${declaration.name}: ` : '';
    return [new KzError(error.code, `${name}${error.message}`, { hint: error.hint, at, cause: error })];
  }
}

function checkProblems(declaration: Declaration, locate: Locate): KzError[] {
  const { check } = declaration;
  const error = check === undefined ? undefined : unsendable({ ...declaration, check });
  if (error === undefined) return [];
  return [new KzError(error.code, error.message, { hint: error.hint, at: placeIn(declaration, ['check'], locate), cause: error })];
}
