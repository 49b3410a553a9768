// `kz explain`: what a blind run would do with one request. Sends nothing.
import { Option, type Command } from 'commander';
import { formatPlace, type Place } from '../../core/errors.ts';
import { shortPath } from '../../core/home-path.ts';
import type { Scope } from '../../mask/scope.ts';
import type { RuleEntry } from '../../policy/rule.ts';
import { resolveSecrets } from '../../providers/secrets.ts';
import { explain, parseQuestion, type Explanation, type MissingRule, type SecretAnswer } from '../../run/explain.ts';
import { openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { detail, print, printable, printJson, printLine, table } from '../ui.ts';

interface ExplainFlags extends ConfigFlags {
  readonly method: string;
  readonly json?: boolean;
}

const HELP = `
Says which rule decides and whose token would be swapped. Sends nothing and
looks no name up. Reads only values whose hosts have to be inferred.
Exits with 0 when the request would be allowed, with 1 when it would not.

Example:
  kz explain https://api.github.com/user/repos --method POST`;

export function defineExplain(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('<url>', 'http, https, ws or wss')
    .addOption(new Option('--method <method>', 'HTTP method').default('GET'))
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action(run);
}

async function run(url: string, flags: ExplainFlags): Promise<void> {
  const question = parseQuestion(url, flags.method.toUpperCase());
  const { config, access } = await openConfig(flags);
  for (const { path, how } of config.files) detail(`config ${path} (${how})`);
  const explanation = await withDeadline(flags, (signal) => explain(config, question, (part) => resolveSecrets(part, {}, access, signal)));
  if (flags.json === true) printJson(document(explanation));
  else report(explanation);
  if (!explanation.allowed) process.exitCode = 1;
}

function report(explanation: Explanation): void {
  const { question, url, secrets, allowed, missing } = explanation;
  printLine(`${question.method} ${url}`);
  print(table(facts(explanation)));
  if (secrets.length > 0) {
    print(allowed ? '\n' : '\nNothing is sent. Were it allowed:\n');
    print(table([['SECRET', 'SWAPPED', 'WHERE', 'MAY GO TO'], ...secrets.map(cells)]));
    if (secrets.some((secret) => secret.state === 'masked' && secret.swap === undefined)) print(DEFAULT_PLACES);
  }
  if (missing !== undefined) print(`\n${ruleAdvice(missing).map(printable).join('\n')}\n`);
  const hosts = secrets.flatMap(hostsAdvice);
  if (hosts.length > 0) print(`\nTo swap a token there, if this host may have the secret, set on it:\n${table(hosts)}`);
}

const DEFAULT_PLACES = `
default: Authorization, Cookie and headers, query parameters, form and JSON
fields that are named like a credential; the path for a webhook's URL
`;

function facts({ question, decision, place, address, allowed, isPathAmbiguous }: Explanation): string[][] {
  const { host, port, written } = question;
  const how = decision.allow ? 'allowed' : 'denied';
  const rule = decision.rule === undefined ? '' : ` (${entryText(decision.rule.entry)})`;
  const byRule = `${how} by ${placeText(place)}${rule}`;
  const because = { 'no-rules': 'allowed: there are no rules', 'no-match': 'denied: no rule matches it', rule: byRule }[decision.why];
  const spelling = written === undefined ? '' : `, written ${JSON.stringify(written)}`;
  return [
    ['verdict', allowed ? 'allowed' : 'denied'],
    ['host', `${host}:${String(port)}${spelling}`],
    ['rule', because],
    ...(address === undefined ? [] : [['address', addressText(address, host)]]),
    ...(isPathAmbiguous ? [['path', 'servers may read it in different ways: no rule with a path can allow it']] : []),
  ];
}

function entryText({ host, port, methods, path }: RuleEntry): string {
  return [
    `host = ${JSON.stringify(host)}`,
    ...(port === undefined ? [] : [`port = ${String(port)}`]),
    ...(methods === undefined ? [] : [`methods = [${methods.map((method) => JSON.stringify(method)).join(', ')}]`]),
    ...(path === undefined ? [] : [`path = ${JSON.stringify(path)}`]),
  ].join(', ');
}

function addressText({ kind, named }: NonNullable<Explanation['address']>, host: string): string {
  if (kind === 'public') return 'public';
  if (kind === undefined) return named ? 'any: the rule names the host' : 'only a public one: no rule names the host';
  const what = kind === 'special' ? 'of special use' : kind;
  const direct = kind === 'loopback' ? '; Node programs reach it without kz, and no token is swapped' : '';
  return `${what}: ${named ? `reached, as the rule names ${host}` : 'refused, as no rule names it'}${direct}`;
}

function cells(secret: SecretAnswer): string[] {
  const { name } = secret;
  switch (secret.state) {
    case 'masked':
      return [name, secret.covered ? 'yes' : 'no', secret.swap?.join(', ') ?? 'default', scopeText(secret.scope)];
    case 'exposed':
      return [name, 'exposed', '-', `${scopeText(secret.scope)}; a request with its value is ${secret.covered ? 'sent' : 'blocked'}`];
    case 'absent':
      return [name, 'absent', '-', 'it is optional and not there'];
    case 'unknown':
      return [name, 'unknown', '-', `its value is needed to tell: ${secret.problem.message}`];
    case 'refused':
      return [name, 'refused', '-', `a blind run does not start with it: ${secret.problem.message}`];
  }
}

const MOST_PATTERNS = 3;

function scopeText({ from, patterns }: Scope): string {
  const shown = patterns.slice(0, MOST_PATTERNS).join(', ');
  const more = patterns.length > MOST_PATTERNS ? ` and ${String(patterns.length - MOST_PATTERNS)} more` : '';
  return from === 'any' ? FROM.any : `${shown}${more} (${FROM[from]})`;
}

const FROM: Readonly<Record<Scope['from'], string>> = {
  hosts: 'its hosts',
  url: 'the host in its value',
  vendor: 'the vendor of its prefix',
  rules: 'the hosts that rules name',
  any: 'any host: it has no hosts, and none can be inferred',
};

function ruleAdvice({ lines, above, file, isFirst }: MissingRule): string[] {
  const where = above === undefined ? `to ${shortPath(file, process.env)}` : `above ${placeText(above)}`;
  const rest = ['It is the first rule, and what no rule matches is denied. To go on allowing it, add last:', ...ALLOW_ALL];
  return [`To allow it, add ${where}:`, ...lines.map(indented), ...(isFirst ? rest : [])];
}

const ALLOW_ALL = ['[[blind.connections]]', 'allow = true', 'host = "*"'].map(indented);

function hostsAdvice({ name, state, hosts }: SecretAnswer): string[][] {
  if (hosts === undefined || state === 'exposed') return [];
  return [[indented(name), `hosts = [${hosts.map((host) => JSON.stringify(host)).join(', ')}]`]];
}

function indented(line: string): string {
  return `  ${line}`;
}

function placeText(place: Place | undefined): string {
  if (place === undefined) return 'a rule';
  const { file, line } = place;
  return formatPlace({ file: shortPath(file, process.env), ...(line === undefined ? {} : { line }) });
}

function document({ question, decision, place, address, allowed, secrets, url, missing }: Explanation): unknown {
  const { method, host, port, written } = question;
  const { rule } = decision;
  return {
    schema_version: 1,
    method,
    url,
    host,
    port,
    written: written ?? null,
    allowed,
    decision: {
      allow: decision.allow,
      why: decision.why,
      rule: rule === undefined ? null : { index: rule.index, ...placeJson(place), ...entryJson(rule.entry) },
    },
    address: address === undefined ? null : { kind: address.kind ?? null, named: address.named },
    secrets: secrets.map(secretJson),
    missing_rule: missing === undefined ? null : { toml: missing.lines.join('\n'), above: missing.above ?? null, file: missing.file },
  };
}

function placeJson(place: Place | undefined): object {
  return { file: place?.file ?? null, line: place?.line ?? null, column: place?.column ?? null };
}

function entryJson({ allow, host, port, methods, path }: RuleEntry): object {
  return { allow, host, port: port ?? null, methods: methods ?? null, path: path ?? null };
}

function secretJson(secret: SecretAnswer): unknown {
  const { name, state, hosts } = secret;
  const scope = 'scope' in secret ? { from: secret.scope.from, hosts: secret.scope.patterns, covers: secret.covered } : null;
  const problem =
    'problem' in secret ? { code: secret.problem.code, message: secret.problem.message, hint: secret.problem.hint ?? null } : null;
  const swapped = state === 'unknown' || state === 'refused' ? null : state === 'masked' && secret.covered;
  return { name, state, swapped, scope, swap: state === 'masked' ? (secret.swap ?? null) : null, hosts_needed: hosts ?? null, problem };
}
