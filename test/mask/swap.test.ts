import { describe, expect, it } from 'vitest';
import { Swap, SwapNotes } from '../../src/mask/swap.ts';
import { HOST, OTHER, tableOf, throughEveryCut, TOKEN } from '../fixtures/masked-body.ts';

const VALUE = 'CANARY-ü/1';
const LATIN1 = Buffer.from(VALUE).toString('latin1');

function swapFor(facts: { value?: string; swap?: readonly string[]; hosts?: readonly string[]; token?: string } = {}): Swap {
  return new Swap(tableOf({ value: VALUE, ...facts }), HOST, 443);
}

function basic(text: string): string {
  return Buffer.from(text).toString('base64');
}

describe('headers', () => {
  it.each([
    ['Authorization', `Bearer ${TOKEN}`],
    ['authorization', TOKEN],
    ['Authorization', `token="${TOKEN}", again=${TOKEN}`],
    ['Authorization', `Bot ${TOKEN}`],
    ['X-Api-Key', TOKEN],
    ['x-subscription-token', TOKEN],
    ['X-Figma-Token', TOKEN],
    ['PRIVATE-TOKEN', TOKEN],
    ['apikey', TOKEN],
    ['X-Auth-Token', TOKEN],
    ['x-goog-api-key', TOKEN],
    ['Ocp-Apim-Subscription-Key', TOKEN],
    ['Cookie', `a=b; d=${TOKEN}; c=d`],
  ])('%s: %s', (name, value) => {
    const notes = new SwapNotes();
    expect(swapFor().header(name, value, notes)).toBe(value.replaceAll(TOKEN, LATIN1));
    expect(notes.swapped).toEqual([{ name: 'A', where: `header ${name.toLowerCase()}`, slot: `header:${name.toLowerCase()}` }]);
    expect(notes.left).toEqual([]);
  });

  it.each(
    [
      'Host,User-Agent,Origin,Referer,Accept,Accept-Language,Access-Control-Request-Headers,Sec-WebSocket-Protocol,Sec-WebSocket-Key'.split(
        ',',
      ),
      'Idempotency-Key,Content-Disposition,Content-Type,Prefer,Expect,Last-Event-ID,Via,X-Forwarded-For,Forwarded,If-None-Match,Range'.split(
        ',',
      ),
      'traceparent,tracestate,X-Request-Id,X-Correlation-Id,Link,Location,X-Custom,Proxy-Authorization,Connection,TE,:path,:authority'.split(
        ',',
      ),
    ].flat(),
  )('leaves %s', (name) => {
    const notes = new SwapNotes();
    expect(swapFor().header(name, `x ${TOKEN}`, notes)).toBe(`x ${TOKEN}`);
    expect(notes).toMatchObject({ swapped: [], left: [{ name: 'A', where: `header ${name.toLowerCase()}`, reason: 'slot' }] });
  });

  it('says that nothing allows a token in Host', () => {
    const notes = new SwapNotes();
    swapFor().header('Host', TOKEN, notes);
    swapFor().header('User-Agent', TOKEN, notes);
    expect(notes.left.map(({ slot }) => slot)).toEqual(['', 'header:user-agent']);
  });

  it('takes only the headers that a list names', () => {
    const swap = swapFor({ swap: ['header:X-Thing', 'header:user-agent'] });
    expect(swap.header('x-thing', TOKEN, new SwapNotes())).toBe(LATIN1);
    expect(swap.header('User-Agent', TOKEN, new SwapNotes())).toBe(LATIN1);
    expect(swap.header('Authorization', TOKEN, new SwapNotes())).toBe(TOKEN);
  });

  it.each([
    ['as the password', `user:${TOKEN}`],
    ['as the user', `${TOKEN}:`],
    ['as both', `${TOKEN}:${TOKEN}`],
    ['alone', TOKEN],
    ['between characters outside ASCII', `ü:é${TOKEN}`],
  ])('Basic with the token %s', (_, text) => {
    const notes = new SwapNotes();
    expect(swapFor().header('Authorization', `Basic ${basic(text)}`, notes)).toBe(`Basic ${basic(text.replaceAll(TOKEN, VALUE))}`);
    expect(notes.swapped).toHaveLength(1);
  });

  it.each([
    ['basic  ', ' '],
    ['BASIC ', ''],
  ])('keeps %jas it is written', (scheme, end) => {
    expect(swapFor().header('authorization', scheme + basic(`u:${TOKEN}`) + end, new SwapNotes())).toBe(scheme + basic(`u:${VALUE}`) + end);
  });

  it.each([
    `Basic ${basic('user:other')}`,
    'Basic',
    'Basic ',
    'Basic !!!',
    'Basic A',
    'Basic =',
    `Basic ${basic(TOKEN)}!`,
    `Digest ${basic(TOKEN)}`,
  ])('keeps %s', (value) => {
    expect(swapFor().header('Authorization', value, new SwapNotes())).toBe(value);
  });

  it('swaps a token that follows Basic without being encoded', () => {
    expect(swapFor().header('Authorization', `Basic ${TOKEN}`, new SwapNotes())).toBe(`Basic ${LATIN1}`);
  });

  it('notes a token in Basic that was left', () => {
    const notes = new SwapNotes();
    const value = `Basic ${basic(`u:${TOKEN}`)}`;
    expect(new Swap(tableOf({ value: VALUE }), 'evil.com', 443).header('Authorization', value, notes)).toBe(value);
    expect(notes.left).toEqual([{ name: 'A', where: 'header authorization', slot: 'header:authorization', reason: 'host' }]);
  });

  it.each(['a\rb', 'a\nb', 'a\0b', 'a\x7fb', '\x01'])('never holds %j', (value) => {
    for (const header of [`Bearer ${TOKEN}`, `Basic ${basic(`u:${TOKEN}`)}`]) {
      const notes = new SwapNotes();
      expect(swapFor({ value }).header('Authorization', header, notes)).toBe(header);
      expect(notes.left).toMatchObject([{ reason: 'encoding' }]);
    }
  });

  it('returns the same string when there is nothing to do', () => {
    expect(swapFor().header('Authorization', 'Bearer kz_masked_other', new SwapNotes())).toBe('Bearer kz_masked_other');
    expect(swapFor().header('Authorization', `Bearer ${TOKEN.slice(0, -1)}`, new SwapNotes())).toBe(`Bearer ${TOKEN.slice(0, -1)}`);
  });

  it('does not read a value as a pattern', () => {
    expect(swapFor({ value: '$&$1$`' }).header('Authorization', TOKEN, new SwapNotes())).toBe('$&$1$`');
  });
});

