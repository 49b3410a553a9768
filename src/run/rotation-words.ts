// What happens to values while a program runs, in words: for standard error, and for the log of a blind run.
import type { Rotation } from '../audit/event.ts';
import type { KeeperEvent } from '../providers/renew-event.ts';
import type { Notice } from './blind-secrets.ts';

/** What depends on who uses the values. */
export interface RotationWords {
  /** Ends `A, B changed: `. */
  readonly adopted: (names: readonly string[]) => string;
  /** Ends `the lease of A ends at 14:05:09 and cannot be renewed: `. */
  readonly ending: string;
}

export function rotationNotice(event: KeeperEvent, words: RotationWords): Notice {
  const names = namesOf(event).join(', ');
  switch (event.type) {
    case 'adopted':
      return { level: 'notice', text: `${names} changed: ${words.adopted(event.names)}` };
    case 'kept':
      return { level: 'warning', text: `${names} ${event.why}; the old value stays` };
    case 'failing': {
      const until = event.until === undefined ? '' : ` until ${clock(event.until)}`;
      const subject = names === '' ? 'secrets' : names;
      return { level: 'warning', text: `${subject} cannot be read again, the old value stays${until}: ${event.error.message}` };
    }
    case 'working':
      return { level: 'notice', text: `${names} can be read again` };
    case 'ending':
      return { level: 'warning', text: `the lease of ${names} ends at ${clock(event.at)} and cannot be renewed: ${words.ending}` };
    case 'expired':
      return { level: 'warning', text: `the lease of ${names} is over, and there is no new value` };
  }
}

export function rotationEvent(event: KeeperEvent): Rotation {
  const why = event.type === 'kept' ? event.why : event.type === 'failing' ? event.error.message : null;
  return { type: 'rotation', time: new Date().toISOString(), names: namesOf(event), result: event.type, why };
}

function namesOf(event: KeeperEvent): readonly string[] {
  return event.type === 'kept' ? [event.name] : event.names;
}

/** `14:05:09`, in the time zone of the reader. */
function clock(ms: number): string {
  return new Date(ms).toTimeString().slice(0, 8);
}
