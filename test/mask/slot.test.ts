import { describe, expect, it } from 'vitest';
import { slotsOf } from '../../src/mask/slot.ts';

describe('by default', () => {
  const slots = slotsOf(undefined);

  it.each(
    'authorization,Authorization,cookie,X-Api-Key,x-auth-token,X-Vault-Token,PRIVATE-TOKEN,dd-api-key,apikey,x-authkey,x-secret,x-password,x-pass,'
      .concat('x-amz-security-token,x-registry-auth,authentication,x-shopify-access-token,x-plex-token,x-functions-key,x-csrf-token,x-pat')
      .split(','),
  )('the header %s is one', (name) => {
    expect(slots.header(name)).toBe(true);
  });

  it.each(
    'host,user-agent,origin,referer,accept,accept-encoding,access-control-request-headers,sec-websocket-protocol,sec-websocket-key,sec-fetch-mode,'
      .concat(
        'idempotency-key,x-idempotency-key,content-type,content-disposition,content-length,prefer,expect,last-event-id,via,x-forwarded-for,',
      )
      .concat(
        'x-forwarded-authorization,forwarded,if-match,if-none-match,range,traceparent,tracestate,baggage,x-request-id,x-correlation-id,link,',
      )
      .concat(
        'location,x-b3-traceid,surrogate-key,proxy-authorization,transfer-encoding,:path,:authority,x-token-type,x-key-id,x-custom,set,',
      )
      .concat('x-author,x-monkey,x-secretary,x-passenger,x-max-tokens')
      .split(','),
  )('the header %s is none', (name) => {
    expect(slots.header(name)).toBe(false);
    expect(slots.header(name.toUpperCase())).toBe(false);
  });

  it.each(
    'token,access_token,key,api_key,apiKey,api-key,secret,client_secret,password,pass,pwd,auth,sig,appid,jwt,hapikey,X-Amz-Security-Token'.split(
      ',',
    ),
  )('the parameter %s is one', (name) => {
    expect(slots.query(name)).toBe(true);
  });

  it.each([
    'q',
    'query',
    'page',
    'user',
    'id',
    'code',
    'state',
    'token_type',
    'max_tokens',
    'sort_key',
    'design',
    'keyword',
    '',
    'x'.repeat(300) + '_key',
  ])('the parameter %s is none', (name) => {
    expect(slots.query(name)).toBe(false);
  });

  it.each<[boolean, string[]]>([
    [true, ['token']],
    [true, ['a', 'b', 'refreshToken']],
    [true, ['user[password]']],
    [true, ['pass']],
    [true, ['bearer']],
    [false, ['token', 'note']],
    [false, ['content']],
    [false, ['compass']],
    [false, ['sig']],
    [false, []],
  ])('%s: the field %j', (expected, path) => {
    expect(slots.field(path)).toBe(expected);
    expect(slots.field(path, true)).toBe(false);
  });

  it('neither a path nor a whole body is one', () => {
    expect(slots).toMatchObject({ fields: true, path: false, body: false, frame: false });
  });

  it('answers the same when it remembers', () => {
    for (let round = 0; round < 3; round++) {
      for (let number = 0; number < 1500; number++) {
        expect(slots.header(`x-${String(number)}-token`)).toBe(true);
        expect(slots.header(`x-${String(number)}-thing`)).toBe(false);
      }
    }
  });
});

describe('a list of its own', () => {
  it('replaces the default', () => {
    const slots = slotsOf(['header:X-Thing', 'query:k', 'body:client.assertion']);
    expect(slots).toMatchObject({ fields: true, path: false, body: false, frame: false });
    expect(['x-thing', 'X-THING', 'authorization', 'cookie'].map((name) => slots.header(name))).toEqual([true, true, false, false]);
    expect(['k', 'K', 'token'].map((name) => slots.query(name))).toEqual([true, false, false]);
    expect([['client', 'assertion'], ['client.assertion'], ['assertion'], ['token'], []].map((path) => slots.field(path))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
    expect(slots.field(['client', 'assertion'], true)).toBe(true);
  });

  it('with body means anywhere in it, and in messages', () => {
    expect(slotsOf(['body'])).toMatchObject({ fields: true, path: false, body: true, frame: true });
    expect(slotsOf(['body']).field(['x'])).toBe(true);
    expect(slotsOf(['path'])).toMatchObject({ fields: false, path: true, body: false, frame: false });
    expect(slotsOf([])).toMatchObject({ fields: false, path: false, body: false, frame: false });
  });

  it('may name headers that are none by default', () => {
    for (const name of ['user-agent', 'sec-websocket-protocol', 'idempotency-key'])
      expect(slotsOf([`header:${name}`]).header(name)).toBe(true);
  });

  it.each(
    [
      'header:Host',
      'header:content-length',
      'header:Transfer-Encoding',
      'header:proxy-authorization',
      'header:connection',
      'header:',
    ].concat(['query:', 'body:', 'Path', 'cookie', '', 'frame']),
  )('with %j is refused', (entry) => {
    expect(() => slotsOf(['path', entry])).toThrow(expect.objectContaining({ code: 'config-invalid' }));
  });
});

it('adds to the default places when the list names them', () => {
  const slots = slotsOf(['default', 'query:q', 'body:a.b']);
  expect(slots.words).toEqual(['default', 'query:q', 'body:a.b']);
  expect([slots.header('Authorization'), slots.header('User-Agent'), slots.query('token'), slots.query('q')]).toEqual([
    true,
    false,
    true,
    true,
  ]);
  expect([slots.field(['client_secret']), slots.field(['a', 'b']), slots.field(['text'])]).toEqual([true, true, false]);
  expect(slots.field(['client_secret'], true)).toBe(false);
  expect([slots.path, slots.body, slots.frame]).toEqual([false, false, false]);
  expect(slotsOf(undefined).words).toEqual(['default']);
});