describe('hosts', () => {
  it.each(['evil.com', 'api.example.com.evil.com', 'example.com', 'xapi.example.com'])('leaves everything on the way to %s', (host) => {
    const swap = new Swap(tableOf({ value: VALUE, swap: ['header:authorization', 'query:token', 'path', 'body'] }), host, 443);
    const notes = new SwapNotes();
    expect(swap.header('Authorization', TOKEN, notes)).toBe(TOKEN);
    expect(swap.target(`/${TOKEN}?token=${TOKEN}`, notes)).toBe(`/${TOKEN}?token=${TOKEN}`);
    expect(swap.body('application/json', notes)).toBeUndefined();
    expect(swap.frame(notes)).toBeUndefined();
    expect(notes.swapped).toEqual([]);
    expect(notes.left.map(({ where, reason }) => `${where}: ${reason}`)).toEqual([
      'header authorization: host',
      'path: host',
      'query token: host',
    ]);
  });

  it('judges each secret by its own', () => {
    const table = tableOf({ value: 'CANARY-1' }, { name: 'B', token: OTHER, value: 'CANARY-2', hosts: ['other.com'] });
    const notes = new SwapNotes();
    expect(new Swap(table, HOST, 443).header('Authorization', `${TOKEN} ${OTHER}`, notes)).toBe(`CANARY-1 ${OTHER}`);
    expect(notes).toMatchObject({ swapped: [{ name: 'A' }], left: [{ name: 'B', reason: 'host' }] });
    const text = `{"token":"${TOKEN} ${OTHER}"}`;
    expect(throughEveryCut(() => new Swap(table, HOST, 443).body('application/json', notes), text)).toBe(`{"token":"CANARY-1 ${OTHER}"}`);
  });

  it('judges a port', () => {
    const table = tableOf({ value: 'CANARY', hosts: ['api.example.com:8443'] });
    expect(new Swap(table, HOST, 8443).header('Authorization', TOKEN, new SwapNotes())).toBe('CANARY');
    expect(new Swap(table, HOST, 443).header('Authorization', TOKEN, new SwapNotes())).toBe(TOKEN);
  });
});

