// What `kz doctor` found, for people: a section each, a line each, and below what is wrong how to mend it. Never a value.
import { isatty } from 'node:tty';
import { formatPlace, type KzError } from '../core/errors.ts';
import { shortPath } from '../core/home-path.ts';
import {
  lacksSandbox,
  type CheckFinding,
  type Concern,
  type ConfigFinding,
  type Diagnosis,
  type LeaseFinding,
  type SecretFinding,
  type Surroundings,
} from '../run/doctor.ts';
import { FOR_DATABASE } from '../run/database.ts';
import type { ProviderFinding } from '../run/doctor-providers.ts';
import type { Runtime } from '../run/doctor-runtimes.ts';
import { NOTHING_DECLARED, presence } from './presence.ts';
import { printable, table } from './ui.ts';

export interface ViewOptions {
  /** Only what is wrong. */
  readonly quiet: boolean;
  /** Also what does not work with any version of a program. */
  readonly verbose: boolean;
  readonly version: string;
}

type Mark = 'ok' | 'fail' | 'warn' | 'none';

interface Row {
  readonly mark: Mark;
  /** One cell is a line of its own; more are columns. */
  readonly cells: readonly string[];
  readonly below?: readonly string[];
}

type Section = readonly [title: string, rows: readonly Row[]];

/** The whole text, with its last line end. */
export function doctorText(diagnosis: Diagnosis & Surroundings, options: ViewOptions): string {
  const sections: Section[] = [
    ['config', configRows(diagnosis.config)],
    ['providers', diagnosis.providers.map(providerRow)],
    ['secrets', secretRows(diagnosis.secrets)],
    ['leases', diagnosis.leases.map(leaseRow)],
    ['credentials', diagnosis.checks.map(checkRow)],
    ['this machine', machineRows(diagnosis, options)],
    ['programs, and what leads them through `kz run --blind`', runtimeRows(diagnosis.runtimes, options)],
  ];
  const kept = options.quiet ? sections.map(([title, rows]): Section => [title, rows.filter(({ mark }) => mark === 'fail')]) : sections;
  const texts = kept.filter(([, rows]) => rows.length > 0).map(([title, rows]) => `${title}\n${rowsText(rows)}`);
  const summary = summaryOf(diagnosis);
  return [...texts, ...(options.quiet && texts.length === 0 ? [] : [`${summary}\n`])].join('\n');
}

/** A provider that is down counts once, however many secrets it has. */
function summaryOf(diagnosis: Diagnosis & Surroundings): string {
  const { config, providers, secrets, checks } = diagnosis;
  const failures = [
    ...config.problems,
    ...providers.filter((provider) => provider.state === 'failed' && provider.error !== undefined),
    ...secrets.filter(({ secret, isExplained }) => secret.state === 'failed' && !isExplained),
    ...checks.filter(({ health }) => health.state !== 'accepted' && health.state !== 'not-asked'),
    ...(lacksSandbox(diagnosis) ? [diagnosis.sandbox] : []),
  ].length;
  if (failures === 0) return 'everything that the config needs works';
  return failures === 1 ? '1 thing does not work' : `${String(failures)} things do not work`;
}

function configRows({ files, searched, config, problems, warnings }: ConfigFinding): Row[] {
  const found = files.map(({ path, layer, how }): Row => row(problems.length > 0 ? 'none' : 'ok', [short(path), layer, how]));
  const failed = problems.map((problem) => failure(problem));
  const warned = warnings.map((text) => row('warn', [text]));
  if (config === undefined) {
    // `config-not-found` lists the places itself when nothing was named.
    const places = problems.some(({ code, message }) => code === 'config-not-found' && !message.includes('\n')) ? searched : [];
    return [...found, ...failed, ...places.map((path) => row('none', [`looked for ${short(path)}`]))];
  }
  const { environment, environments, secrets, documents } = config;
  const others = row('none', [`no environment is active; there are: ${environments.join(', ')}`]);
  const chosen = environment === undefined ? others : row('ok', [`environment ${environment.name} (from ${environment.chosenBy})`]);
  const isEmpty = secrets.size === 0 && documents.length === 0;
  return [
    ...found,
    ...(environments.length === 0 ? [] : [chosen]),
    ...(isEmpty ? [row('none', [NOTHING_DECLARED])] : []),
    ...failed,
    ...warned,
  ];
}

