// What `op` means by its standard error. It has no codes, so this looks for the words of op 2 (2.20 to 2.39) and gives errors of our own:
// op's text may hold names, ids and, for all we know, values, and is never shown.
import { KzError, type ErrorCode } from '../core/errors.ts';
import { sameName, type OpRef } from './onepassword-ref.ts';
import { joinWords } from './words.ts';

/** The parts of a ref that op named. A ref that agrees with all of them may be the one that op means. */
interface Named {
  readonly ref?: string | undefined;
  readonly vault?: string | undefined;
  readonly item?: string | undefined;
  readonly field?: string | undefined;
}

type RefFaultKind = 'vault-missing' | 'item-missing' | 'field-missing' | 'ambiguous' | 'malformed' | 'denied' | 'unknown';

export type Fault =
  { readonly concerns: 'all'; readonly error: KzError } | { readonly concerns: 'some'; readonly kind: RefFaultKind; readonly named: Named };

const ERROR_PREFIX = /^\[ERROR\] (?:\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d )?/;

export function readFault(errors: string): Fault {
  const lines = errors
    .split('\n')
    .map((line) => line.trim().replace(ERROR_PREFIX, ''))
    .filter((line) => line !== '');
  for (const line of lines) {
    const fault = readRefFault(line);
    if (fault !== undefined) return fault;
  }
  // Names that the user chose stand in quotes, and may be any words.
  const plain = lines.join('\n').replace(/"[^"\n]*"|'[^'\n]*'/g, '""');
  const error = FOR_ALL.find(({ words }) => words.test(plain))?.error();
  if (error !== undefined) return { concerns: 'all', error };
  return { concerns: 'some', kind: /\b403\b|permission|not authorized/i.test(plain) ? 'denied' : 'unknown', named: {} };
}

/** Could this ref be what op complains about? */
export function mayConcern(fault: Fault, { text, vault, item, field }: OpRef): boolean {
  if (fault.concerns === 'all') return true;
  const { named } = fault;
  const agrees = (word: string | undefined, part: string | undefined): boolean =>
    word === undefined || (part !== undefined && sameName(word, part));
  return agrees(named.ref, text) && agrees(named.vault, vault) && agrees(named.item, item) && agrees(named.field, field);
}

/** Has op named something that all of these refs need, so that none of them can be read? */
export function concernsEach(fault: Fault, refs: readonly OpRef[]): boolean {
  const [first] = refs;
  if (fault.concerns === 'all' || first === undefined || refs.length === 1) return true;
  if (!refs.every((ref) => mayConcern(fault, ref) && sameName(ref.vault, first.vault))) return false;
  return fault.kind === 'vault-missing' || (fault.kind === 'item-missing' && refs.every((ref) => sameName(ref.item, first.item)));
}

export function faultError(fault: Fault, ref: OpRef): KzError {
  if (fault.concerns === 'all') return fault.error;
  const { vault, item, field = '' } = ref;
  const inVault = `1Password item ${JSON.stringify(item)} in vault ${JSON.stringify(vault)}`;
  const error = (code: ErrorCode, message: string, words: readonly string[]): KzError =>
    new KzError(code, message, { hint: `run \`${joinWords(words)}\`` });
  switch (fault.kind) {
    case 'vault-missing':
      // Also what a service account without access to it is told: an optional secret must not be absent because of that.
      return error('ref-invalid', `1Password has no vault ${JSON.stringify(vault)} for this account`, ['op', 'vault', 'list']);
    case 'item-missing':
      return error('secret-missing', `1Password vault ${JSON.stringify(vault)} has no item ${JSON.stringify(item)}`, listItems(vault));
    case 'field-missing':
      return error('secret-missing', `${inVault} has no field ${JSON.stringify(field)}`, ['op', 'item', 'get', item, '--vault', vault]);
    case 'ambiguous':
      return new KzError('ref-invalid', `1password ref ${JSON.stringify(ref.text)} fits more than one vault, item or field`, {
        hint: `use an ID instead of the name: run \`${joinWords(listItems(vault))}\``,
      });
    case 'malformed':
      return new KzError('ref-invalid', `op cannot read the 1password ref ${JSON.stringify(ref.text)}`, {
        hint: 'names take letters, digits, spaces and - _ . only; write the ID of anything else',
      });
    case 'denied':
      return error('provider-denied', `1Password does not let this account read ${JSON.stringify(ref.text)}`, ['op', 'vault', 'list']);
    case 'unknown':
      return error('provider-failed', `op cannot read ${JSON.stringify(ref.text)}`, ['op', 'read', ref.text]);
  }
}

