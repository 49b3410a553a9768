// Every format of `kz export`, read back by what it is for.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import dotenvx from '@dotenvx/dotenvx';
import { afterAll, describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { EXPORT_FORMATS, type ExportFormat, type Variable } from '../../src/cli/export-formats.ts';
import { parseDocument } from '../../src/providers/document.ts';
import { NASTY, WITH_CARRIAGE_RETURN } from './nasty-values.ts';

type Values = Readonly<Record<string, string>>;

const ALL: Values = { ...NASTY, ...WITH_CARRIAGE_RETURN };
const FOLDER = mkdtempSync(join(tmpdir(), 'kz-export-'));

afterAll(() => {
  rmSync(FOLDER, { recursive: true });
});

/** `V0`, `V1`, … and one more behind them, which is lost when a value before it did not end where it should. */
function variablesOf(values: Values): Variable[] {
  return [...Object.values(values), "#'last'"].map((value, index) => ({ name: `V${String(index)}`, value }));
}

function objectOf(variables: readonly Variable[]): Record<string, string> {
  return Object.fromEntries(variables.map(({ name, value }) => [name, value]));
}

/** What a format refuses, by the description of the value. */
function refusedBy(format: ExportFormat, values: Values): string[] {
  const refuses = (value: string): boolean => {
    try {
      EXPORT_FORMATS[format]([{ name: 'X', value }]);
      return false;
    } catch (error) {
      expect(String(error)).not.toContain(value);
      return true;
    }
  };
  return Object.entries(values).flatMap(([what, value]) => (refuses(value) ? [what] : []));
}

function without(values: Values, names: readonly string[]): Values {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));
}

function saved(name: string, text: string): string {
  const path = join(FOLDER, name);
  writeFileSync(path, text);
  return path;
}

function isMissing(program: string, args: readonly string[] = ['-c', ':']): boolean {
  return spawnSync(program, [...args]).status !== 0;
}