describe('targets', () => {
  it.each([
    [`/a?token=${TOKEN}`, '/a?token=CANARY-%C3%BC%2F1'],
    [`/?a=b&api_key=${TOKEN}&c`, '/?a=b&api_key=CANARY-%C3%BC%2F1&c'],
    [`/?key=${TOKEN}&key=${TOKEN}`, '/?key=CANARY-%C3%BC%2F1&key=CANARY-%C3%BC%2F1'],
    [`/?appid=${TOKEN}`, '/?appid=CANARY-%C3%BC%2F1'],
    [`/%7e/%2f?b=%20+&acc%65ss_token=${TOKEN.replaceAll('_', '%5F')}&&z=%zz`, '/%7e/%2f?b=%20+&acc%65ss_token=CANARY-%C3%BC%2F1&&z=%zz'],
    [`?token=x${TOKEN}?y`, '?token=xCANARY-%C3%BC%2F1?y'],
  ])('%s', (target, expected) => {
    expect(swapFor().target(target, new SwapNotes())).toBe(expected);
  });

  it.each([
    [`/?q=${TOKEN}`, 'query q', 'query:q'],
    [`/?${TOKEN}=x`, 'query', ''],
    [`/?token=x;q=${TOKEN}`, 'query', ''],
    [`/?a%0Ab=${TOKEN}`, 'query a?b', ''],
    [`/${TOKEN}`, 'path', 'path'],
    [`/${TOKEN.replaceAll('_', '%5f')}/x`, 'path', 'path'],
    [`/token=${TOKEN}`, 'path', 'path'],
  ])('leaves %s', (target, where, slot) => {
    const notes = new SwapNotes();
    expect(swapFor().target(target, notes)).toBe(target);
    expect(notes).toEqual({ swapped: [], left: [{ name: 'A', where, slot, reason: 'slot' }] });
  });

  it.each(['/', '*', '', '?', '/a?b', '/%', '/%zz?%', '/a?b=c&&d=%41+%2b#x', '/\xff?\xff=%ff'])('passes %j', (target) => {
    expect(swapFor().target(target, new SwapNotes())).toBe(target);
  });

  it('takes the parameters and paths that a list names', () => {
    const swap = swapFor({ swap: ['query:q', 'path'], value: '12:a/b c?' });
    expect(swap.target(`/bot${TOKEN}/x?q=${TOKEN}&token=${TOKEN}`, new SwapNotes())).toBe(
      `/bot12:a%2Fb%20c%3F/x?q=12%3Aa%2Fb%20c%3F&token=${TOKEN}`,
    );
    expect(swap.target(`/${TOKEN.replaceAll('_', '%5f')}`, new SwapNotes())).toBe('/12:a%2Fb%20c%3F');
  });

  it('finds a token of shape exact encoded or not', () => {
    const swap = swapFor({ token: 'Ab/cd+1234567==', value: 'CANARY' });
    expect(swap.target('/?token=Ab%2Fcd%2B1234567%3D%3D', new SwapNotes())).toBe('/?token=CANARY');
    expect(swap.target('/?token=Ab/cd+1234567==', new SwapNotes())).toBe('/?token=CANARY');
  });
});

