import { describe, expect, it } from 'vitest';
import { exchangeLine } from '../../src/server/exchange-line.ts';
import { exchange, REFUSED, TIME } from './exchange-samples.ts';
import { CALLER } from './http/http-lab.ts';

describe('the line of an exchange', () => {
  it('says who asked for what, and what came of it', () => {
    expect(exchangeLine(exchange(), { caller: CALLER, code: undefined })).toMatchObject({
      ...{ type: 'decision', time: TIME, face: 'proxy', tool: 'proxy', issuer: 'github', sub: CALLER.sub, jti: 'a1', ref: null },
      ...{ host: 'api.example.com', method: 'GET', path: '/a', outcome: 'allowed', code: null, status: 200, ms: 5 },
    });
  });

  it('of one that was blocked or failed says why', () => {
    const blocked = exchange({ decision: 'blocked', why: 'no-match', status: 403 });
    expect(exchangeLine(blocked, { caller: CALLER, code: undefined })).toMatchObject({ outcome: 'denied', why: 'no-match' });
    expect(exchangeLine(blocked, { caller: CALLER, code: 'token-invalid' })).toMatchObject({ outcome: 'denied', code: 'token-invalid' });
    const failed = exchange({ error: 'unreachable', status: 502 });
    expect(exchangeLine(failed, { caller: CALLER, code: undefined })).toMatchObject({ outcome: 'failed', code: 'unreachable' });
  });

  it('of a connection that never became one names nobody', () => {
    expect(exchangeLine(REFUSED, { caller: undefined, code: undefined })).toMatchObject({
      ...{ outcome: 'denied', code: 'no-credential', why: 'no-credential', issuer: null, sub: null, jti: null, host: null },
    });
  });

  it('has an id of its own', () => {
    const ids = Array.from({ length: 100 }, () => exchangeLine(REFUSED, { caller: undefined, code: undefined }).id);
    expect(new Set(ids).size).toBe(100);
  });
});
