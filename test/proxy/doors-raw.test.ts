// What comes in by the doors of a sandbox and is no HTTP: databases, the host's own loopback, addresses that mean nothing, and name servers' enemies.
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { HAS_WIDE_LOOPBACK, Inside, type InsideOptions } from './inside.ts';
import { Wire } from './scene.ts';

const HOST = 'db.example.com';

let inside = new Inside();
afterEach(async () => {
  await inside.end();
  inside = new Inside();
});

const toData = ({ data }: Inside): InsideOptions => ({ rules: [{ allow: true, host: HOST, port: data }] });

describe.skipIf(!HAS_WIDE_LOOPBACK)('a database by its name (needs all of 127.0.0.0/8)', () => {
  it('that speaks first is heard', async () => {
    const lab = await inside.start((all) => ({
      ...toData(all),
      raw: (socket) => {
        socket.write('5.7.42-log\n');
        socket.once('end', () => socket.end()).resume();
      },
    }));
    const child = await inside.wire(HOST, inside.data);
    await child.until('5.7.42-log\n');
    child.socket.end();
    await expect.poll(() => lab.exchanges).toMatchObject([{ protocol: 'raw', host: HOST, port: inside.data, why: 'rule' }]);
  });

  it('that waits for its client is asked, answers after the end of the question, and gives no value away', async () => {
    const lab = await inside.start((all) => ({
      ...toData(all),
      raw: (socket) => {
        const wire = new Wire(socket);
        void wire.closed().then((asked) => socket.end(`${asked} ${lab.value()}`));
      },
    }));
    const child = await inside.wire(HOST, inside.data);
    child.socket.end(`\0\0 ${lab.token()}`);
    await child.closed();
    expect(child.text.startsWith(`\0\0 ${lab.token()} `)).toBe(true);
    expect(child.bytes).toHaveLength(4 + lab.token().length + lab.value().length);
    await expect.poll(() => lab.exchanges).toMatchObject([{ protocol: 'raw', remasked: ['TOKEN'], error: null }]);
  });

  it('is not there without a rule for its host and port', async () => {
    const lab = await inside.start(() => ({ rules: [{ allow: true, host: HOST }] }));
    const child = await inside.wire(HOST, inside.data);
    child.socket.write('\0\0\0\0');
    await child.closed();
    expect(lab.events).toMatchObject([{ type: 'refused', why: 'not-http', host: HOST, port: inside.data }]);
  });

  it('that does not listen ends the connection with a reset', async () => {
    const lab = await inside.start((all) => ({ ...toData(all), dial: { open: () => net.connect(1, '127.0.0.1') } }));
    const child = await inside.wire(HOST, inside.data);
    child.socket.write('\0\0\0\0');
    await child.closed();
    expect(child.how).toBe('reset');
    expect(lab.exchanges).toMatchObject([{ protocol: 'raw', error: 'refused' }]);
  });
});

describe('an address that means nothing', () => {
  it.skipIf(!HAS_WIDE_LOOPBACK)('is refused when it was never given out, and when its name was looked up later too', async () => {
    const lab = await inside.start();
    const early = await inside.wire('127.64.0.1', inside.secure);
    await early.closed();
    expect(early.how).toBe('reset');
    expect(await inside.resolve(HOST)).toBe('127.64.0.1');
    expect(lab.events).toMatchObject([{ type: 'refused', why: 'unknown-address', host: '127.64.0.1', port: inside.secure }]);
  });

  it.each([
    ['of the range of names', '198.18.5.5', 'unknown-address'],
    ['of loopback', '127.8.8.8', 'closed-loopback'],
    ['of loopback, as IPv6', '::1', 'closed-loopback'],
    ['of loopback, as an IPv4 address in IPv6', '::ffff:127.0.0.1', 'closed-loopback'],
  ])('is refused: %s', async (_which, dialled, why) => {
    const lab = await inside.start(() => ({ dialled, doors: { reach: 'any' } }));
    const child = await inside.wire('127.0.0.1', inside.plain);
    await child.closed();
    expect(child.how).toBe('reset');
    expect(lab.events).toMatchObject([{ type: 'refused', why, port: inside.plain }]);
  });
});

