// The places in a request where a token may be swapped: where credentials live, by default; a secret's own `swap` list replaces that. Free
// text is never one by default, so that a token posted into a comment stays a token, nor are headers that servers echo.
import { looksLikeSecretName } from '../core/credential-shape.ts';
import { KzError } from '../core/errors.ts';

export interface Slots {
  /** As a `swap` list says it. */
  readonly words: readonly string[];
  header(name: string): boolean;
  query(name: string): boolean;
  /** `path`: the names of the fields from the root of a body, arrays left out. `inFile`: the field is an uploaded file. */
  field(path: readonly string[], inFile?: boolean): boolean;
  /** May `field` ever say yes? */
  readonly fields: boolean;
  readonly path: boolean;
  /** Anywhere in the body. */
  readonly body: boolean;
  /** Anywhere in a WebSocket message. */
  readonly frame: boolean;
}

/** `swap` undefined: the defaults. Throws `config-invalid` for an entry that can never take effect. */
export function slotsOf(swap: readonly string[] | undefined): Slots {
  return swap === undefined ? DEFAULT : listedSlots(swap);
}

/** In a `swap` list: the places where credentials usually are. */
export const USUAL = 'default';

const DEFAULT: Slots = {
  words: [USUAL],
  header: (name) => credentialHeader(name.toLowerCase()),
  query: (name) => credentialName(name) || CREDENTIAL_PARAMETER.test(name),
  field: (path, inFile = false) => {
    const name = path.at(-1);
    return !inFile && name !== undefined && credentialName(name);
  },
  fields: true,
  path: false,
  body: false,
  frame: false,
};

function listedSlots(swap: readonly string[]): Slots {
  const headers = new Set(namesWith('header:', swap).map((name) => name.toLowerCase()));
  const queries = new Set(namesWith('query:', swap));
  const fields = new Set(namesWith('body:', swap));
  const wrong = swap.find((entry) => !isSlot(entry));
  if (wrong !== undefined) throw new KzError('config-invalid', `\`${wrong}\` is no place where a token can be swapped`);
  const fixed = swap.find((entry) => entry.startsWith('header:') && isFixedHeader(entry.slice('header:'.length)));
  if (fixed !== undefined) throw new KzError('config-invalid', `\`${fixed}\` is a header that is never swapped: a request is routed by it`);
  const body = swap.includes('body');
  const usual = swap.includes(USUAL);
  return {
    words: swap,
    header: (name) => headers.has(name.toLowerCase()) || (usual && DEFAULT.header(name)),
    query: (name) => queries.has(name) || (usual && DEFAULT.query(name)),
    field: (path, inFile) => body || fields.has(path.join('.')) || (usual && DEFAULT.field(path, inFile)),
    fields: body || usual || fields.size > 0,
    path: swap.includes('path'),
    body,
    frame: body,
  };
}

function namesWith(kind: string, swap: readonly string[]): readonly string[] {
  return swap.filter((entry) => entry.startsWith(kind)).map((entry) => entry.slice(kind.length));
}

function isSlot(entry: string): boolean {
  return entry === USUAL || entry === 'path' || entry === 'body' || /^(?:header|query|body):./s.test(entry);
}

/** Where a request goes, where it ends, and what kz itself reads: not even when a config names them. */
const FIXED = new Set(
  [
    ['host', 'connection', 'content-length', 'transfer-encoding', 'content-encoding', 'te', 'trailer', 'upgrade', 'keep-alive', 'expect'],
    ['proxy-authorization', 'proxy-connection', 'http2-settings'],
  ].flat(),
);

/** May no config make this header a slot? */
export function isFixedHeader(name: string): boolean {
  return FIXED.has(name.toLowerCase());
}

/** Headers that servers repeat in answers, logs and traces, also those with a name that says key or token. */
function isEchoed(name: string): boolean {
  return FIXED.has(name) || ECHOED.test(name);
}

const ECHOED = new RegExp(
  `^(?::|(?:accept|access-control|content|if|sec|x-forwarded|x-b3|ce|trace|correlation)-|(?:${[
    ['accept', 'user-agent', 'origin', 'referer', 'referrer', 'prefer', 'range', 'via', 'forwarded', 'from', 'link', 'location', 'date'],
    ['last-event-id', 'traceparent', 'tracestate', 'baggage', 'b3', 'idempotency-key', 'x-idempotency-key', 'surrogate-key'],
    ['x-request-id', 'x-correlation-id', 'x-trace-id', 'x-amzn-trace-id', 'x-cloud-trace-context', 'x-real-ip', 'x-requested-with'],
    ['depth', 'destination', 'early-data', 'max-forwards', 'pragma', 'cache-control', 'priority', 'server-timing'],
  ]
    .flat()
    .join('|')})$)`,
);

/** Beyond what names a secret among variables: a bare `pass`, and words that only a header or a field has. */
const MORE_CREDENTIALS = /(?:^|[^a-z])(?:pass|pwd|pw|bearer|authentication|auth-(?:bearer|raw)|apptoken)$/i;
/** The key of a shared Azure address, and the key of some that call it otherwise. */
const CREDENTIAL_PARAMETER = /^(?:sig|appid)$/i;

const credentialName = remembered((name) => looksLikeSecretName(name) || MORE_CREDENTIALS.test(name));
const credentialHeader = remembered((name) => name === 'cookie' || (!isEchoed(name) && credentialName(name)));

const REMEMBERED_NAMES = 1024;
const LONGEST_NAME = 256;

/** PHP takes `note\0_password` for `note`, and `note[x]_password` for `note[x]`. */
const CUT_BY_SOME = /[^ -\uffff]|\x7f|\][^[]/;

/** Judging a name takes a dozen regular expressions, and a program uses the same few names all the time. */
function remembered(judge: (name: string) => boolean): (name: string) => boolean {
  const answers = new Map<string, boolean>();
  return (text) => {
    // A longer name is made up, and the start of one may say something else than its end.
    if (text.length > LONGEST_NAME || CUT_BY_SOME.test(text)) return false;
    const known = answers.get(text);
    if (known !== undefined) return known;
    if (answers.size >= REMEMBERED_NAMES) answers.clear();
    const answer = judge(text);
    answers.set(text, answer);
    return answer;
  };
}
