// 1Password, through its program `op`: all refs in one call. When op refuses a call because of one ref, the call is taken apart until the
// refs at fault are known; the others still get their values.
import { randomBytes } from 'node:crypto';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { suggest } from '../core/suggest.ts';
import { decodeText } from './document.ts';
import { concernsEach, faultError, mayConcern, readFault, type Fault } from './onepassword-faults.ts';
import { fieldNames, itemDocument, newItem, parseItem, withValue } from './onepassword-item.ts';
import { Op, type AskOp, type OpCall } from './onepassword-program.ts';
import { parseOpRef, type OpRef } from './onepassword-ref.ts';
import type { ProgramEnd } from './program.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';

type OnePasswordOptions = NonNullable<ProviderOptions['1password']>;

export function openOnePassword({ account }: OnePasswordOptions, context: ProviderContext): Provider {
  const op = new Op(account, context);
  return {
    async get(refs, signal) {
      const parsed = refs.map(parse);
      const wanted = [...new Map(parsed.flatMap((ref) => ('text' in ref ? [[ref.text, ref] as const] : []))).values()];
      const found = wanted.length === 0 ? new Map<string, Outcome>() : await op.inTurn((ask) => new Lookup(ask).all(wanted), signal);
      return parsed.map((ref) => ('text' in ref ? (found.get(ref.text) ?? failure(noAnswer(ref))) : failure(ref.error)));
    },

    put(ref, secret, signal) {
      const target = writableRef(ref);
      return op.inTurn((ask) => write(target, secret.reveal(), ask), signal);
    },

    destination(ref) {
      const { vault, item, section, field = '' } = writableRef(ref);
      const place = section === undefined ? '' : `section ${JSON.stringify(section)} of `;
      return `1Password (field ${JSON.stringify(field)} in ${place}item ${JSON.stringify(item)}, vault ${JSON.stringify(vault)})`;
    },

    async check(signal) {
      const count = await op.inTurn(countVaults, signal);
      return { detail: `${String(count)} ${count === 1 ? 'vault' : 'vaults'}${op.login === undefined ? '' : `, ${op.login}`}` };
    },
  };
}

function parse({ text }: Ref): OpRef | { readonly error: KzError } {
  try {
    return parseOpRef(text);
  } catch (error) {
    if (error instanceof KzError) return { error };
    throw error;
  }
}

function failure(error: KzError): Outcome {
  return { ok: false, error };
}

function noAnswer(ref: OpRef): KzError {
  return new KzError('provider-failed', `op gave no answer for ${JSON.stringify(ref.text)}`);
}

/** Each takes op a second or so. Looking for three bad refs among two hundred takes seven. */
const MOST_CALLS = 64;

/** So many missing fields are worth one more call each, to say what the item has instead. */
const MOST_SUGGESTIONS = 3;

/** One `get`. */
class Lookup {
  readonly #ask: AskOp;
  readonly #outcomes = new Map<string, Outcome>();
  #calls = 0;
  #works = false;

  constructor(ask: AskOp) {
    this.#ask = ask;
  }

  async all(refs: readonly OpRef[]): Promise<ReadonlyMap<string, Outcome>> {
    const fields = refs.filter(({ field }) => field !== undefined);
    if (fields.length > 0) await this.#inject(fields);
    for (const ref of refs) {
      if (ref.field === undefined) this.#outcomes.set(ref.text, await this.#document(ref));
    }
    await this.#suggest(fields);
    return this.#outcomes;
  }

  /** Throws what speaks for all refs. */
  async #inject(refs: readonly OpRef[]): Promise<void> {
    if (++this.#calls > MOST_CALLS) {
      for (const ref of refs) this.#outcomes.set(ref.text, failure(notSearched(ref, refs.length)));
      return;
    }
    const template = new Template(refs);
    const end = await this.#ask({ args: ['inject'], input: template.text });
    if (end.status === 0) {
      for (const [text, outcome] of template.read(end.output)) this.#outcomes.set(text, outcome);
      return;
    }
    const fault = readFault(end.errors);
    if (fault.concerns === 'all') throw fault.error;
    if (concernsEach(fault, refs)) {
      for (const ref of refs) this.#outcomes.set(ref.text, failure(faultError(fault, ref)));
      return;
    }
    if (fault.kind === 'unknown') await this.#checkOnce();
    for (const part of suspectsFirst(fault, refs)) await this.#inject(part);
  }

  /** Before refs are blamed one by one for something that op has not told in words that we know. */
  async #checkOnce(): Promise<void> {
    if (!this.#works) await countVaults(this.#ask);
    this.#works = true;
  }

  async #document(ref: OpRef): Promise<Outcome> {
    const end = await this.#ask({ args: getItem(ref) });
    if (end.status === 0) return { ok: true, secret: new Secret(itemDocument(parseItem(textOf(end)))) };
    const fault = readFault(end.errors);
    if (fault.concerns === 'all') throw fault.error;
    return failure(faultError(fault, ref));
  }

  async #suggest(refs: readonly OpRef[]): Promise<void> {
    const missing = refs.flatMap((ref) => {
      const outcome = this.#outcomes.get(ref.text);
      return outcome?.ok === false && isMissingField(outcome.error, ref) ? [{ ref, error: outcome.error }] : [];
    });
    for (const { ref, error } of missing.slice(0, MOST_SUGGESTIONS)) {
      const end = await this.#ask({ args: getItem(ref) });
      const near = end.status === 0 ? suggest(ref.field ?? '', fieldNames(parseItem(textOf(end)))) : undefined;
      if (near === undefined) continue;
      const hint = `did you mean ${JSON.stringify(near)}?`;
      this.#outcomes.set(ref.text, failure(new KzError(error.code, error.message, { hint })));
    }
  }
}

