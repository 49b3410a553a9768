// `op://vault/item[/section]/field[?attribute=…]`, 1Password's own way to say where a value is.
import { KzError } from '../core/errors.ts';

export interface OpRef {
  readonly text: string;
  readonly vault: string;
  readonly item: string;
  readonly section: string | undefined;
  /** Undefined when the ref means the whole item. */
  readonly field: string | undefined;
  /** `attribute=otp` or `ssh-format=openssh`, which `op` understands. */
  readonly query: string | undefined;
}

/** Braces, quotes, `$` and `\` mean something in the templates that `op` reads, and a line break could forge one. */
const SPECIAL = /[\p{Cc}{}$\\"]/u;

/** Throws `ref-invalid`. */
export function parseOpRef(text: string): OpRef {
  const [path = '', ...queries] = text.slice('op://'.length).split('?');
  const parts = path.split('/');
  const [vault = '', item = '', ...rest] = parts;
  const query = queries.length === 0 ? undefined : queries.join('?');
  const [problem, hint = 'write it as `op://vault/item/field`'] = findProblem(text, parts) ?? [];
  if (problem !== undefined) throw new KzError('ref-invalid', `1password ref ${JSON.stringify(text)} ${problem}`, { hint });
  if (rest.length === 0 && query !== undefined) {
    throw new KzError('ref-invalid', `1password ref ${JSON.stringify(text)} names no field`, {
      hint: 'write it as `op://vault/item/field?…`',
    });
  }
  return { text, vault, item, section: rest.length === 2 ? rest[0] : undefined, field: rest.at(-1), query };
}

/** The problem, and a hint when there is a better one than the form of a ref. */
function findProblem(text: string, parts: readonly string[]): readonly [string, string?] | undefined {
  if (!text.startsWith('op://')) return ['does not start with op://'];
  const special = SPECIAL.exec(text);
  if (special !== null) {
    return [
      `holds ${JSON.stringify(special[0])}, which op does not take in a ref`,
      'write the ID of the item or field instead of its name',
    ];
  }
  if (parts.some((part) => part === '' || part !== part.trim())) return ['has a part that is empty, or starts or ends with a space'];
  if (parts.length < 2 || parts.length > 4) return [`has ${String(parts.length)} ${parts.length === 1 ? 'part' : 'parts'}`];
  // Where an item is named in the arguments, op would take it for an option or for its standard input.
  if (parts[1]?.startsWith('-')) return ['has an item that starts with -', 'write the ID of the item instead of its name'];
  return undefined;
}

/** 1Password's names do not tell capitals apart. */
export function sameName(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
