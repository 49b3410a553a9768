// `kz server`: lets agents and workloads use credentials that they do not hold, after a token and a policy said yes.
import { stdin, stdout } from 'node:process';
import { Option, type Command } from 'commander';
import type { BundleWarning } from '../../config/bundle-warnings.ts';
import { bundleWarnings } from '../../config/bundle.ts';
import { formatPlace, KzError } from '../../core/errors.ts';
import { parseAuthority } from '../../core/host-name.ts';
import { Signals } from '../../run/signals.ts';
import type { Compiled } from '../../server/compile.ts';
import { VERSION } from '../built.ts';
import { endSoon, interruptible } from '../exit.ts';
import { durationArgument, listArgument, providerContext, useVoice, withSubcommands } from '../options.ts';
import { defineServerInit, defineServerPut, defineServerToken } from '../server-local.ts';
import { notice, print, printJson, printLine, table, tellWithoutWaiting, warn } from '../ui.ts';

interface BundleFlags {
  readonly bundle: string;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

interface StartFlags extends BundleFlags {
  readonly listen?: string;
  readonly mcp?: boolean;
  readonly proxy?: string;
  readonly proxyCaFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly allowPlaintext?: boolean;
  readonly allowHost?: string[];
  readonly allowOrigin?: string[];
  readonly jwtFile?: string;
  readonly jwtAudience?: string;
  readonly tokenKeyFile?: string;
  readonly healthCheck?: boolean;
  readonly audit?: string;
  readonly rate: number;
  readonly timeout: number;
}

interface CheckFlags extends BundleFlags {
  readonly timeout: number;
  readonly json?: boolean;
  readonly live?: boolean;
}

export function defineServer(command: Command): void {
  withSubcommands(command, ['init', 'put', 'check', 'start', 'token']);
  command.addHelpText('after', '\nExample:\n  kz server check --bundle bundle.yaml\n  kz server start --bundle bundle.yaml --mcp');
  defineServerInit(command.command('init').summary('write a starter bundle').description('write a starter bundle'));
  defineStart(command.command('start').summary('serve a bundle').description('serve a bundle'));
  defineCheck(command.command('check').summary('check a bundle').description('check a bundle'));
  const forWhom = 'print a token of your local issuer';
  const whatIsPut = 'store the value of a resource';
  defineServerPut(command.command('put').summary(whatIsPut).description(whatIsPut));
  defineServerToken(command.command('token').summary(forWhom).description(forWhom));
}

function withBundleFlags(command: Command): Command {
  return command
    .requiredOption('-b, --bundle <file>', 'the bundle: who may use what, and where it lives')
    .option('-q, --quiet', 'print errors only')
    .option('-v, --verbose', 'say more (never values)');
}

function defineStart(command: Command): void {
  withBundleFlags(command)
    .option('-l, --listen <address>', 'HTTP: address and port (default: 127.0.0.1:8080, unless --mcp)')
    .option('--mcp', 'an MCP server on standard input and output')
    .option('--proxy <address>', 'also a proxy that swaps the tokens of its callers')
    .option('--proxy-ca-file <file>', 'write the certificate of the proxy’s authority there')
    .option('--tls-cert <file>', 'PEM: the certificate to serve with')
    .option('--tls-key <file>', 'PEM: its key')
    .option('--allow-plaintext', 'serve other machines without TLS: something in front of kz has it')
    .addOption(new Option('--allow-host <names>', 'names that clients may call a server on loopback').argParser(hostsArgument))
    .addOption(new Option('--allow-origin <origins>', 'browser origins that may call').argParser(originsArgument))
    .option('--jwt-file <file>', 'the token of callers who bring none: read again for each call')
    .option('--jwt-audience <name>', 'get that token from the CI system, for this audience')
    .option('--token-key-file <file>', 'keys that seal masked tokens, shared by replicas (default: $KEYZERO_TOKEN_KEY_PATH)')
    .option('--health-check', 'offer the tool health_check')
    .option('--audit <where>', 'where decisions are logged: stdout, stderr, file, none or a path (default: stdout; with --mcp file)')
    .addOption(new Option('--rate <number>', 'most calls a second of one caller, or off').argParser(rateArgument).default(100))
    .addOption(new Option('--timeout <duration>', 'longest exchange of fetch').argParser(durationArgument).default(30_000, '30s'))
    .addHelpText(
      'after',
      '\nA token (JWT) comes with each call, from --jwt-file, from $KEYZERO_JWT, or from the CI system.\nThe bundle is read again when it changes, or on SIGHUP; one that is wrong changes nothing.\n\nExample:\n  kz server start --bundle bundle.yaml --mcp --jwt-file agent.jwt',
    )
    .action(start);
}

function defineCheck(command: Command): void {
  withBundleFlags(command)
    .option('--live', 'also ask: issuers for their keys, backends whether they let kz in')
    .addOption(new Option('--timeout <duration>', 'longest wait with --live').argParser(durationArgument).default(20_000, '20s'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nReports every problem at once, with file:line:column.\n\nExample:\n  kz server check --bundle bundle.yaml')
    .action(check);
}

async function start(flags: StartFlags): Promise<void> {
  useVoice(flags);
  const { startServer } = await import('../../server/serve.ts');
  const signals = new Signals();
  const parent = new Parent();
  try {
    const context = providerContext();
    const server = await startServer({
      ...{ context, version: VERSION, bundle: flags.bundle, healthCheck: flags.healthCheck === true },
      listen: flags.listen ?? (flags.mcp === true ? undefined : '127.0.0.1:8080'),
      mcp: flags.mcp === true ? { stdin, stdout } : undefined,
      proxy: flags.proxy,
      proxyCaFile: flags.proxyCaFile,
      tls: tlsFiles(flags),
      allowPlaintext: flags.allowPlaintext === true,
      allowedHosts: flags.allowHost ?? [],
      allowedOrigins: flags.allowOrigin ?? [],
      jwt: { file: flags.jwtFile, audience: flags.jwtAudience },
      tokenKeyFile: flags.tokenKeyFile,
      audit: flags.audit,
      callsPerSecond: flags.rate,
      fetchTimeoutMs: flags.timeout,
      tell: tellWithoutWaiting,
    });
    for (const line of server.announcements) notice(line);
    if (flags.mcp === true && stdin.isTTY) notice('speaks MCP on standard input: an MCP client is meant to start this command');
    signals.deliverTo((signal) => {
      if (signal === 'SIGHUP') server.reload();
      else if (signal !== 'SIGUSR1' && signal !== 'SIGUSR2') server.stop();
    });
    if (flags.mcp === true) {
      parent.onceGone(() => {
        server.stop();
      });
    }
    await server.ended;
    // A client that reads nothing leaves answers in the pipe, and Node would wait until they are read.
    endSoon();
  } finally {
    parent.forget();
    signals.close();
  }
}

/** In milliseconds. */
const LOOK_AT_PARENT = 1000;

/**
 * Who started us. A client that was killed may leave standard input open in some other process that it had started; then the server would wait for it
 * for ever. A parent that had ended before we looked was a launcher, and says nothing.
 */
class Parent {
  readonly #pid = process.ppid;
  #timer: NodeJS.Timeout | undefined;

  onceGone(tell: () => void): void {
    if (this.#pid === 1) return;
    this.#timer = setInterval(() => {
      if (process.ppid === this.#pid) return;
      this.forget();
      tell();
    }, LOOK_AT_PARENT).unref();
  }

  forget(): void {
    clearInterval(this.#timer);
  }
}

function tlsFiles({ tlsCert: certFile, tlsKey: keyFile }: StartFlags): { certFile: string; keyFile: string } | undefined {
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new KzError('usage', `--tls-${certFile === undefined ? 'key' : 'cert'} needs --tls-${certFile === undefined ? 'cert' : 'key'}`);
  }
  return { certFile, keyFile };
}

/** 0: as many as it likes. */
function rateArgument(text: string): number {
  if (text === 'off') return 0;
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new KzError('usage', `--rate cannot be ${JSON.stringify(text)}`, { hint: 'a number from 1, or off' });
}

/** Names without a port, as the `Host` of a request is compared. */
function hostsArgument(text: string, previous?: string[]): string[] {
  const names = listArgument(text, previous);
  for (const name of names) {
    if (parseAuthority(name, 80) !== undefined) continue;
    throw new KzError('usage', `--allow-host cannot be ${JSON.stringify(name)}`, { hint: 'the name alone: kz.example.com' });
  }
  return names;
}

/** As browsers write them. Any other text would never be the one that they send. */
function originsArgument(text: string, previous?: string[]): string[] {
  const origins = listArgument(text, previous);
  for (const origin of origins) {
    const meant = /^https?:/i.test(origin) && URL.canParse(origin) ? new URL(origin).origin : undefined;
    // Those of extensions have schemes of their own.
    if (meant === undefined ? /^(?!https?:)[a-z][a-z+.-]*:\/\/[\w.-]+$/.test(origin) : meant === origin) continue;
    const hint = meant === undefined ? 'scheme and host: https://app.example.com' : `write ${meant}`;
    throw new KzError('usage', `--allow-origin cannot be ${JSON.stringify(origin)}`, { hint });
  }
  return origins;
}

async function check(flags: CheckFlags): Promise<void> {
  useVoice(flags);
  try {
    const { compileBundle } = await import('../../server/compile.ts');
    const compiled = await compileBundle(flags.bundle, { context: providerContext() });
    const live = flags.live === true ? await askAll(compiled, flags.timeout) : [];
    const { searchWarnings } = await import('../../server/policies/compile-policies.ts');
    const warnings = [...bundleWarnings(compiled.bundle), ...searchWarnings(compiled.bundle, compiled.policies)];
    report({ ...compiled, warnings }, live, flags);
    if (live.some(({ problem }) => problem !== undefined)) process.exitCode = 1;
  } catch (error) {
    if (flags.json !== true || !(error instanceof KzError)) throw error;
    const problems = error.code === 'several' ? error.problems : [error];
    printJson({ schema_version: 1, valid: false, problems: problems.map(problemJson), warnings: [] });
    process.exitCode = error.exitStatus;
  }
}

interface LiveFinding {
  readonly what: string;
  /** Undefined: it works. */
  readonly problem: string | undefined;
  /** What to do about it. */
  readonly hint?: string | undefined;
}

/** Issuers for their keys, backends whether they let kz in. */
async function askAll({ verifier, backends }: Compiled, timeoutMs: number): Promise<readonly LiveFinding[]> {
  const signals = new Signals();
  try {
    return await interruptible(signals, AbortSignal.timeout(timeoutMs), async (signal) => {
      const { inBundle } = await import('../../server/backends.ts');
      const [issuers, found] = await Promise.all([verifier.check(signal), backends.check(signal)]);
      return [
        ...[...issuers].map(([name, error]) => ({ what: `issuer ${name}`, problem: error?.message, hint: error?.hint })),
        ...found.map(({ name, error }) => ({ what: `backend ${name}`, problem: error?.message, hint: inBundle(error?.hint, name) })),
      ];
    });
  } finally {
    signals.close();
    await backends.close(AbortSignal.timeout(GIVE_BACK_MS));
  }
}

const GIVE_BACK_MS = 1500;

interface Checked extends Compiled {
  readonly warnings: readonly BundleWarning[];
}

function report({ bundle, policies, warnings }: Checked, live: readonly LiveFinding[], flags: CheckFlags): void {
  const { file, version, issuers, resources, backends } = bundle;
  if (flags.json === true) {
    const counts = { issuers: issuers.length, policies: policies.length, resources: resources.length, backends: backends.size };
    const findings = live.map(({ what, problem, hint }) => ({ what, problem: problem ?? null, hint: hint ?? null }));
    const texts = warnings.map(({ text, at }) => `${formatPlace(at)}: ${text}`);
    printJson({ schema_version: 1, valid: true, file, version, ...counts, live: findings, problems: [], warnings: texts });
    return;
  }
  for (const { text, at } of warnings) warn(`${formatPlace(at)}: ${text}`);
  printLine(`${file}: ok`);
  const counts = [counted(issuers.length, 'issuer'), counted(policies.length, 'policy', 'policies'), counted(backends.size, 'backend')];
  printLine(`${counts.join(', ')}; what no policy allows is denied`);
  if (resources.length > 0) {
    const rows = resources.map(({ ref, mode, resolver, hosts, methods }) => [ref, mode, resolver, hosts.join(', '), methods.join(', ')]);
    print(`\n${table([['RESOURCE', 'MODE', 'BACKEND', 'HOSTS', 'METHODS'], ...rows])}`);
  }
  if (live.length > 0)
    print(`\n${table(live.map(({ what, problem = 'ok', hint }) => [what, hint === undefined ? problem : `${problem}; ${hint}`]))}`);
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${String(count)} ${count === 1 ? one : many}`;
}

function problemJson({ code, message, hint, at }: KzError): unknown {
  return { code, message, hint: hint ?? null, file: at?.file ?? null, line: at?.line ?? null, column: at?.column ?? null };
}