/** Each ref stands between two lines that no value can contain. */
class Template {
  readonly text: string;
  readonly #refs: readonly OpRef[];
  readonly #mark = `kz-${randomBytes(16).toString('hex')}`;

  constructor(refs: readonly OpRef[]) {
    this.#refs = refs;
    const lines = refs.map(({ text }, index) => `${this.#line(index)}{{ ${text} }}\n`);
    this.text = `${lines.join('')}${this.#line(refs.length)}`;
  }

  /** Throws `provider-failed` when the lines are not where they were. */
  read(output: Uint8Array): [string, Outcome][] {
    const bytes = Buffer.from(output);
    return this.#refs.map((ref, index) => {
      const [line, next] = [this.#line(index), `\n${this.#line(index + 1)}`];
      const start = bytes.indexOf(line);
      const end = bytes.indexOf(next.trimEnd(), start);
      if (start === -1 || end === -1) throw noAnswer(ref);
      return [ref.text, toOutcome(ref, bytes.subarray(start + line.length, end))];
    });
  }

  #line(index: number): string {
    return `${this.#mark}-${String(index)}.\n`;
  }
}

function toOutcome(ref: OpRef, bytes: Uint8Array): Outcome {
  const text = decodeText(bytes);
  if (text !== undefined) return { ok: true, secret: new Secret(text) };
  return failure(new KzError('secret-invalid', `what 1Password has at ${JSON.stringify(ref.text)} is not UTF-8 text`));
}

/** Those that op named, if that leaves others, then the rest; otherwise two halves. */
function suspectsFirst(fault: Fault, refs: readonly OpRef[]): (readonly OpRef[])[] {
  const suspects = refs.filter((ref) => mayConcern(fault, ref));
  if (suspects.length > 0 && suspects.length < refs.length) return [suspects, refs.filter((ref) => !suspects.includes(ref))];
  const middle = Math.ceil(refs.length / 2);
  return [refs.slice(0, middle), refs.slice(middle)];
}

function notSearched(ref: OpRef, count: number): KzError {
  const others = count === 1 ? '' : `, or one of ${String(count - 1)} others`;
  return new KzError('provider-failed', `op cannot read ${JSON.stringify(ref.text)}${others}`, {
    hint: `kz looked for the refs at fault in ${String(MOST_CALLS)} calls of op; correct those that are named, and try again`,
  });
}

function isMissingField(error: KzError, ref: OpRef): boolean {
  return error.message === faultError({ concerns: 'some', kind: 'field-missing', named: {} }, ref).message;
}

function getItem({ vault, item }: OpRef): string[] {
  return ['item', 'get', item, `--vault=${vault}`, '--format=json'];
}

function textOf({ output }: ProgramEnd): string {
  return decodeText(output) ?? '';
}

/** Not `op whoami`, which says "not signed in" whenever the desktop app does the signing in. */
async function countVaults(ask: AskOp): Promise<number> {
  const end = await ask({ args: ['vault', 'list', '--format=json'] });
  if (end.status !== 0) {
    const fault = readFault(end.errors);
    throw fault.concerns === 'all' ? fault.error : failed('op cannot list the vaults of 1Password', 'run `op vault list`');
  }
  try {
    const vaults: unknown = JSON.parse(textOf(end));
    return Array.isArray(vaults) ? vaults.length : 0;
  } catch {
    throw failed('what op printed is not a list of vaults in JSON', 'run `op update`');
  }
}

function failed(message: string, hint: string): KzError {
  return new KzError('provider-failed', message, { hint });
}

function writableRef({ text }: Ref): OpRef {
  const ref = parseOpRef(text);
  const refuse = (problem: string): KzError => new KzError('ref-invalid', `cannot write ${JSON.stringify(text)}: ${problem}`);
  if (ref.field === undefined) throw refuse('it names no field');
  if (ref.query !== undefined) throw refuse(`?${ref.query} is for reading`);
  return ref;
}

/** The value travels to op over a pipe, in the JSON of the whole item. What op prints about it is thrown away. */
async function write(ref: OpRef, value: string, ask: AskOp): Promise<void> {
  const end = await ask(changeItem(ref, value, await ask({ args: getItem(ref) })));
  if (end.status === 0) return;
  const fault = readFault(end.errors);
  if (fault.concerns === 'all') throw fault.error;
  if (fault.kind === 'denied') {
    throw new KzError('provider-denied', `1Password does not let this account write to vault ${JSON.stringify(ref.vault)}`);
  }
  throw failed(`op cannot write ${JSON.stringify(ref.text)}`, 'kz needs op 2.24 or later: run `op --version`');
}

function changeItem(ref: OpRef, value: string, existing: ProgramEnd): OpCall {
  const common = [`--vault=${ref.vault}`, '--format=json'];
  if (existing.status === 0) {
    const item = parseItem(textOf(existing));
    const id = typeof item.id === 'string' ? item.id : ref.item;
    return { args: ['item', 'edit', id, ...common], input: JSON.stringify(withValue(item, ref, value)) };
  }
  const fault = readFault(existing.errors);
  if (fault.concerns === 'all' || fault.kind !== 'item-missing') throw faultError(fault, ref);
  return { args: ['item', 'create', ...common, '-'], input: JSON.stringify(newItem(ref, value)) };
}