function providerRow(provider: ProviderFinding): Row {
  const { name, tookMs } = provider;
  switch (provider.state) {
    case 'ok':
      return row('ok', [name, milliseconds(tookMs), provider.detail]);
    case 'not-asked':
      return row('none', [name, milliseconds(tookMs), 'not asked']);
    case 'failed': {
      const { error } = provider;
      if (error === undefined) return row('warn', [name, milliseconds(tookMs), 'none of its secrets can be read: see below']);
      return row('fail', [name, milliseconds(tookMs), error.message], hintOf(error));
    }
  }
}

/** What many secrets have in common is said once: nobody needs it under each. */
function secretRows(findings: readonly SecretFinding[]): Row[] {
  const open = findings.filter(({ concerns }) => concerns.some(({ kind }) => kind === 'any-host'));
  const names = open.map(({ secret }) => secret.name).join(', ');
  const rows = findings.map((finding) => secretRow({ ...finding, concerns: finding.concerns.filter(({ kind }) => kind !== 'any-host') }));
  return open.length === 0 ? rows : [...rows, row('warn', [`${names}: ${concernText({ kind: 'any-host' })}`])];
}

function secretRow({ secret, isExplained, concerns }: SecretFinding): Row {
  const { name, source, tookMs } = secret;
  const from = [source.provider, source.ref, milliseconds(tookMs)];
  if (secret.state === 'failed') {
    const state = secret.error.code.replace(/^secret-/, '');
    return row('fail', [name, state, ...from], isExplained ? [] : [secret.error.message, ...hintOf(secret.error)]);
  }
  return row(concerns.length > 0 ? 'warn' : 'ok', [name, presence(secret), ...from], concerns.map(concernText));
}

export function concernText(concern: Concern): string {
  switch (concern.kind) {
    case 'short':
      return 'shorter than 8 bytes: where it is printed or sent back, it is not redacted';
    case 'any-host':
      return 'no `hosts`, and none can be inferred: in blind mode the value may go to any host';
    case 'database':
      return FOR_DATABASE;
    case 'not-blind':
      return `a blind run does not start with it: ${concern.error.message}`;
  }
}

function leaseRow({ provider, names, remainingMs, renewable }: LeaseFinding): Row {
  const left = remainingMs <= 0 ? 'ended' : `${span(remainingMs)} left`;
  const of = names.length === 0 ? 'login' : names.join(', ');
  return row(remainingMs <= 0 ? 'warn' : 'ok', [of, provider, left, renewable ? 'renewable' : 'not renewable']);
}

function checkRow({ name, request, health }: CheckFinding): Row {
  switch (health.state) {
    case 'accepted':
      return row('ok', [name, request, `${String(health.status)} in ${milliseconds(health.tookMs)}`]);
    case 'refused':
    case 'unknown':
    case 'not-sent':
      return row(
        'fail',
        [name, request, health.state === 'not-sent' ? 'not sent' : health.state],
        [health.error.message, ...hintOf(health.error)],
      );
    case 'not-asked':
      if (health.why === 'not-allowed') return row('warn', [name, request, `not sent: ${health.error.message}`], hintOf(health.error));
      return row('none', [name, request, health.why === 'no-live' ? 'not asked: --live sends it' : 'not asked: there is no value']);
  }
}

function machineRows(diagnosis: Diagnosis & Surroundings, { version }: ViewOptions): Row[] {
  const { machine, keychain } = diagnosis;
  const { node, platform, arch, kind, kzOnPath, proxy, warnings } = machine;
  const system = `kz ${version}, Node ${node.replace(/^v/, '')}, ${platform} ${arch}${kind === undefined ? '' : `, ${SYSTEMS[kind]}`}`;
  return [
    row('ok', [system]),
    ...(kzOnPath === undefined ? [] : [row('ok', [`kz on PATH: ${short(kzOnPath)}`])]),
    ...(proxy === undefined ? [] : [row('none', [`proxy of kz’s own environment: ${proxy}`])]),
    row(keychain.backend === 'none' ? 'none' : 'ok', [`keychain: ${keychain.detail}`]),
    sandboxRow(diagnosis),
    ...warnings.map(({ text, hint }) => row('warn', [text], hint === undefined ? [] : [`hint: ${hint}`])),
  ];
}