describe('WebSocket messages', () => {
  it('are touched only for secrets whose list has body', () => {
    expect(swapFor().frame(new SwapNotes())).toBeUndefined();
    expect(swapFor({ swap: ['body:d.token'] }).frame(new SwapNotes())).toBeUndefined();
  });

  it.each([
    [`{"op":2,"d":{"token":"${TOKEN}"}}`, '{"op":2,"d":{"token":"CANARY\\"1"}}'],
    [` \n["${TOKEN}"]`, ' \n["CANARY\\"1"]'],
    [`AUTH ${TOKEN}`, 'AUTH CANARY"1'],
    [TOKEN, 'CANARY"1'],
  ])('%s', (text, expected) => {
    const notes = new SwapNotes();
    expect(throughEveryCut(() => swapFor({ swap: ['body'], value: 'CANARY"1' }).frame(notes), text)).toBe(expected);
    expect(notes.swapped).toEqual([{ name: 'A', where: 'frame', slot: 'body' }]);
  });

  it('leaves the tokens of others', () => {
    const table = tableOf({ value: 'CANARY', swap: ['body'] }, { name: 'B', token: OTHER, value: 'CANARY-2' });
    const notes = new SwapNotes();
    expect(throughEveryCut(() => new Swap(table, HOST, 443).frame(notes), `${TOKEN} ${OTHER}`)).toBe(`CANARY ${OTHER}`);
    expect(notes.left).toEqual([{ name: 'B', where: 'frame', slot: 'body', reason: 'slot' }]);
  });
});

describe('notes', () => {
  it('are taken once for each secret and place', () => {
    const notes = new SwapNotes();
    for (let round = 0; round < 3; round++) swapFor().header('Authorization', `${TOKEN} ${TOKEN}`, notes);
    swapFor().target(`/?q=${TOKEN}&q=${TOKEN}&r=${TOKEN}`, notes);
    expect(notes.swapped.map(({ where }) => where)).toEqual(['header authorization']);
    expect(notes.left.map(({ where }) => where)).toEqual(['query q', 'query r']);
  });

  it('are fifty at the most, and short', () => {
    const notes = new SwapNotes();
    const query = Array.from({ length: 80 }, (_, number) => `${'x'.repeat(500)}${String(number)}=${TOKEN}`).join('&');
    swapFor().target(`/?${query}`, notes);
    for (let number = 0; number < 80; number++) swapFor().target(`/?x${String(number)}=${TOKEN}`, notes);
    expect(notes.left).toHaveLength(50);
    expect(Math.max(...notes.left.map(({ where }) => where.length))).toBeLessThan(140);
    expect(notes.left[0]?.slot).toBe('');
  });

  it('hold no value', () => {
    const notes = new SwapNotes();
    const swap = swapFor({ swap: ['header:authorization', 'query:q', 'path', 'body'] });
    swap.header('Authorization', TOKEN, notes);
    swap.target(`/${TOKEN}?q=${TOKEN}&r=${TOKEN}`, notes);
    swap.body('application/json', notes)?.push(Buffer.from(`{"a":"${TOKEN}"}`));
    expect(notes.swapped).toHaveLength(4);
    expect(JSON.stringify(notes)).not.toContain('CANARY');
  });
});

it('allows one secret to be swapped into the token of no other', () => {
  const table = tableOf({ value: OTHER }, { name: 'B', token: OTHER, value: 'CANARY' });
  expect(new Swap(table, HOST, 443).header('Authorization', TOKEN, new SwapNotes())).toBe(OTHER);
});