it('a program that tries again and again is refused each time, and fills no log', async () => {
  const lab = await inside.start(() => ({ dialled: '127.8.8.8', doors: { reach: 'any' } }));
  for (let round = 0; round < 60; round += 1) {
    const wires = await Promise.all(Array.from({ length: 20 }, () => inside.wire('127.0.0.1', inside.plain)));
    for (const wire of wires) await wire.closed();
    expect(wires.map(({ how }) => how)).toEqual(wires.map(() => 'reset'));
  }
  expect(lab.events).toHaveLength(1001);
  expect(lab.events[999]).toMatchObject({ type: 'refused', why: 'closed-loopback', host: '127.8.8.8', port: inside.plain });
  expect(lab.events[1000]).toMatchObject({ type: 'refused', why: 'closed-loopback', host: null, port: null });
});

describe('a port of the host’s loopback', () => {
  const toHost = (port: number | undefined, host = '127.0.0.1') => ({
    doors: { dialLoopback: () => connected(net.connect({ host, port: port ?? 1, allowHalfOpen: true })) },
  });

  it('is carried both ways unread, but for values, and logged', async () => {
    const heard: Wire[] = [];
    const port = await inside.scene.listen((socket) => heard.push(new Wire(socket)));
    const lab = await inside.start(() => toHost(port));
    const child = await inside.wire('127.0.0.1', inside.loopback);
    child.socket.end(`GET / HTTP/1.1\r\n\r\n${lab.token()}`);
    await expect.poll(() => heard[0]?.how).toBe('end');
    expect(heard[0]?.text).toBe(`GET / HTTP/1.1\r\n\r\n${lab.token()}`);
    heard[0]?.socket.end(`<${lab.value()}>`);
    expect(await child.closed()).toHaveLength(lab.value().length + 2);
    await expect
      .poll(() => lab.exchanges)
      .toMatchObject([
        {
          protocol: 'raw',
          host: '127.0.0.1',
          port: inside.loopback,
          decision: 'allowed',
          why: 'allow-loopback',
          rule: null,
          remasked: ['TOKEN'],
          bytes_up: 18 + lab.token().length,
          error: null,
        },
      ]);
  });

  it('needs no rule, and no rule denies it', async () => {
    const port = await inside.scene.listen((socket) => socket.end('hello'));
    const lab = await inside.start(() => ({ ...toHost(port), rules: [{ allow: false, host: '*' }] }));
    const child = await inside.wire('127.0.0.1', inside.loopback);
    child.socket.end();
    expect(await child.closed()).toBe('hello');
    await expect.poll(() => lab.exchanges).toMatchObject([{ why: 'allow-loopback', rule: null }]);
  });

  it('can share its door with names', async () => {
    const asked: number[] = [];
    const port = await inside.scene.listen((socket) => socket.end('hello'));
    await inside.start(({ data }) => ({
      doors: {
        loopbackPorts: [data],
        dialLoopback: (wanted) => {
          asked.push(wanted);
          return connected(net.connect(port, '127.0.0.1'));
        },
      },
    }));
    expect(await (await inside.wire('127.0.0.1', inside.data)).closed()).toBe('hello');
    expect(asked).toEqual([inside.data]);
  });

  it('where nobody listens is reset at once, by the port that was asked for', async () => {
    // The door itself has that port here, so the real dialler would come back in; nobody has it on ::1.
    const lab = await inside.start(() => ({ doors: { dialLoopback: () => connected(net.connect(1, '127.0.0.1')) } }));
    const child = await inside.wire('127.0.0.1', inside.loopback);
    await child.closed();
    expect(child.how).toBe('reset');
    expect(lab.exchanges).toMatchObject([{ protocol: 'raw', port: inside.loopback, why: 'allow-loopback' }]);
  });

  it('is read no faster than the program reads', async () => {
    let written = 0;
    const port = await inside.scene.listen((socket) => {
      const chunk = Buffer.alloc(65_536, 1);
      const write = (): void => {
        while (socket.write(chunk)) written += chunk.length;
        socket.once('drain', write);
      };
      write();
    });
    await inside.start(() => toHost(port));
    const socket = await inside.dial('127.0.0.1', inside.loopback);
    let before = -1;
    await expect
      .poll(() => {
        const stands = before === written && written > 0;
        before = written;
        return stands;
      })
      .toBe(true);
    expect(written).toBeLessThan(64 * 2 ** 20);
    socket.destroy();
  });
});