function sandboxRow(diagnosis: Diagnosis & Surroundings): Row {
  const { level, backend, version, why, fix } = diagnosis.sandbox;
  const below = fix === undefined ? [] : [`hint: ${fix}`];
  const because = why === undefined ? '' : `: ${why}`;
  if (level === 'none') {
    const isNeeded = lacksSandbox(diagnosis);
    const text = `sandbox: not available${because}`;
    return row(isNeeded ? 'fail' : 'none', [isNeeded ? `${text}, and the config says "strict"` : text], below);
  }
  const name = [backend, version].filter((part) => part !== undefined).join(' ');
  const text = `sandbox: ${level} (${name}): ${LEVELS[level]}`;
  return row(level === 'full' && why === undefined ? 'ok' : 'warn', [text], [...(why === undefined ? [] : [why]), ...below]);
}

const LEVELS = {
  full: 'own network, every client is led through kz',
  basic: 'nothing but kz can be reached, by clients that know a proxy',
} as const;

const SYSTEMS = { container: 'in a container', wsl: 'in WSL' } as const;

function runtimeRows(runtimes: readonly Runtime[], { verbose }: ViewOptions): Row[] {
  const missing = runtimes.filter(({ path }) => path === undefined).map(({ name }) => name);
  const rows = runtimes.flatMap(({ name, path, version = 'unknown version', proxy, trust, warnings, limits }) => {
    if (path === undefined) return [];
    const led = proxy === trust ? proxy : `${proxy}; ${trust}`;
    return [row(warnings.length > 0 ? 'warn' : 'ok', [name, version, short(path), led], [...warnings, ...(verbose ? limits : [])])];
  });
  return [...rows, ...(missing.length === 0 ? [] : [row('none', [`not on PATH: ${missing.join(', ')}`])])];
}

function failure(problem: KzError): Row {
  const place = problem.at === undefined ? '' : `${formatPlace({ ...problem.at, file: short(problem.at.file) })}: `;
  const [message = '', ...more] = problem.message.split(/\n */);
  return row('fail', [place + message], [...more.map(short), ...hintOf(problem)]);
}

function hintOf({ hint }: KzError): readonly string[] {
  return hint === undefined ? [] : [`hint: ${hint}`];
}

function row(mark: Mark, cells: readonly string[], below: readonly string[] = []): Row {
  return { mark, cells, below };
}

function short(path: string): string {
  return shortPath(path, process.env);
}

function milliseconds(ms: number | undefined): string {
  return ms === undefined ? '-' : `${ms.toFixed(0)} ms`;
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
] as const;

/** In the largest unit of which there are at least two. */
function span(ms: number): string {
  const [unit, size] = UNITS.find((each) => ms >= 2 * each[1]) ?? ['s', 1_000];
  return `${String(Math.floor(ms / size))} ${unit}`;
}

const WORDS: Readonly<Record<Mark, string>> = { ok: 'ok  ', fail: 'FAIL', warn: '!   ', none: '-   ' };
const SIGNS: Readonly<Record<Mark, string>> = { ok: '✓', fail: '✗', warn: '!', none: '-' };

function rowsText(rows: readonly Row[]): string {
  const marks = drawsSigns() ? SIGNS : WORDS;
  const columns = table(rows.filter(({ cells }) => cells.length > 1).map(({ cells }) => cells)).split('\n');
  const indent = ' '.repeat(marks.ok.length + 4);
  return rows
    .flatMap(({ mark, cells, below = [] }) => {
      const text = cells.length > 1 ? (columns.shift() ?? '') : printable(cells.join(''));
      return [`  ${marks[mark]}  ${text}`, ...below.map((line) => `${indent}  ${printable(line)}`)];
    })
    .map((line) => `${line}\n`)
    .join('');
}

function drawsSigns(): boolean {
  const { LC_ALL: all, LC_CTYPE: type, LANG: language } = process.env;
  return isatty(1) && /utf-?8/i.test([all, type, language].find((each) => each !== undefined && each !== '') ?? '');
}
