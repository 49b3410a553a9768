// What a child reads when the way to a server failed: what the code means, and what helps.
import net from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Scene } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const failing = (code: string) => () => Promise.reject(Object.assign(new Error('words of the resolver'), { code }));

it('says that a name does not exist', async () => {
  await scene.start({ dial: { lookup: failing('ENOTFOUND') } });
  const { text } = await scene.ask('https://api.example.com/');
  expect(text).toBe(
    'kz: 502 Bad Gateway: cannot reach api.example.com:443: no address for api.example.com (ENOTFOUND): the name does not exist, or not here\n',
  );
});

it('leaves a code that says all there is as it is', async () => {
  await scene.start({ dial: { lookup: failing('ESOMETHING') } });
  const { text } = await scene.ask('https://api.example.com/');
  expect(text).toBe('kz: 502 Bad Gateway: cannot reach api.example.com:443: no address for api.example.com (ESOMETHING)\n');
});

it('says that nothing listens', async () => {
  await scene.start({ dial: { open: () => net.connect(1, '127.0.0.1') } });
  expect((await scene.ask('http://api.example.com/')).text).toContain('(ECONNREFUSED): nothing listens there\n');
});

it('says that a server does not speak TLS', async () => {
  await scene.start({ raw: (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi') });
  expect((await scene.ask('https://api.example.com/')).text).toContain(
    'what answers there is not TLS: is it http:// instead of https://?\n',
  );
});

it('names upstream_ca for a certificate of an unknown authority', async () => {
  await scene.start({ dial: { ca: [] } });
  const { text, headers } = await scene.ask('https://api.example.com/');
  expect(headers['x-kz-error']).toBe('upstream-tls');
  expect(text).toMatch(
    /: its certificate is signed by nobody that kz trusts\nif you know who signed it, add their certificate to \S+:\n {2}\[blind\]\n {2}upstream_ca = "their-ca\.pem"\nOnly a person can change that/,
  );
});