async function connected(socket: net.Socket): Promise<net.Socket> {
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

describe('the name server', () => {
  const RULES = { rules: [{ allow: true, host: 'api.example.com' }] };

  it('answers what is allowed, in the case in which it was asked, and denies the rest once in the log', async () => {
    const lab = await inside.start(() => RULES);
    const { resolver } = inside;
    expect(await resolver.resolve4('API.Example.com', { ttl: true })).toEqual([{ address: '127.64.0.1', ttl: 60 }]);
    expect(await resolver.resolve4('api.example.com.')).toEqual(['127.64.0.1']);
    await expect(resolver.resolve6('api.example.com')).rejects.toMatchObject({ code: 'ENODATA' });
    await expect(resolver.resolveTxt('api.example.com')).rejects.toMatchObject({ code: 'ENODATA' });
    for (const name of ['c2VjcmV0.evil.example', 'C2VjcmV0.evil.example']) {
      await expect(resolver.resolve4(name)).rejects.toMatchObject({ code: 'ENOTFOUND' });
      await expect(resolver.resolveTxt(name)).rejects.toMatchObject({ code: 'ENOTFOUND' });
    }
    await expect(resolver.reverse('127.64.0.1')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    await expect(resolver.resolveSrv('_ldap._tcp.api.example.com')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    expect(lab.events).toMatchObject([{ type: 'refused', why: 'denied-name', host: 'c2vjcmv0.evil.example', port: null }]);
  });

  it('answers still after 10,000 datagrams that are none of its business, and after a flood that reads no answer', async () => {
    const lab = await inside.start(() => RULES);
    const sender = dgram.createSocket('udp4');
    const flood = async (rounds: number, datagram: (round: number) => Buffer): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        sender.send(datagram(round), inside.nameServerPort, '127.0.0.1');
        // No more at once than the socket has room for.
        if (round % 50 === 0) await setImmediate();
      }
    };
    await flood(10_000, hostile);
    const before = process.memoryUsage().heapUsed;
    await flood(20_000, (round) => question(`x${String(round)}.evil.example`));
    expect(await inside.resolve('api.example.com')).toBe('127.64.0.1');
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(50 * 2 ** 20);
    const denied = lab.events.filter((event) => event.type === 'refused' && event.why === 'denied-name');
    expect(denied.length).toBeLessThanOrEqual(1001);
    expect(denied.at(-1)).toMatchObject({ host: null, port: null });
    sender.close();
  });
});

function question(name: string): Buffer {
  const labels = name.split('.').flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]);
  return Buffer.concat([Buffer.from('000101000001000000000000', 'hex'), ...labels, Buffer.from('0000010001', 'hex')]);
}

/** A question with bytes of it changed, or just bytes; the same each time. */
function hostile(round: number): Buffer {
  const bytes = question('api.example.com');
  const at = (round * 7919) % bytes.length;
  bytes.writeUInt8((round * 31) & 0xff, at);
  return round % 3 === 0 ? bytes.subarray(0, (round * 13) % bytes.length) : bytes;
}

it('closing ends every connection, and nobody gets in any more', async () => {
  await inside.start(() => ({ doors: { dialLoopback: () => new Promise(() => undefined) } }));
  const ports = [inside.proxyPort, inside.loopback];
  const wires = await Promise.all(ports.map((port) => inside.wire('127.0.0.1', port)));
  const { resolver } = inside;
  inside.close();
  for (const wire of wires) await wire.closed();
  for (const port of ports) await expect(once(net.connect(port, '127.0.0.1'), 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await expect(resolver.resolve4(HOST)).rejects.toThrow();
  inside.close();
});
