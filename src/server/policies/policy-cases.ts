// `kz policy test`: a table of questions and the answers that they must get. Nobody signs, nothing is resolved: claims are what the table says.
import { readFile, stat } from 'node:fs/promises';
import * as z from 'zod/mini';
import type { Bundle, IssuerEntry } from '../../config/bundle.ts';
import { isMapping, nameOf, readKeys, type BundleProblem, type Found, type Mapping, type Report } from '../../config/bundle-keys.ts';
import { readYaml, type Path, type YamlText } from '../../config/bundle-yaml.ts';
import { KzError, systemCode, type Place } from '../../core/errors.ts';
import { canonicalHost } from '../../core/host-name.ts';
import { suggest } from '../../core/suggest.ts';
import { identityOf } from '../../policy/identity.ts';
import {
  DEFAULT_DENY,
  explain,
  TOOLS,
  type CompiledPolicy,
  type PolicyInput,
  type PolicyRequest,
  type Explained,
} from '../../policy/permit.ts';
import { refProblem } from '../../policy/ref.ts';
import { ServerFailure } from '../failure.ts';
import { readFetch } from '../fetch/fetch-request.ts';

export interface PolicyCase {
  readonly name: string;
  readonly at: Place;
  readonly input: PolicyInput;
  readonly expect: 'allow' | 'deny';
  /** Which one must decide. */
  readonly policy?: string;
}

export interface CaseResult {
  readonly case: PolicyCase;
  readonly verdict: Explained;
  readonly passed: boolean;
}

export function runCases(cases: readonly PolicyCase[], policies: readonly CompiledPolicy[]): readonly CaseResult[] {
  return cases.map((each) => {
    const verdict = explain(each.input, policies);
    const passed = verdict.allow === (each.expect === 'allow') && (each.policy === undefined || each.policy === verdict.policy);
    return { case: each, verdict, passed };
  });
}

/** Throws one error that holds every problem of the file, each with its place. */
export async function loadCases(path: string, bundle: Bundle): Promise<readonly PolicyCase[]> {
  const yaml = await readYaml(await readText(path));
  if ('problems' in yaml) {
    throw KzError.all(
      yaml.problems.map(({ message, hint, at }) => new KzError('config-syntax', message, { hint, at: { file: path, ...at } })),
    );
  }
  const problems: BundleProblem[] = [];
  const reading = { yaml, file: path, bundle, report: (problem: BundleProblem) => void problems.push(problem) };
  const cases = rowsOf(yaml.content, reading.report).flatMap((row, index) => readCase(row, index, reading) ?? []);
  if (problems.length === 0) return cases;
  const errors = problems.map(({ path: where, message, hint }) => {
    return new KzError('config-invalid', message, { hint, at: { file: path, ...yaml.place(where) } });
  });
  throw KzError.all(errors.toSorted(({ at: a }, { at: b }) => (a?.line ?? 0) - (b?.line ?? 0)));
}

/** A question, from what a person writes. The issuer says where claims lie, and `iss` is in every token. */
export function questionOf(issuer: IssuerEntry, asked: Omit<PolicyInput, 'issuer' | 'identity'>): PolicyInput {
  const claims = { iss: issuer.issuerUrl, ...asked.claims };
  return { ...asked, issuer: issuer.name, identity: identityOf(issuer, claims), claims };
}

interface WrittenRequest {
  readonly tool?: (typeof TOOLS)[number] | undefined;
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly host?: string | undefined;
  readonly path?: string | undefined;
}

/** As the server would see it. Whoever names a URL or a method means `fetch`. Throws `usage`. */
export function requestOf(written: WrittenRequest): PolicyRequest {
  const { tool, method } = written;
  const url = urlOf(written);
  const isFetch = url !== undefined || method !== undefined;
  const request = { tool: tool ?? (isFetch ? 'fetch' : 'resolve'), method: method?.toUpperCase() ?? '', host: '', path: '' };
  if (url === undefined) return request;
  try {
    const read = readFetch({ url, method: method ?? 'GET' });
    return {
      ...request,
      method: read.method,
      host: read.target.host,
      path: read.reading,
      ...(read.reading === '' ? { isAmbiguous: true } : {}),
    };
  } catch (error) {
    if (!(error instanceof ServerFailure)) throw error;
    throw new KzError('usage', error.message, { hint: error.hint, cause: error });
  }
}

function urlOf({ url, host, path }: WrittenRequest): string | undefined {
  if (url !== undefined) {
    if (host === undefined && path === undefined) return url;
    throw new KzError('usage', 'url stands beside host or path', { hint: 'write the one or the other' });
  }
  if (host === undefined && path === undefined) return undefined;
  if (host === undefined) throw new KzError('usage', 'path stands without host');
  if (canonicalHost(host) === undefined) throw new KzError('usage', `host ${JSON.stringify(host)} is not the name of a host`);
  // Otherwise it would become a part of the host.
  if (path?.startsWith('/') === false) throw new KzError('usage', `path ${JSON.stringify(path)} does not start with /`);
  return `https://${host}${path ?? '/'}`;
}