function listItems(vault: string): readonly string[] {
  return ['op', 'item', 'list', '--vault', vault];
}

interface RefFault {
  readonly kind: RefFaultKind;
  readonly words: RegExp;
}

/** In the order in which they are tried. The named groups are op's words for parts of the ref. */
const FOR_ONE: readonly RefFault[] = [
  { kind: 'vault-missing', words: /^"(?<vault>.+)" isn't a vault in this account/ },
  { kind: 'item-missing', words: /^"(?<item>.+)" isn't an item in the "(?<vault>.+)" vault/ },
  { kind: 'item-missing', words: /^"(?<item>.+)" isn't an item\b/ },
  // The vault in it is an ID, whatever the ref said.
  { kind: 'item-missing', words: /could not find item (?<item>.+) in vault \S+$/ },
  { kind: 'field-missing', words: /^item '(?<vault>[^/]+)\/(?<item>.+)' does not have a field '(?<field>.+)'/ },
  { kind: 'field-missing', words: /^"(?<field>.+)" isn't a field in the "(?<item>.+)" item/ },
  { kind: 'ambiguous', words: /^More than one item matches "(?<item>.+)"/ },
  { kind: 'ambiguous', words: /^More than one vault matches "(?<vault>.+)"/ },
  { kind: 'malformed', words: /^invalid secret reference '(?<ref>[^']+)'/ },
  { kind: 'malformed', words: /^parsing error at / },
];

const OF_REF = /^could not read secret '(?<ref>[^']+)': (?<rest>.*)$/;

function readRefFault(line: string): Fault | undefined {
  const about = OF_REF.exec(line)?.groups;
  const rest = about?.rest ?? line;
  for (const { kind, words } of FOR_ONE) {
    const found = words.exec(rest);
    if (found !== null) return { concerns: 'some', kind, named: { ...found.groups, ...(about === undefined ? {} : { ref: about.ref }) } };
  }
  return undefined;
}

interface FaultForAll {
  readonly words: RegExp;
  readonly error: () => KzError;
}

const SIGN_IN_HINT = 'run `op signin`, or set OP_SERVICE_ACCOUNT_TOKEN (under an MCP client: in the `env` of its configuration)';

const FOR_ALL: readonly FaultForAll[] = [
  {
    words: /prompt dismissed|authorization (?:was )?(?:denied|timeout|timed out)/i,
    error: () => locked('1Password was not unlocked: its prompt was dismissed', `approve it next time; or ${SIGN_IN_HINT}`),
  },
  {
    words: /connecting to desktop app|desktop app (?:is )?(?:not|un)/i,
    error: () => locked('op cannot reach the 1Password app', `start the app and unlock it; or ${SIGN_IN_HINT}`),
  },
  {
    words: /multiple accounts|(?:found )?no accounts? (?:found )?for filter|could not find account/i,
    error: () =>
      new KzError('provider-failed', 'op does not know which 1Password account is meant', {
        hint: 'run `op account list`, and set `account` in [providers.1password]',
      }),
  },
  {
    words: /not (?:currently )?signed in|session (?:has )?expired|invalid session|no accounts configured|sign ?in again|account is locked/i,
    error: () => locked('op is not signed in to 1Password', SIGN_IN_HINT),
  },
  {
    words: /service account.*(?:invalid|expired|deleted|deserialize)|\b401\b|unauthorized|authentication required/i,
    error: () => locked('1Password refused the login of op', 'check OP_SERVICE_ACCOUNT_TOKEN or OP_CONNECT_TOKEN, or run `op signin`'),
  },
  {
    words: /\b429\b|too many requests|rate.?limit/i,
    error: () =>
      new KzError('provider-failed', '1Password takes no more requests for now (429)', { hint: 'run `op service-account ratelimit`' }),
  },
  {
    words: /no such host|dial tcp|connection refused|connection reset|i\/o timeout|deadline exceeded|network is unreachable|tls:|x509:/i,
    error: () => new KzError('provider-unavailable', 'op cannot reach 1Password over the network', { hint: 'run `op vault list`' }),
  },
];

function locked(message: string, hint: string): KzError {
  return new KzError('provider-locked', message, { hint });
}
