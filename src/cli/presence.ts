// How kz speaks of a value: that it is there, and how long it is.
import type { Resolved } from '../providers/secrets.ts';

export const NOTHING_DECLARED = 'no secret is declared; `kz add` declares one';

/** `set(52 chars)`, `absent`, or `failed`. */
export function presence(secret: Resolved): string {
  switch (secret.state) {
    case 'set':
      return `set(${String(secret.secret.length)} chars)${secret.from === 'default' ? ' by default' : ''}`;
    case 'absent':
      return 'absent';
    case 'failed':
      return 'failed';
  }
}