export function issuerNamed({ issuers }: Pick<Bundle, 'issuers'>, name: string): IssuerEntry | { readonly hint: string } {
  const found = issuers.find((each) => each.name === name);
  if (found !== undefined) return found;
  return {
    hint: choice(
      name,
      issuers.map((each) => each.name),
      'the bundle has no issuers',
    ),
  };
}

const text = z.string().check(z.minLength(1));
const mapping = z.optional(z.custom<Mapping>(isMapping, 'is not a mapping'));

const CASE_KEYS = {
  name: text,
  issuer: text,
  claims: mapping,
  ref: text,
  request: mapping,
  context: mapping,
  expect: z.enum(['allow', 'deny']),
  policy: z.optional(text),
};

const REQUEST_KEYS = {
  tool: z.optional(z.enum(TOOLS)),
  method: z.optional(text),
  url: z.optional(text),
  host: z.optional(text),
  path: z.optional(text),
};

interface Reading {
  readonly yaml: YamlText;
  readonly file: string;
  readonly bundle: Bundle;
  readonly report: Report;
}

function rowsOf(content: unknown, report: Report): readonly unknown[] {
  if (!isMapping(content)) {
    report({ path: [], message: content === null ? 'the file is empty' : 'the file is not a mapping', hint: 'start it with `cases:`' });
    return [];
  }
  const { cases } = readKeys({ cases: z.array(z.unknown()) }, content, { path: [], what: 'the file' }, report);
  if (cases?.length === 0) report({ path: ['cases'], message: 'there are no cases', hint: 'a test without cases proves nothing' });
  return cases ?? [];
}

function readCase(row: unknown, index: number, { yaml, file, bundle, report }: Reading): PolicyCase | undefined {
  const path = ['cases', index];
  if (!isMapping(row)) {
    report({ path, message: `case number ${String(index + 1)} is not a mapping` });
    return undefined;
  }
  const what = nameOf('case', row.name, index);
  const found = readKeys(CASE_KEYS, row, { path, what }, report);
  const request = readRequest(found.request ?? {}, { path: [...path, 'request'], what }, report);
  const issuer = checkNames(found, { path, what, bundle }, report);
  const { name, claims = {}, ref, context = {}, expect, policy } = found;
  if (name === undefined || ref === undefined || expect === undefined || issuer === undefined || request === undefined) return undefined;
  const input = questionOf(issuer, { claims, ref, context, request });
  return { name, at: { file, ...yaml.place(path) }, input, expect, ...(policy === undefined ? {} : { policy }) };
}

interface Where {
  readonly path: Path;
  readonly what: string;
}

function readRequest(row: Mapping, { path, what }: Where, report: Report): PolicyRequest | undefined {
  const found = readKeys(REQUEST_KEYS, row, { path, what: `the request of ${what}` }, report);
  try {
    return requestOf(found);
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    report({ path, message: `${what}: ${error.message}`, hint: error.hint });
    return undefined;
  }
}

function checkNames(
  { issuer: name, ref, policy, claims }: Found<typeof CASE_KEYS>,
  { path, what, bundle }: Where & { readonly bundle: Bundle },
  report: Report,
): IssuerEntry | undefined {
  const problem = ref === undefined ? undefined : refProblem(ref);
  if (problem !== undefined) report({ path: [...path, 'ref'], message: `the ref of ${what} ${problem}` });
  const policies = [...bundle.policies.map((each) => each.name), DEFAULT_DENY];
  if (policy !== undefined && !policies.includes(policy)) {
    const message = `${what} names a policy that the bundle does not have: ${JSON.stringify(policy)}`;
    report({ path: [...path, 'policy'], message, hint: choice(policy, policies, '') });
  }
  const issuer = name === undefined ? undefined : issuerNamed(bundle, name);
  if (issuer === undefined || !('hint' in issuer)) {
    // A token with another `iss` would be of another issuer, or of none.
    if (issuer !== undefined && claims?.iss !== undefined && claims.iss !== issuer.issuerUrl) {
      const hint = `leave \`iss\` out: it is ${JSON.stringify(issuer.issuerUrl)}`;
      report({ path: [...path, 'claims', 'iss'], message: `the \`iss\` of ${what} is not that of its issuer`, hint });
    }
    return issuer;
  }
  const message = `${what} names an issuer that the bundle does not have: ${JSON.stringify(name)}`;
  report({ path: [...path, 'issuer'], message, hint: issuer.hint });
  return undefined;
}

function choice(typed: string, known: readonly string[], none: string): string {
  const near = suggest(typed, known);
  if (near !== undefined) return `did you mean ${JSON.stringify(near)}?`;
  return known.length === 0 ? none : `one of ${known.join(', ')}`;
}

const LARGEST_FILE = 1_048_576;

async function readText(path: string): Promise<string> {
  try {
    const stats = await stat(path);
    if (!stats.isFile()) throw new KzError('config-unreadable', `cannot read cases ${path}: it is not a regular file`);
    if (stats.size > LARGEST_FILE) throw new KzError('config-unreadable', `cannot read cases ${path}: it is larger than 1 MiB`);
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (error) {
    if (error instanceof KzError) throw error;
    const reason = systemCode(error) ?? 'it is not UTF-8 text';
    throw new KzError('config-unreadable', `cannot read cases ${path}: ${reason}`, { cause: error });
  }
}