/** The variables that a shell exports after reading the file as people would have it read. */
function exportedBy(shell: string, args: readonly string[], source: string): Record<string, string> {
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', HOME: FOLDER };
  const script = saved('script', `${source}\nenv -0\n`);
  const { stdout } = spawnSync(shell, [...args, script], { encoding: 'utf8', env, maxBuffer: 1e8 });
  const pairs = stdout.split('\0').map((line): [string, string] => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
  return Object.fromEntries(pairs.filter(([name]) => /^V\d+$/.test(name)));
}

describe('shell and fish', () => {
  const eval_ = (file: string): string => `eval "$(cat '${file}')"`;
  it.for([
    { format: 'shell', shell: 'sh', args: [], read: eval_ },
    { format: 'shell', shell: 'bash', args: [], read: eval_ },
    { format: 'shell', shell: 'zsh', args: ['-f'], read: eval_ },
    { format: 'fish', shell: 'fish', args: ['--no-config'], read: (file: string) => `cat '${file}' | source` },
  ] as const)('$shell reads --format $format', ({ format, shell, args, read }, { skip }) => {
    skip(isMissing(shell), `${shell} is not installed`);
    const variables = variablesOf(ALL);
    const file = saved(format, EXPORT_FORMATS[format](variables).output);
    expect(exportedBy(shell, args, read(file))).toEqual(objectOf(variables));
  });
});

describe('dotenv', () => {
  const refused = refusedBy('dotenv', ALL);
  const variables = variablesOf(without(ALL, refused));
  const { output } = EXPORT_FORMATS.dotenv(variables);

  it('refuses only what no quotes can hold', () => {
    expect(refused).toEqual(Object.keys(WITH_CARRIAGE_RETURN));
    expect(refusedBy('dotenv', { all: `'"\`$`, backslash: '$x\\', quotes: "'#\\" })).toEqual(['all', 'backslash', 'quotes']);
  });

  it('is what kz reads itself', async () => {
    expect(Object.fromEntries(await parseDocument(output, 'dotenv', 'it'))).toEqual(objectOf(variables));
  });

  it('is what dotenvx reads', () => {
    expect(dotenvx.parse(output, { processEnv: { HOME: '/home/me' } })).toEqual(objectOf(variables));
  });

  it('is what python-dotenv reads, two backslashes together and what it would expand aside', ({ skip }) => {
    skip(isMissing('python3', ['-c', 'import dotenv']), 'python-dotenv is not installed');
    const bent = ['a variable', 'two backslashes at the end, and a space'];
    const some = variablesOf(without(ALL, [...refused, ...bent]));
    const program = 'import dotenv, json, sys; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))';
    const { stdout } = spawnSync('python3', ['-c', program, saved('env', EXPORT_FORMATS.dotenv(some).output)], { encoding: 'utf8' });
    expect(JSON.parse(stdout)).toEqual(objectOf(some));
  });

  it('is what a shell reads, for values that need no more than single quotes', () => {
    const plain = variablesOf(Object.fromEntries(Object.entries(NASTY).filter(([, value]) => !/'|\\\\|\\$/.test(value))));
    const file = saved('sourced', EXPORT_FORMATS.dotenv(plain).output);
    expect(exportedBy('sh', [], `set -a; . '${file}'`)).toEqual(objectOf(plain));
  });

  it('keeps a backslash at the end away from the quotes of the next value', async () => {
    const tricky = variablesOf({ a: 'C:\\dir\\', b: '#\nx', c: 'D:\\my dir\\', d: "\n'" });
    const text = EXPORT_FORMATS.dotenv(tricky).output;
    expect(Object.fromEntries(await parseDocument(text, 'dotenv', 'it'))).toEqual(objectOf(tricky));
    expect(dotenvx.parse(text)).toEqual(objectOf(tricky));
  });
});

describe('json', () => {
  it('is one object with every value, in order', () => {
    const variables = variablesOf(ALL);
    const read = JSON.parse(EXPORT_FORMATS.json(variables).output) as Record<string, string>;
    expect(read).toEqual(objectOf(variables));
    expect(Object.keys(read)).toEqual(variables.map(({ name }) => name));
    expect(EXPORT_FORMATS.json([]).output).toBe('{}\n');
  });
});

describe('yaml', () => {
  const variables = [...variablesOf(ALL), ...['NO', 'y', 'null', 'True'].map((name) => ({ name, value: 'x' }))];
  const { output } = EXPORT_FORMATS.yaml(variables);

  it.for(['1.1', '1.2'] as const)('is what YAML %s reads', (version) => {
    expect(parseYaml(output, { version, schema: version === '1.1' ? 'yaml-1.1' : 'core' })).toEqual(objectOf(variables));
  });

  it('is what PyYAML reads', ({ skip }) => {
    skip(isMissing('python3', ['-c', 'import yaml']), 'PyYAML is not installed');
    const program = 'import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding="utf-8"))))';
    const { stdout } = spawnSync('python3', ['-c', program, saved('yaml', output)], { encoding: 'utf8', maxBuffer: 1e8 });
    expect(JSON.parse(stdout)).toEqual(objectOf(variables));
  });
});

describe('docker', () => {
  it('is what docker reads', () => {
    const lines = Object.keys(ALL).filter((name) => /[\r\n]/.test(ALL[name] ?? ''));
    expect(refusedBy('docker', ALL)).toEqual(lines);
    const variables = variablesOf(without(ALL, lines));
    expect(readAsDocker(EXPORT_FORMATS.docker(variables).output)).toEqual(objectOf(variables));
  });

  it('refuses a line that docker gives up on', () => {
    expect(refusedBy('docker', { longest: 'x'.repeat(65_533), longer: 'x'.repeat(65_534) })).toEqual(['longer']);
  });
});

/** opts/file.go of docker/cli, with its bufio.Scanner: lines of less than 64 KiB, nothing trimmed behind the `=`, no quotes. */
function readAsDocker(text: string): Record<string, string> {
  const pairs = text
    .replace(/\n$/, '')
    .split('\n')
    .flatMap((scanned): [string, string][] => {
      if (Buffer.byteLength(scanned) >= 64 * 1024) throw new Error('bufio.Scanner: token too long');
      const line = scanned.replace(/\r$/, '').trimStart();
      if (line === '' || line.startsWith('#')) return [];
      const equals = line.indexOf('=');
      if (equals < 1 || /\s/.test(line.slice(0, equals))) throw new Error('invalid environment variable');
      return [[line.slice(0, equals), line.slice(equals + 1)]];
    });
  return Object.fromEntries(pairs);
}

describe('gha', () => {
  const variables = variablesOf(ALL);
  const { output, githubEnv = '' } = EXPORT_FORMATS.gha(variables);

  it('appends what the runner reads back', () => {
    expect(readAsRunner(githubEnv)).toEqual(objectOf(variables));
  });

  it('cannot be ended early by a value', () => {
    const [first] = githubEnv.split('\n');
    const end = first?.split('<<')[1] ?? '';
    expect(end).toMatch(/^kz_[0-9a-f]{32}$/);
    expect(EXPORT_FORMATS.gha(variables).githubEnv).not.toContain(end);
  });

  it('masks every line that says something', () => {
    const masked = output
      .split('\n')
      .filter((line) => line !== '')
      .map(dataOfMask);
    for (const value of Object.values(ALL)) {
      for (const line of value.split(/\r\n|\r|\n/).map((text) => text.trim())) {
        if (/[\p{L}\p{N}]/u.test(line)) expect(masked).toContain(line);
      }
    }
    expect(masked).toContain("#'last'");
    expect(new Set(masked).size).toBe(masked.length);
  });

  it('does not mask the brackets of a document, but a value of brackets', () => {
    expect(EXPORT_FORMATS.gha([{ name: 'X', value: '{\n  "a": 1\n},\n[' }]).output).toBe('::add-mask::"a": 1\n');
    expect(EXPORT_FORMATS.gha([{ name: 'X', value: '({[' }]).output).toBe('::add-mask::({[\n');
  });
});

/** Runner.Common/ActionCommand.cs: the data of a command is unescaped, last the percent sign. */
function dataOfMask(line: string): string {
  expect(line).toMatch(/^::add-mask::/);
  return line.slice('::add-mask::'.length).replaceAll('%0D', '\r').replaceAll('%0A', '\n').replaceAll('%25', '%');
}

/** Runner.Worker/FileCommandManager.cs, on Linux: lines end with LF only, and a value is the text between, as it is. */
function readAsRunner(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  let index = 0;
  const readLine = (): string | undefined => {
    if (index >= text.length) return undefined;
    const feed = text.indexOf('\n', index);
    const line = text.slice(index, feed === -1 ? text.length : feed);
    index = feed === -1 ? text.length : feed + 1;
    return line;
  };
  for (let line = readLine(); line !== undefined; line = readLine()) {
    if (line === '') continue;
    const [name = '', end = ''] = line.split('<<');
    if (name === '' || name.includes('=') || end === '') throw new Error(`not NAME<<END: ${line.slice(0, 40)}`);
    const lines: string[] = [];
    for (let inner = readLine(); inner !== end; inner = readLine()) {
      if (inner === undefined) throw new Error('matching delimiter not found');
      lines.push(inner);
    }
    found[name] = lines.join('\n');
  }
  return found;
}
