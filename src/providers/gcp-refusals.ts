// Secret Manager's errors in our words. Its own text is looked at for known words and never shown.
import { KzError } from '../core/errors.ts';
import { isRecord } from '../core/record.ts';
import type { JsonAnswer } from './ask-json.ts';
import type { GcpRef } from './gcp-ref.ts';
import { joinWords } from './words.ts';

/** For any answer that is not 200, 401, or a sign that the server is busy. */
export function apiError({ status, body }: JsonAnswer, ref: GcpRef, base: string): KzError {
  const { state, reasons, message } = detailsOf(body);
  const listVersions = { hint: `run \`${gcloud(['secrets', 'versions', 'list', ref.secret], ref)}\`` };
  // Also a proxy and any web server answer 404, and an optional secret must not be absent because of that.
  if (status === 404 && state === 'NOT_FOUND') return new KzError('secret-missing', `Secret Manager has no ${ref.name}`, listVersions);
  if (state === 'FAILED_PRECONDITION') return notReady(ref, message, listVersions.hint);
  if (status === 403) return denied(ref, reasons);
  if (status === 400) return new KzError('ref-invalid', `Secret Manager does not take the name ${ref.name}`, listVersions);
  return new KzError('provider-failed', `Secret Manager at ${base} answered ${String(status)} for ${ref.name}`);
}

/** Of a version, or of the KMS key that it is encrypted with: then the secret is there. */
function notReady({ name }: GcpRef, message: string, hint: string): KzError {
  const condition = /\b(DISABLED|DESTROYED)\b/.exec(message)?.[1]?.toLowerCase();
  if (condition === undefined || /\bkms\b|\bkey\b/i.test(message)) {
    return new KzError('provider-failed', `Secret Manager cannot read ${name}: a precondition failed`, { hint });
  }
  return new KzError('secret-missing', `${name} of Secret Manager is ${condition}`, { hint });
}

function denied(ref: GcpRef, reasons: readonly string[]): KzError {
  const error = (message: string, hint: string): KzError => new KzError('provider-denied', message, { hint });
  if (reasons.includes('SERVICE_DISABLED')) {
    const command = joinWords(['gcloud', 'services', 'enable', 'secretmanager.googleapis.com', `--project=${ref.project}`]);
    return error(`the API of Secret Manager is off in project ${JSON.stringify(ref.project)}`, `run \`${command}\``);
  }
  if (reasons.includes('USER_PROJECT_DENIED')) {
    const command = joinWords(['gcloud', 'auth', 'application-default', 'set-quota-project', ref.project]);
    return error('Google does not let this account use the quota project of its credentials', `run \`${command}\``);
  }
  if (reasons.includes('ACCESS_TOKEN_SCOPE_INSUFFICIENT')) {
    return error('the token of this machine is not for Secret Manager', 'give the machine the access scope cloud-platform');
  }
  const words = ['secrets', 'add-iam-policy-binding', ref.secret, '--role=roles/secretmanager.secretAccessor', '--member=…'];
  return error(`Google does not let this account read ${ref.name}, or it is not there (403)`, `run \`${gcloud(words, ref)}\``);
}

function gcloud(words: readonly string[], { project, location }: GcpRef): string {
  return joinWords(['gcloud', ...words, `--project=${project}`, ...(location === undefined ? [] : [`--location=${location}`])]);
}

/** https://google.aip.dev/193 */
function detailsOf(body: unknown): { readonly state: unknown; readonly reasons: readonly string[]; readonly message: string } {
  const error = isRecord(body) && isRecord(body.error) ? body.error : {};
  const details = Array.isArray(error.details) ? error.details.filter(isRecord) : [];
  const reasons = details.flatMap(({ reason }) => (typeof reason === 'string' ? [reason] : []));
  return { state: error.status, reasons, message: typeof error.message === 'string' ? error.message : '' };
}
