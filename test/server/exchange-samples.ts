// What the proxy tells of an exchange, for tests of what the server writes down of it.
import type { Exchange, Refused } from '../../src/audit/event.ts';

export const TIME = '2026-11-21T07:55:54.123Z';

export function exchange(more: Partial<Exchange> = {}): Exchange {
  return {
    type: 'exchange',
    time: TIME,
    protocol: 'http/1.1',
    scheme: 'https',
    host: 'api.example.com',
    port: 443,
    method: 'GET',
    path: '/a',
    ...({ decision: 'allowed', why: 'rule', status: 200, ms: 5, error: null } as const),
    ...more,
  } as Exchange;
}

export const REFUSED: Refused = { type: 'refused', time: TIME, why: 'no-credential', host: null, port: null };
