// A kz server: all refs of one get in one request, with a JWT that says who asks. The server decides about each of them; this provider takes
// values only, and no masked tokens in their place: a program could do nothing with them. Only reads.
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { refProblem } from '../policy/ref.ts';
import { at } from './ask-json.ts';
import { codeOf, KeyzeroServer, type KeyzeroOptions } from './keyzero-server.ts';
import type { Outcome, Provider, ProviderContext } from './provider.ts';
import { batches, wide } from './wide.ts';

/** What a server takes at once. */
const MOST_REFS = 100;

export function openKeyzero(options: KeyzeroOptions, { env }: ProviderContext): Provider {
  const server = new KeyzeroServer(options, env);
  return {
    async get(refs, signal) {
      signal.throwIfAborted();
      const wanted = [...new Set(refs.map(({ text }) => text))].filter((text) => refProblem(text) === undefined);
      const found = await wide(batches(wanted, MOST_REFS), async (batch) => {
        const results = await server.resolve(batch, signal);
        return batch.map((text) => [text, toOutcome(text, results, server.who)] as const);
      });
      const outcomes = new Map(found.flat());
      return refs.map(({ text }) => outcomes.get(text) ?? failure(invalidRef(text)));
    },

    async check(signal) {
      await server.checkReady(signal);
      return { detail: await server.describeJwt(signal) };
    },

    close: () => server.close(),
  };
}

/** Throws `ref-invalid`. */
export function checkKeyzeroRef(text: string): void {
  if (refProblem(text) !== undefined) throw invalidRef(text);
}

function invalidRef(text: string): KzError {
  return new KzError('ref-invalid', `keyzero ref ${JSON.stringify(text)} ${refProblem(text) ?? 'is none'}`, {
    hint: 'write it as the server’s bundle does: `github/pat`',
  });
}

function toOutcome(text: string, results: unknown, who: string): Outcome {
  const answer = at(results, text);
  const allowed = at(answer, 'allowed');
  if (typeof allowed !== 'boolean') return failure(new KzError('provider-failed', `${who} gave no answer for ${text}`));
  if (!allowed) return failure(refused(text, answer, who));
  const [mode, value] = [at(answer, 'mode'), at(answer, 'value')];
  if (mode === 'masked' || mode === 'short_lived') return failure(noValue(text, mode, who));
  if (mode !== 'direct' || typeof value !== 'string') {
    return failure(new KzError('provider-failed', `what ${who} answered for ${text} is no value`));
  }
  // Half of a surrogate pair: JSON can hold it, text cannot.
  if (Buffer.from(value).toString() !== value) return failure(new KzError('secret-invalid', `${text} of ${who} is not text`));
  return { ok: true, secret: new Secret(value) };
}

function failure(error: KzError): Outcome {
  return { ok: false, error };
}

function noValue(text: string, mode: string, who: string): KzError {
  return new KzError('provider-denied', `${who} gives only a token for ${text} (mode ${mode}), which works through its proxy alone`, {
    hint: 'write `mode: direct` for it in the server’s bundle, or let the program use `fetch` or the proxy of the server',
  });
}

function refused(text: string, answer: unknown, who: string): KzError {
  const code = codeOf(answer);
  switch (code) {
    case 'ref-unknown':
      return new KzError('secret-missing', `${who} has no ${text}`, { hint: 'add it to `resources` of the server’s bundle' });
    case 'ref-invalid':
      return new KzError('ref-invalid', `${who} takes no ref ${text}`, { hint: 'write it as the server’s bundle does' });
    case 'denied':
    case 'mode-forbidden':
    case undefined:
      return denied(text, { code, policy: policyOf(answer) }, who);
    default:
      return new KzError('provider-failed', `${who} could not get ${text} (${code})`, { hint: 'look at the log of the server' });
  }
}

/** A name of the bundle; whatever else stands there is not repeated. */
function policyOf(answer: unknown): string | undefined {
  const policy = at(answer, 'policy');
  return typeof policy === 'string' && /^[\w.:@/-][\w .:@/-]{0,63}$/.test(policy) ? policy : undefined;
}

function denied(text: string, { code, policy }: { code: string | undefined; policy: string | undefined }, who: string): KzError {
  const by = [code ?? 'no reason given', ...(policy === undefined ? [] : [`policy ${JSON.stringify(policy)}`])].join(', ');
  const hint =
    policy === 'default-deny'
      ? 'no policy of the server’s bundle allows it: add one with `effect: allow`'
      : '`kz policy explain` on the server’s bundle shows which policy decided';
  return new KzError('provider-denied', `${who} denies ${text} (${by})`, { hint });
}
