// What is inside a CONNECT tunnel that is not TLS: HTTP in the clear, as the preload for Node sends it.
import { once } from 'node:events';
import tls from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from './lab.ts';
import { Scene } from './scene.ts';

let lab: Lab;

/** Sends `requests` in one tunnel, each when the one before was answered. Each answer must be complete in what arrives after its head. */
async function inTunnel(authority: string, requests: readonly string[], answered: RegExp): Promise<string[]> {
  const socket = await lab.connect(authority);
  const answers: string[] = [];
  for (const request of requests) {
    socket.write(request, 'latin1');
    let text = '';
    while (!answered.test(text)) text += String(((await once(socket, 'data')) as [Buffer])[0]);
    answers.push(text);
  }
  socket.destroy();
  return answers;
}

describe('HTTP in the clear inside a tunnel', () => {
  afterEach(async () => {
    await lab.close();
  });

  it('is answered and swapped, request after request', async () => {
    lab = await Lab.start({
      secrets: [{ name: 'TOKEN', hosts: ['api.example.com:80'] }],
      serve: (request, response) => {
        response.end(`<${request.url ?? ''} ${request.headers['x-api-key'] === lab.value() ? 'value' : 'token'}>`);
      },
    });
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: api.example.com\r\nX-Api-Key: ${lab.token()}\r\n\r\n`;
    const [first, second] = await inTunnel('api.example.com:80', [get('/1'), get('/2')], /<.*>/);
    expect(first).toContain('</1 value>');
    expect(second).toContain('</2 value>');
  });

  it('is refused in words', async () => {
    lab = await Lab.start();
    const [refusal] = await inTunnel('169.254.169.254:80', ['GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n'], /around the proxy/);
    expect(refusal).toMatch(/^HTTP\/1\.1 403 .*\r\nx-kz-error: address-forbidden\r\n/is);
    expect(refusal).toContain('kz: 403 Forbidden: 169.254.169.254 is a metadata address, and no rule of .keyzero.toml names it\n');
  });
});

describe('a tunnel that carries no HTTP', () => {
  const scene = new Scene();
  afterEach(() => scene.end());

  it.each([
    ['garbage', Buffer.from('\0\x01\x02 what is this')],
    ['a broken ClientHello', Buffer.from('16030100050100000100', 'hex')],
    ['an SSH client', Buffer.from('SSH-2.0-OpenSSH_9.6\r\n')],
  ])('is closed with a line in the log: %s', async (_what, bytes) => {
    await scene.start();
    const child = scene.child(await scene.lab.connect('api.example.com:2222'));
    child.socket.write(bytes);
    await child.closed();
    expect(child.text).toBe('');
    expect(scene.lab.events).toMatchObject([{ type: 'refused', why: 'not-http', host: 'api.example.com', port: 2222 }]);
  });

  it('and no bytes at all ends quietly', async () => {
    await scene.start();
    const child = scene.child(await scene.lab.connect('api.example.com:443'));
    child.socket.end();
    await child.closed();
    expect(scene.lab.events).toEqual([]);
  });

  it('to a port that speaks no TLS is a 502 inside TLS', async () => {
    await scene.start({ raw: (socket) => socket.end('220 mail.example.com ESMTP\r\n') });
    const reply = await scene.ask('https://api.example.com:25/');
    expect(reply).toMatchObject({ status: 502, headers: { 'x-kz-error': 'upstream-tls' } });
  });

  it('in a TLS that is too old is closed with a line in the log', async () => {
    await scene.start();
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    const socket = tls.connect({ socket: await scene.lab.connect('api.example.com:443'), servername: 'api.example.com', ...old });
    await expect(once(socket, 'secureConnect')).rejects.toThrow();
    await expect.poll(() => scene.lab.events).toMatchObject([{ type: 'refused', why: 'bad-tls', host: 'api.example.com' }]);
  });
});
