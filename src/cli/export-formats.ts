// The formats of `kz export`. Each either represents every value exactly or refuses by name; none drops or bends a character.
import { randomBytes } from 'node:crypto';
import { KzError } from '../core/errors.ts';
import { shellQuote } from './quote.ts';

export interface Variable {
  readonly name: string;
  readonly value: string;
}

/** What goes to standard output, and what a GitHub Actions step appends to the file that $GITHUB_ENV names. */
export interface Exported {
  readonly output: string;
  readonly githubEnv?: string;
}

type Formatter = (variables: readonly Variable[]) => Exported;

export const EXPORT_FORMATS = {
  shell: (variables) => ({ output: lines(variables, ({ name, value }) => `export ${name}=${shellQuote(value)}`) }),
  dotenv: (variables) => ({ output: lines(variables, ({ name, value }) => `${name}=${dotenvQuote(name, value)}`) }),
  json: (variables) => ({ output: `${JSON.stringify(Object.fromEntries(variables.map(({ name, value }) => [name, value])), null, 2)}\n` }),
  // A JSON string is a YAML double-quoted scalar.
  yaml: (variables) => ({ output: lines(variables, ({ name, value }) => `${name}: ${JSON.stringify(value)}`) }),
  docker: (variables) => ({ output: lines(variables, ({ name, value }) => `${name}=${oneLine(name, value)}`) }),
  gha: githubActions,
} as const satisfies Record<string, Formatter>;

export type ExportFormat = keyof typeof EXPORT_FORMATS;

function lines(variables: readonly Variable[], line: (variable: Variable) => string): string {
  return variables.map((variable) => `${line(variable)}\n`).join('');
}

/**
 * The readers of dotenv files agree on single quotes: nothing inside them is special. A value with a single quote goes into double quotes
 * where nothing in it could be taken for an escape or an expansion, else into backticks, which fewer readers know.
 */
function dotenvQuote(name: string, value: string): string {
  if (/^[A-Za-z0-9_.:/@%+,-]+$/.test(value)) return value;
  if (value.includes('\r')) throw unrepresentable(name, 'a carriage return', 'dotenv');
  if (!value.includes("'")) return `'${value}'`;
  if (!/["\\$`]/.test(value)) return `"${value}"`;
  if (!value.includes('`')) return `\`${value}\``;
  throw unrepresentable(name, 'every kind of quote', 'dotenv');
}

/** `docker run --env-file` takes the rest of the line as it is and knows neither quotes nor escapes. */
function oneLine(name: string, value: string): string {
  if (/[\r\n]/.test(value)) throw unrepresentable(name, 'a line break', 'docker');
  return value;
}

function unrepresentable(name: string, what: string, format: string): KzError {
  return new KzError('secret-invalid', `${name} holds ${what}, which the ${format} format cannot express`, { hint: 'use --format json' });
}

/** Masks first: the runner hides in the log, line by line, what it was told before. */
function githubActions(variables: readonly Variable[]): Exported {
  const masked = variables.flatMap(({ value }) => value.split(/\r?\n/).filter((line) => line.trim() !== ''));
  const output = [...new Set(masked)].map((line) => `::add-mask::${workflowData(line)}\n`).join('');
  const githubEnv = lines(variables, ({ name, value }) => {
    const end = `kz_${randomBytes(16).toString('hex')}`;
    return `${name}<<${end}\n${value}\n${end}`;
  });
  return { output, githubEnv };
}

function workflowData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}
