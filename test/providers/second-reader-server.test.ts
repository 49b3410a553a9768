// What a server can do to kz: be somebody else, and answer in ways that keep kz busy or waiting.
import { createServer, type RequestListener } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { JsonServer } from '../../src/providers/ask-json.ts';
import { Authority } from '../../src/proxy/authority.ts';
import { rejection } from './vault-bench.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function portOf(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => server.close());
  return String((server.address() as AddressInfo).port);
}

function ask(address: string, ms: number): Promise<unknown> {
  const server = new JsonServer({ who: 'the server' });
  ends.push(() => {
    server.close();
  });
  return server.ask({ method: 'GET', url: new URL(address), headers: { 'x-vault-token': 'CANARY' } }, AbortSignal.timeout(ms));
}

it('is not believed to be somebody whom it cannot prove to be, also when Node is told to check nothing', async () => {
  const received: unknown[] = [];
  const listener: RequestListener = ({ headers }, response) => {
    received.push(headers);
    response.end('{}');
  };
  const authority = Authority.create();
  const server = createSecureServer(
    {
      SNICallback: (name, done) => {
        done(null, authority.contextFor(name));
      },
    },
    listener,
  );
  const port = await portOf(server);
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  ends.push(() => {
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  });
  expect(await rejection(ask(`https://localhost:${port}/`, 5000))).toMatchObject({ code: 'provider-unavailable' });
  expect(received).toEqual([]);
});

describe('a busy server', () => {
  it.each(['0', '', '-5', '0.000001', 'Wed, 21 Oct 2015 07:28:00 GMT'])(
    'is not asked as fast as it answers: Retry-After: %j',
    async (after) => {
      let count = 0;
      const server = createServer((_request, response) => {
        count += 1;
        response.writeHead(429, { 'retry-after': after }).end();
      });
      const error = await rejection(ask(`http://127.0.0.1:${await portOf(server)}/`, 700));
      expect(error).toMatchObject({ code: 'provider-timeout', message: expect.stringContaining('keeps answering 429') as unknown });
      expect(count).toBeLessThan(8);
    },
  );
});

it('is not waited for when it switches protocols, which ends the request without an error', async () => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'));
  });
  const error = await rejection(ask(`http://127.0.0.1:${await portOf(server)}/`, 5000));
  expect(error).toMatchObject({ code: 'provider-failed', message: 'the server ended the connection without an answer' });
});
