// `kz policy explain`: one question, and every rule that was asked on the way to the answer.
import type { Bundle, IssuerEntry, ResourceEntry } from '../../config/bundle.ts';
import { KzError } from '../../core/errors.ts';
import { decodeText } from '../../providers/document.ts';
import { explain, type PolicyInput, type PolicyRequest, type Explained } from '../../policy/permit.ts';
import { refProblem } from '../../policy/ref.ts';
import { compilePolicies } from './compile-policies.ts';
import { issuerNamed, questionOf } from './policy-cases.ts';
import { ResourceTable } from '../resources.ts';

export interface PolicyQuestion {
  /** Undefined: the one that `iss` names. */
  readonly issuer: string | undefined;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly ref: string;
  readonly context: Readonly<Record<string, unknown>>;
  readonly request: PolicyRequest;
}

export interface PolicyExplanation {
  readonly input: PolicyInput;
  readonly verdict: Explained;
  /** What the ref leads to. Undefined: nothing, and an allowed caller is told that. */
  readonly resource: ResourceEntry | undefined;
}

/** Throws what is wrong with the bundle or with the question. */
export async function explainPolicy(bundle: Bundle, question: PolicyQuestion): Promise<PolicyExplanation> {
  const { issuer: name, ref, ...asked } = question;
  const problem = refProblem(ref);
  if (problem !== undefined) throw new KzError('usage', `the ref ${JSON.stringify(ref)} ${problem}`);
  const { policies, problems } = await compilePolicies(bundle);
  if (problems.length > 0) throw KzError.all(problems);
  const input = questionOf(issuerOf(bundle, name, question.claims), { ref, ...asked });
  return { input, verdict: explain(input, policies), resource: ResourceTable.compile(bundle).find(ref)?.resource.entry };
}

function issuerOf(bundle: Bundle, name: string | undefined, { iss }: PolicyQuestion['claims']): IssuerEntry {
  if (name !== undefined) {
    const issuer = issuerNamed(bundle, name);
    if (!('hint' in issuer)) return issuer;
    throw new KzError('usage', `the bundle has no issuer ${JSON.stringify(name)}`, { hint: issuer.hint });
  }
  const names = bundle.issuers.map((each) => each.name).join(', ');
  const hint = `give one with --issuer: ${names === '' ? 'the bundle has none' : names}`;
  if (typeof iss !== 'string') throw new KzError('usage', 'no issuer was given, and the claims have no `iss`', { hint });
  const found = bundle.issuers.find((each) => each.issuerUrl === iss);
  if (found === undefined) throw new KzError('usage', 'no issuer of the bundle is the `iss` of the claims', { hint });
  return found;
}

/** What a token says, without any proof. Throws `usage`; quotes nothing of it. */
export function unprovenClaims(jwt: string): Readonly<Record<string, unknown>> {
  const [, payload, signature, ...more] = jwt.trim().split('.');
  if (payload === undefined || signature === undefined || more.length > 0) throw new KzError('usage', 'the file holds no signed JWT');
  return parseClaims(decodeText(Buffer.from(payload, 'base64url')) ?? '', 'the payload of the JWT');
}

/** Throws `usage`. */
export function parseClaims(json: string, what: string): Readonly<Record<string, unknown>> {
  const value = parseJson(json, what);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new KzError('usage', `${what} is no JSON object`);
}

function parseJson(json: string, what: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    // Its message quotes what it was given.
    throw new KzError('usage', `${what} is no JSON`);
  }
}
