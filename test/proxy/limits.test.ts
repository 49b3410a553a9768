// Many of everything: fields, requests, connections; and what is left behind afterwards.
import { readdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { replyOf } from './lab.ts';
import { onHead, Scene, type Wire } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

const MANY = /^x-\d+: 1\r$/gm;

function fields(count: number): string {
  return Array.from({ length: count }, (_, index) => `x-${String(index)}: 1\r\n`).join('');
}

describe('a head', () => {
  it.each(['to the proxy', 'in a tunnel'])('with thousands of fields loses none of them, in both directions, %s', async (way) => {
    await scene.start({
      raw: (socket) =>
        onHead(socket, (head) => {
          socket.write(OK.replace('\r\n\r\n', `\r\nX-Count: ${String(head.match(MANY)?.length)}\r\n${fields(4000)}\r\n`));
        }),
    });
    const head = `Host: api.example.com\r\n${fields(4000)}`;
    const child =
      way === 'in a tunnel'
        ? scene.child(await scene.lab.connect('api.example.com:80'))
        : await scene.send(`GET http://api.example.com/ HTTP/1.1\r\n{login}\r\n${head}\r\n`);
    if (way === 'in a tunnel') child.socket.write(`GET / HTTP/1.1\r\n${head}\r\n`);
    await child.until('\r\n\r\nok');
    expect(child.text).toContain('X-Count: 4000\r\n');
    expect(child.text.match(MANY)).toHaveLength(4000);
  });

  it('of more than 64 KiB is a 431', async () => {
    await scene.start();
    const wires = [
      await scene.send(`GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\nCookie: ${'a'.repeat(70_000)}\r\n\r\n`),
      scene.child(await scene.lab.tunnel('api.example.com:443')),
    ];
    wires[1]?.socket.write(`GET / HTTP/1.1\r\nHost: api.example.com\r\nCookie: ${'a'.repeat(70_000)}\r\n\r\n`);
    for (const wire of wires) expect(await wire.closed()).toMatch(/^HTTP\/1.1 431 .*\r\nx-kz-error: malformed\r\n/s);
    expect(scene.lab.events).toMatchObject([
      { type: 'refused', why: 'malformed' },
      { type: 'refused', why: 'malformed' },
    ]);
    expect(scene.lab.received).toEqual([]);
  });

  it('of less goes through', async () => {
    const wires: Wire[] = [];
    await scene.start({ raw: (socket) => wires.push(onHead(socket, () => socket.write(OK))) });
    await scene.ask('http://api.example.com/', { headers: { cookie: 'a'.repeat(60_000) } });
    expect(wires[0]?.text).toContain('a'.repeat(60_000));
  });

  it('of an answer may be as large', async () => {
    await scene.start({
      raw: (socket) => onHead(socket, () => socket.write(OK.replace('\r\n\r\n', `\r\nX-Policy: ${'a'.repeat(60_000)}\r\n\r\n`))),
    });
    const child = await scene.send('GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n\r\n');
    await child.until('\r\n\r\nok');
    expect(child.bytes.length).toBeGreaterThan(60_000);
  });
});

describe('garbage behind a request', () => {
  it('never becomes a part of the answer that is being given', async () => {
    const wires: Wire[] = [];
    await scene.start({
      raw: (socket) =>
        wires.push(onHead(socket, () => socket.write('HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\npart'))),
    });
    const child = await scene.send('GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n\r\n');
    await child.until('part');
    child.socket.write('\0\0 this is no request\r\n\r\n');
    await child.closed();
    expect(child.body).toBe('part');
    await expect.poll(() => wires[0]?.how).not.toBe('open');
  });
});

describe('connections to an upstream', () => {
  it('are used again, and a request that finds its own one closed is sent once more', async () => {
    const wires: Wire[] = [];
    await scene.start({
      raw: (socket) => {
        const isFirst = wires.length === 0;
        let count = 0;
        wires.push(
          onHead(socket, () => {
            count += 1;
            // Like a server whose patience ends while the third request is on its way.
            if (isFirst && count === 3) socket.resetAndDestroy();
            else socket.write(OK);
          }),
        );
      },
    });
    for (let index = 0; index < 3; index += 1)
      expect((await scene.ask('http://api.example.com/', { method: 'PUT', body: 'x', headers: { 'content-length': 1 } })).text).toBe('ok');
    expect(wires.map(({ text }) => text.split('PUT / HTTP/1.1').length - 1)).toEqual([3, 1]);
    expect(scene.lab.exchanges).toMatchObject([{ status: 200 }, { status: 200 }, { status: 200 }]);
  });

  it('that broke are not tried again for what may not happen twice', async () => {
    const wires: Wire[] = [];
    await scene.start({
      raw: (socket) => {
        let count = 0;
        wires.push(onHead(socket, () => ((count += 1) === 2 ? socket.resetAndDestroy() : socket.write(OK))));
      },
    });
    const post = { method: 'POST', body: 'x', headers: { 'content-length': 1 } };
    expect((await scene.ask('http://api.example.com/', post)).status).toBe(200);
    expect((await scene.ask('http://api.example.com/', post)).headers['x-kz-error']).toBe('upstream-failed');
    expect(wires).toHaveLength(1);
  });

  it('that break twice in a row are an error', async () => {
    let count = 0;
    await scene.start({ raw: (socket) => onHead(socket, () => ((count += 1) === 1 ? socket.write(OK) : socket.resetAndDestroy())) });
    expect((await scene.ask('http://api.example.com/')).status).toBe(200);
    expect((await scene.ask('http://api.example.com/')).headers['x-kz-error']).toBe('upstream-failed');
    expect(count).toBe(3);
  });
});

describe('many requests', () => {
  const serve = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    response.end(`${request.url ?? ''} ${String(request.headers['x-api-key'] ?? '')}`);
  };

  it('in a pipeline are answered in their order', async () => {
    await scene.start({ serve });
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    const heads = Array.from({ length: 50 }, (_, index) => `GET /${String(index)} HTTP/1.1\r\nHost: api.example.com\r\n\r\n`);
    child.socket.write(heads.join(''));
    await child.until('/49 ');
    expect([...child.text.matchAll(/\r\n\r\n\/(\d+) /g)].map(([, index]) => Number(index))).toEqual(heads.map((_, index) => index));
  });

  it('at once are all answered, each with its own answer', async () => {
    await scene.start({ serve });
    const token = scene.lab.token();
    const replies = await Promise.all(
      Array.from({ length: 200 }, (_, index) => scene.ask(`https://api.example.com/${String(index)}`, { headers: { 'x-api-key': token } })),
    );
    expect(replies.map(({ text }) => text)).toEqual(replies.map((_, index) => `/${String(index)} ${token}`));
    expect(scene.lab.exchanges).toHaveLength(200);
  });

  it('one after the other leave nothing behind', async () => {
    await scene.start({ serve });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const socket = await scene.lab.tunnel('api.example.com:443');
    Object.assign(agent, { createConnection: () => socket });
    const get = async (): Promise<void> => {
      const request = http.request({ agent, host: 'api.example.com', path: '/', headers: { 'x-api-key': scene.lab.token() } });
      const reply = replyOf(request);
      request.end();
      scene.lab.examine((await reply).body);
    };
    for (let index = 0; index < 100; index += 1) await get();
    const before = { descriptors: descriptors(), heap: process.memoryUsage().heapUsed };
    for (let index = 0; index < 1000; index += 1) await get();
    for (let index = 0; index < 50; index += 1) await scene.ask('https://api.example.com/');
    expect(scene.lab.exchanges).toHaveLength(1150);
    await expect.poll(descriptors).toBeLessThan(before.descriptors + 10);
    expect(process.memoryUsage().heapUsed - before.heap).toBeLessThan(100 * 2 ** 20);
    agent.destroy();
  });
});

describe('10,000 idle connections', () => {
  // Both ends of each are in this process.
  const count = Math.min(10_000, Math.floor((limitOfFiles() - 500) / 2));

  it.skipIf(count < 1000)(
    `(or as many as the limit of open files allows: ${String(count)}) leave room for a request, and go away`,
    async () => {
      await scene.start();
      const before = descriptors();
      const sockets: net.Socket[] = [];
      while (sockets.length < count) sockets.push(...(await Promise.all(Array.from({ length: 200 }, () => scene.lab.open()))));
      expect((await scene.ask('https://api.example.com/')).text).toBe('ok');
      for (const socket of sockets) socket.destroy();
      await expect.poll(descriptors, { timeout: 20_000 }).toBeLessThan(before + 20);
    },
    60_000,
  );
});

function descriptors(): number {
  return process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
}

function limitOfFiles(): number {
  const report = process.report.getReport() as { userLimits?: { open_files?: { soft?: number | 'unlimited' } } };
  const soft = report.userLimits?.open_files?.soft;
  return soft === 'unlimited' ? Infinity : (soft ?? 0);
}
