// The formats of `kz export`. Each either represents every value exactly or refuses by name; none drops or bends a character.
import { randomBytes } from 'node:crypto';
import { KzError } from '../core/errors.ts';
import { fishQuote, shellQuote } from './quote.ts';

export interface Variable {
  readonly name: string;
  readonly value: string;
}

/** What goes to standard output, and what a GitHub Actions step appends to the file that $GITHUB_ENV names. */
export interface Exported {
  readonly output: string;
  readonly githubEnv?: string;
}

export const EXPORT_NAMES = ['shell', 'fish', 'dotenv', 'json', 'yaml', 'docker', 'gha'] as const;

export type ExportFormat = (typeof EXPORT_NAMES)[number];

type Formatter = (variables: readonly Variable[]) => Exported;

export const EXPORT_FORMATS: Readonly<Record<ExportFormat, Formatter>> = {
  shell: (variables) => ({ output: lines(variables, ({ name, value }) => `export ${name}=${shellQuote(value)}`) }),
  fish: (variables) => ({ output: lines(variables, ({ name, value }) => `set -gx ${name} ${fishQuote(value)}`) }),
  dotenv: (variables) => ({ output: lines(variables, ({ name, value }) => `${name}=${dotenvQuote(name, value)}`) }),
  json: (variables) => ({ output: `${JSON.stringify(Object.fromEntries(variables.map(({ name, value }) => [name, value])), null, 2)}\n` }),
  yaml: (variables) => ({ output: lines(variables, ({ name, value }) => `${yamlKey(name)}: ${yamlQuote(value)}`) }),
  docker: (variables) => ({ output: lines(variables, ({ name, value }) => dockerLine(name, value)) }),
  gha: githubActions,
};

function lines(variables: readonly Variable[], line: (variable: Variable) => string): string {
  return variables.map((variable) => `${line(variable)}\n`).join('');
}

/**
 * For the rules of the `dotenv` package, in the first way that other readers (dotenvx, python-dotenv, a shell) agree on. Single quotes
 * hide everything from nearly all of them, but python-dotenv joins two backslashes, and for every reader a backslash at the end may
 * escape the quote. Double quotes expand `\n`, `$` and more. Without quotes it is the rest of the line that counts. Few know backticks.
 */
function dotenvQuote(name: string, value: string): string {
  if (/^[A-Za-z0-9_.:/@%+,-]+$/.test(value)) return value;
  if (value.includes('\r')) throw unrepresentable(name, 'a carriage return', 'dotenv');
  if (!/'|\\\\|\\$/.test(value)) return `'${value}'`;
  if (!/["\\$`]/.test(value)) return `"${value}"`;
  if (value.trim() === value && !/^['"]|[#$`]|\p{Cc}/u.test(value)) return value;
  if (value.endsWith('\\')) throw unrepresentable(name, 'a backslash at its end', 'dotenv');
  if (!value.includes("'")) return `'${value}'`;
  if (!value.includes('`')) return `\`${value}\``;
  throw unrepresentable(name, 'every kind of quote', 'dotenv');
}

/** Older YAML reads these as true, false or null. */
function yamlKey(name: string): string {
  return /^(?:y|n|yes|no|on|off|true|false|null)$/i.test(name) ? JSON.stringify(name) : name;
}

/** A JSON string is a YAML double-quoted scalar, but older YAML refuses or folds what JSON leaves bare: DEL, C1 and Unicode's line breaks. */
function yamlQuote(value: string): string {
  return JSON.stringify(value).replace(
    /[\u007F-\u009F\u2028\u2029\uFEFF\uFFFE\uFFFF]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** bufio.Scanner, with which docker reads, gives up on longer lines. */
const DOCKER_LONGEST_LINE = 65_535;

/** `docker run --env-file` takes the rest of the line as it is and knows neither quotes nor escapes. */
function dockerLine(name: string, value: string): string {
  if (/[\r\n]/.test(value)) throw unrepresentable(name, 'a line break', 'docker');
  const line = `${name}=${value}`;
  if (Buffer.byteLength(line) > DOCKER_LONGEST_LINE) throw unrepresentable(name, 'more than 64 KiB', 'docker');
  return line;
}

function unrepresentable(name: string, what: string, format: string): KzError {
  return new KzError('secret-invalid', `${name} holds ${what}, which the ${format} format cannot express`, { hint: 'use --format json' });
}

/** Masks first: the runner hides in the log, line by line, what it was told before. */
function githubActions(variables: readonly Variable[]): Exported {
  const masked = new Set(variables.flatMap(({ value }) => maskedParts(value)));
  const output = [...masked].map((part) => `::add-mask::${workflowData(part)}\n`).join('');
  const githubEnv = lines(variables, ({ name, value }) => {
    const end = `kz_${randomBytes(16).toString('hex')}`;
    return `${name}<<${end}\n${value}\n${end}`;
  });
  return { output, githubEnv };
}

/** Its lines, without those of a JSON document that are only brackets: hiding these would blot every `{` out of the log. */
function maskedParts(value: string): string[] {
  const parts = value.split(/\r\n|\r|\n/).map((line) => line.trim());
  return parts.filter((part) => part !== '' && (parts.length === 1 || !/^[\s{}[\](),;]+$/.test(part)));
}

function workflowData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}
