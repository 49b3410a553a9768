import net from 'node:net';
import { expect, it } from 'vitest';
import { readCall, targetOf } from '../../src/preload/target.ts';

const callback = () => undefined;

it.each([
  [[{ host: 'a.test', port: 1 }, callback], { host: 'a.test', port: 1 }],
  [[443, 'a.test', callback], { port: 443, host: 'a.test' }],
  [['443', 'a.test', callback], { port: '443', host: 'a.test' }],
  [[443, callback], { port: 443 }],
  [['/run/a.sock', callback], { path: '/run/a.sock' }],
  [[[{ port: 1, host: 'a.test' }, callback]], { port: 1, host: 'a.test' }],
])('reads %j as Node does', (args, options) => {
  expect(readCall(args)).toEqual({ options, onConnect: callback });
});

it('agrees with Node on what it reads', () => {
  const normalize: unknown = Reflect.get(net, '_normalizeArgs');
  expect.assert(typeof normalize === 'function');
  for (const args of [[443, 'a.test'], ['443'], ['pipe'], ['-1'], [{ port: 1 }], [''], [0, callback]]) {
    const [options, onConnect] = Reflect.apply(normalize, net, [args]) as [object, unknown];
    const call = readCall(args);
    expect({ ...call.options, onConnect: call.onConnect ?? null }).toEqual({ ...options, onConnect });
  }
});

it.each([
  ['api.test', 'api.test'],
  ['API.Test.', 'api.test'],
  ['bücher.test', 'xn--bcher-kva.test'],
  ['my_service', 'my_service'],
  ['203.0.113.9', '203.0.113.9'],
  ['2001:DB8::1', '2001:db8::1'],
  ['10.0.0.1', '10.0.0.1'],
  ['::ffff:203.0.113.9', '::ffff:203.0.113.9'],
  ['localhost.test', 'localhost.test'],
  ['127.0.0.1.test', '127.0.0.1.test'],
])('%s goes to the proxy as %s', (host, sent) => {
  expect(targetOf({ host, port: 443 })).toEqual({ host: sent, port: 443 });
});

it.each([
  ...['localhost', 'LOCALHOST', 'localhost.', 'app.localhost', '127.0.0.1', '127.9.9.9', '0x7f.1', '2130706433', '0.0.0.0'],
  ...['::1', '0:0:0:0:0:0:0:1', '::', '::ffff:127.0.0.1', '::ffff:7f00:1', undefined, ''],
])('%s stays direct', (host) => {
  expect(targetOf({ host, port: 443 })).toBeUndefined();
});

it.each([
  { path: '/run/a.sock', host: 'a.test', port: 1 },
  { host: 'a.test' },
  { host: 'a.test', port: 0 },
  { host: 'a.test', port: 65_536 },
  { host: 'a.test', port: 1.5 },
  { host: 'a.test', port: ' ' },
  { host: 'a.test', port: true },
  { host: 'a\r\nx: y', port: 1 },
  { host: 'a b', port: 1 },
  { host: ['a.test'], port: 1 },
])('%j is left to Node', (options) => {
  expect(targetOf(options)).toBeUndefined();
});

it('takes a port in text', () => {
  expect(targetOf({ host: 'a.test', port: '0x1bb' })).toEqual({ host: 'a.test', port: 443 });
});
