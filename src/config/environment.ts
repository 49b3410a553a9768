// Which environment is active: `--env` > `KEYZERO_ENV` > `NODE_ENV`, `RAILS_ENV`, `APP_ENV`.
import { KzError } from '../core/errors.ts';
import { suggest } from '../core/suggest.ts';

export interface Environment {
  readonly name: string;
  /** The flag or variable that chose it. */
  readonly chosenBy: string;
}

/** Variables that other tools own: they choose an environment only when the config has one of that name. */
const BORROWED = ['NODE_ENV', 'RAILS_ENV', 'APP_ENV'] as const;

interface Options {
  readonly environment?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Asked for by name (`--env`, `KEYZERO_ENV`), an environment must be declared: a typo that fell back to `[secrets]` would start a
 * production program with development secrets. Throws `environment-unknown`.
 */
export function chooseEnvironment(options: Options, declared: readonly string[]): Environment | undefined {
  if (options.environment === '') throw new KzError('usage', '--env names no environment', { hint: 'is the variable after --env empty?' });
  const named = options.environment ?? options.env.KEYZERO_ENV;
  if (named !== undefined && named !== '') {
    const chosenBy = options.environment === undefined ? 'KEYZERO_ENV' : '--env';
    if (!declared.includes(named)) throw unknown(named, chosenBy, declared);
    return { name: named, chosenBy };
  }
  const borrowed = BORROWED.find((variable) => options.env[variable] !== undefined && options.env[variable] !== '');
  const name = borrowed === undefined ? undefined : options.env[borrowed];
  if (borrowed === undefined || name === undefined || !declared.includes(name)) return undefined;
  return { name, chosenBy: borrowed };
}

function unknown(name: string, chosenBy: string, declared: readonly string[]): KzError {
  const near = suggest(name, declared);
  const list = declared.length === 0 ? 'no environment is declared' : `declared: ${declared.join(', ')}`;
  const hint = near === undefined ? `${list}; an empty [${name}.secrets] table declares one` : `did you mean ${JSON.stringify(near)}?`;
  return new KzError('environment-unknown', `unknown environment ${JSON.stringify(name)} (from ${chosenBy})`, { hint });
}
