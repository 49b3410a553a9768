// `kz policy`: are the policies of a bundle what they are meant to be? Reads files only; no token is verified and no secret is fetched.
import { Option, type Command } from 'commander';
import { loadBundle, type Bundle } from '../../config/bundle.ts';
import { formatPlace, KzError } from '../../core/errors.ts';
import { TOOLS, type Explained, type Step, type Tool, type Verdict } from '../../policy/permit.ts';
import type { CaseResult } from '../../server/policies/policy-cases.ts';
import type { PolicyExplanation } from '../../server/policies/policy-explain.ts';
import { useVoice, withSubcommands } from '../options.ts';
import { readText } from '../read-text.ts';
import { print, printJson, printLine, table } from '../ui.ts';

interface BundleFlags {
  readonly bundle: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

interface TestFlags extends BundleFlags {
  readonly cases: string;
}

interface ExplainFlags extends BundleFlags {
  readonly ref: string;
  readonly issuer?: string;
  readonly claims?: string;
  readonly claim?: Readonly<Record<string, string>>;
  readonly jwtFile?: string;
  readonly context?: Readonly<Record<string, string>>;
  readonly tool?: Tool;
  readonly method?: string;
  readonly url?: string;
}

export function definePolicy(command: Command): void {
  withSubcommands(command, ['test', 'explain']);
  command
    .helpCommand(false)
    .addHelpText(
      'after',
      '\nExample:\n  kz policy test --bundle bundle.yaml --cases cases.yaml\n  kz policy explain --bundle bundle.yaml --jwt-file token.jwt --ref github/pat',
    );
  defineTest(command.command('test').summary('ask a table of questions').description('ask a table of questions'));
  defineExplain(command.command('explain').summary('say which policy decides').description('say which policy decides'));
}

function withBundleFlags(command: Command): Command {
  return command
    .requiredOption('-b, --bundle <file>', 'the bundle whose policies are asked')
    .option('--json', 'print JSON')
    .option('-q, --quiet', 'print errors only')
    .option('-v, --verbose', 'say more (never values)');
}

function defineTest(command: Command): void {
  withBundleFlags(command)
    .requiredOption('--cases <file>', 'YAML: questions, and what is expected of each')
    .addHelpText('after', '\nExits with 1 when a case fails.\n\nExample:\n  kz policy test --bundle bundle.yaml --cases cases.yaml')
    .action(test);
}

function defineExplain(command: Command): void {
  withBundleFlags(command)
    .requiredOption('--ref <ref>', 'what is asked for')
    .option('--issuer <name>', 'whose token it is (default: whose `iss` the claims have)')
    .option('--claims <file>', 'the claims, as JSON; - is standard input')
    .addOption(new Option('--claim <name=value>', 'one claim, a text').argParser(pairArgument))
    .option('--jwt-file <file>', 'the claims of a token, which is not verified')
    .addOption(new Option('--context <name=value>', 'what the caller says, a text').argParser(pairArgument))
    .addOption(new Option('--tool <tool>', 'what the secret is for').choices(TOOLS))
    .option('--method <method>', 'HTTP method of the request')
    .option('--url <url>', 'where the request goes')
    .addHelpText(
      'after',
      '\nExits with 0 when it would be allowed, with 1 when it would not.\n\nExample:\n  kz policy explain --bundle bundle.yaml --issuer github --claim repository_owner=acme --ref github/pat',
    )
    .action(explain);
}

/** Repeated: one more each time. */
function pairArgument(text: string, previous: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new KzError('usage', `${JSON.stringify(text)} is not name=value`);
  return Object.fromEntries([...Object.entries(previous ?? {}), [name, value]]);
}

async function test(flags: TestFlags): Promise<void> {
  useVoice(flags);
  const [{ loadCases, runCases }, { compilePolicies }] = await Promise.all([
    import('../../server/policies/policy-cases.ts'),
    import('../../server/policies/compile-policies.ts'),
  ]);
  const bundle = await loadBundle(flags.bundle);
  const { policies, problems } = await compilePolicies(bundle);
  const cases = await loadCases(flags.cases, bundle).catch((error: unknown) => {
    if (error instanceof KzError) throw KzError.all([...problems, ...(error.code === 'several' ? error.problems : [error])]);
    throw error;
  });
  if (problems.length > 0) throw KzError.all(problems);
  const results = runCases(cases, policies);
  const failed = results.filter(({ passed }) => !passed);
  if (flags.json === true) printJson({ schema_version: 1, passed: failed.length === 0, cases: results.map(caseJson) });
  else {
    for (const result of failed) printLine(`${formatPlace(withoutColumn(result))}: ${result.case.name}: ${whyFailed(result)}`);
    printLine(summary(results.length, failed.length));
  }
  if (failed.length > 0) process.exitCode = 1;
}

function withoutColumn({ case: { at } }: CaseResult): { readonly file: string; readonly line?: number } {
  return { file: at.file, ...(at.line === undefined ? {} : { line: at.line }) };
}

function whyFailed({ case: { expect, policy }, verdict }: CaseResult): string {
  const wanted = `expected ${expect}${policy === undefined ? '' : ` by ${policy}`}`;
  const errors = verdict.steps.flatMap(({ policy: name, error }) => (error === undefined ? [] : [`${name} failed: ${error}`]));
  return [`${wanted}, got ${verdict.allow ? 'allow' : 'deny'} by ${verdict.policy}`, ...errors].join('; ');
}

function summary(all: number, failed: number): string {
  const cases = `${String(all)} ${all === 1 ? 'case' : 'cases'}`;
  return failed === 0 ? `${cases}: ok` : `${cases}: ${String(failed)} failed`;
}

function caseJson({ case: { name, at, expect, policy }, verdict, passed }: CaseResult): unknown {
  return { name, line: at.line ?? null, passed, expected: { decision: expect, policy: policy ?? null }, ...verdictJson(verdict) };
}

async function explain(flags: ExplainFlags): Promise<void> {
  useVoice(flags);
  const { explainPolicy } = await import('../../server/policies/policy-explain.ts');
  const { requestOf } = await import('../../server/policies/policy-cases.ts');
  const request = requestOf({ tool: flags.tool, method: flags.method, url: flags.url });
  const { ref, context = {}, issuer } = flags;
  const bundle = await loadBundle(flags.bundle);
  const explanation = await explainPolicy(bundle, { issuer, claims: await claimsOf(flags), ref, context, request });
  const refusal = explanation.verdict.allow ? await refusalOf(bundle, flags) : undefined;
  if (flags.json === true) {
    printJson({ schema_version: 1, claims_verified: false, ...explanationJson(explanation), refused: refusal ?? null });
  } else report(explanation, refusal, flags);
  if (!explanation.verdict.allow || refusal !== undefined) process.exitCode = 1;
}

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

/** What policies allow, the resource may not: there may be none, and hosts, methods and paths are its own. Undefined: nothing is refused. */
async function refusalOf(bundle: Bundle, { ref, url, method, tool = 'fetch' }: ExplainFlags): Promise<Refusal | undefined> {
  const [{ checkFetch, readFetch }, { ResourceTable }, { ServerFailure }] = await Promise.all([
    import('../../server/fetch/fetch-request.ts'),
    import('../../server/resources.ts'),
    import('../../server/failure.ts'),
  ]);
  const found = ResourceTable.compile(bundle).find(ref);
  if (found === undefined) {
    const refs = bundle.resources.map((resource) => resource.ref).join(', ');
    return { code: 'ref-unknown', message: `no resource is called ${ref}`, hint: refs === '' ? 'the bundle has none' : `it has ${refs}` };
  }
  if (url === undefined || !SENDING.includes(tool)) return undefined;
  try {
    const request = readFetch({ url, ...(method === undefined ? {} : { method }) });
    // Through the proxy, the token stands where the credential will.
    checkFetch(tool === 'proxy' ? { ...request, query: '' } : request, found.resource, ref);
    return undefined;
  } catch (error) {
    if (!(error instanceof ServerFailure)) throw error;
    return { code: error.code, message: error.message, hint: error.hint ?? null };
  }
}

/** Of both, the value travels in a request. */
const SENDING: readonly Tool[] = ['fetch', 'proxy'];

async function claimsOf({ claims: file, claim, jwtFile }: ExplainFlags): Promise<Readonly<Record<string, unknown>>> {
  const { parseClaims, unprovenClaims } = await import('../../server/policies/policy-explain.ts');
  if (file !== undefined && jwtFile !== undefined) throw new KzError('usage', '--claims stands beside --jwt-file');
  if (file === undefined && jwtFile === undefined && claim === undefined) {
    throw new KzError('usage', 'no claims were given', { hint: 'give them with --claim name=value, --claims FILE or --jwt-file FILE' });
  }
  const written = file === undefined ? {} : parseClaims(readFrom(file, '--claims'), `--claims ${file}`);
  const told = jwtFile === undefined ? {} : ofFile(`--jwt-file ${jwtFile}`, () => unprovenClaims(readFrom(jwtFile, '--jwt-file')));
  return Object.fromEntries([written, told, claim ?? {}].flatMap((each) => Object.entries(each)));
}

/** What is wrong with what a file holds says which file. */
function ofFile<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof KzError) || error.code !== 'usage') throw error;
    throw new KzError('usage', `${what}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

function readFrom(file: string, flag: string): string {
  try {
    return readText(file === '-' ? 0 : file);
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    // It says of everything that it is a value.
    throw new KzError('config-unreadable', `cannot read ${flag} ${file}: ${error.message.replace(/^.*?: /, '')}`, { cause: error });
  }
}

function report({ input, verdict, resource }: PolicyExplanation, refusal: Refusal | undefined, { jwtFile }: ExplainFlags): void {
  const { issuer, identity, ref, request } = input;
  const { groups, ...texts } = identity;
  const known = Object.entries({ ...texts, groups: groups.join(', ') }).filter(([, text]) => text !== '');
  const asked = [request.tool, request.method, request.host + request.path].filter((part) => part !== '').join(' ');
  print(
    table([
      ['verdict', refusal === undefined ? (verdict.allow ? 'allowed' : 'denied') : `refused (${refusal.code})`],
      ['policy', `${verdict.policy}${WHY[verdict.why]}`],
      ['issuer', `${issuer}${jwtFile === undefined ? '' : ' (the token was not verified)'}`],
      ...known,
      ['ref', ref],
      [
        'resource',
        resource === undefined ? 'none: an allowed caller is told so' : `${resource.ref} of ${resource.resolver}, ${resource.mode}`,
      ],
      ['request', asked],
      ...(refusal === undefined ? [] : [['refused', [refusal.message, ...(refusal.hint === null ? [] : [refusal.hint])].join('; ')]]),
    ]),
  );
  if (verdict.steps.length > 0) print(`\n${table([['POLICY', 'EFFECT', 'RESULT'], ...verdict.steps.map(stepCells)])}`);
}

const WHY: Readonly<Record<Verdict['why'], string>> = {
  rule: '',
  'rule-error': ', whose rule failed: what denies denies then',
  'no-match': ': no rule is true',
};

function stepCells({ policy, effect, result, error }: Step): string[] {
  return [policy, effect, error === undefined ? result : `${result}: ${error}`];
}

function explanationJson({ input, verdict, resource }: PolicyExplanation): object {
  const { issuer, identity, ref, request } = input;
  const found = resource === undefined ? null : { ref: resource.ref, resolver: resource.resolver, mode: resource.mode };
  return { issuer, identity, ref, request, resource: found, ...verdictJson(verdict) };
}

function verdictJson({ allow, policy, why, steps }: Explained): object {
  return { decision: allow ? 'allow' : 'deny', policy, why, steps: steps.map((step) => ({ ...step, error: step.error ?? null })) };
}
