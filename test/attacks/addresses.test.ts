// Published attacks 19, SSRF, metadata services and DNS rebinding (matchlock; nono #1675), 3, odd spellings of addresses, and 6, a relayed CONNECT.
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab, type LabOptions } from '../proxy/lab.ts';
import { Wire } from './wire.ts';

let lab: Lab | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

const PUBLIC = '203.0.112.1';

interface Dialled {
  readonly lab: Lab;
  /** Every address that a connection was opened to. */
  readonly opened: string[];
}

/** Names resolve to what `answers` says, one after the other; the last one stays. */
async function start(answers: readonly (readonly string[])[], options: LabOptions = {}): Promise<Dialled> {
  const opened: string[] = [];
  const queue = [...answers];
  const started = await Lab.start({
    secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }],
    ...options,
    dial: {
      lookup: () => Promise.resolve((queue.length > 1 ? queue.shift() : queue[0]) ?? []),
      open: (address) => {
        opened.push(address);
        return net.connect(started.upstreamPort, '127.0.0.1');
      },
    },
  });
  lab = started;
  return { lab: started, opened };
}

/** Spellings of addresses of this machine, of private networks and of metadata services. */
const LOCAL = [
  ...['127.0.0.1', '127.1', '127.0.1', '2130706433', '0x7f000001', '0x7f.1', '0177.0.0.1', '017700000001', '127.0.0.1.', '0.0.0.0', '0'],
  ...[
    '[::1]',
    '[::]',
    '[0:0:0:0:0:0:0:1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::FFFF:7F00:0001]',
    '[::127.0.0.1]',
    '[64:ff9b::7f00:1]',
  ],
  ...[
    '[2002:7f00:1::]',
    '10.0.0.1',
    '192.168.1.1',
    '172.16.0.1',
    '100.64.0.1',
    '[fd00::1]',
    '[fe80::1]',
    '169.254.1.1',
    '224.0.0.1',
    '255.255.255.255',
  ],
  ...[
    '169.254.169.254',
    '2852039166',
    '0xa9fea9fe',
    '0251.0376.0251.0376',
    '169.254.43518',
    '[::ffff:169.254.169.254]',
    '[::ffff:a9fe:a9fe]',
  ],
  ...['[64:ff9b::a9fe:a9fe]', '[fd00:ec2::254]', '169.254.170.2', '100.100.100.200', '168.63.129.16', '192.0.0.192'],
];

describe('an address that is not public', () => {
  it.each(LOCAL)('SSRF: %s is refused', async (host) => {
    const { lab, opened } = await start([[PUBLIC]]);
    const wire = new Wire(await lab.connect(`${host}:80`));
    wire.write(`GET /latest/meta-data/ HTTP/1.1\r\nHost: ${host}:80\r\nAuthorization: ${lab.token()}\r\n\r\n`);
    const [answer] = await wire.answers(1);
    expect(answer?.status).toBe(403);
    expect(answer?.head).toContain('x-kz-error: address-forbidden');
    expect(opened).toEqual([]);
  });

  it.each(['localhost', 'LOCALHOST.', 'a.localhost', 'metadata.google.internal', 'intranet', 'rebind.evil.example.net'])(
    'SSRF: the name %s is refused by the address that it has',
    async (host) => {
      for (const address of ['127.0.0.1', '::1', '169.254.169.254', '::ffff:10.0.0.1', '::ffff:a9fe:a9fe', '10.0.0.8']) {
        const { lab, opened } = await start([[address]]);
        const wire = new Wire(await lab.connect(`${host}:80`));
        wire.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
        expect((await wire.answers(1))[0]?.status).toBe(403);
        expect(opened).toEqual([]);
        await lab.close();
      }
    },
  );

  it('SSRF: a rule that allows everything names no address', async () => {
    const { lab, opened } = await start([['127.0.0.1']], {
      rules: [
        { allow: true, host: '*' },
        { allow: true, host: 're:.*' },
      ],
    });
    for (const url of ['http://127.0.0.1/', 'https://localhost/', 'http://169.254.169.254/latest/'])
      expect((await lab.ask(url)).status).toBe(403);
    expect(opened).toEqual([]);
  });
});

describe('a name whose address changes', () => {
  it('DNS rebinding: a public address first, a private one then', async () => {
    const { lab, opened } = await start([[PUBLIC], ['127.0.0.1'], ['169.254.169.254']], {
      serve: (_request, response) => response.setHeader('connection', 'close').end('ok'),
    });
    expect((await lab.ask('https://rebind.example.net/')).status).toBe(200);
    expect((await lab.ask('https://rebind.example.net/')).status).toBe(403);
    expect((await lab.ask('https://rebind.example.net/')).status).toBe(403);
    expect(opened).toEqual([PUBLIC]);
  });

  it('DNS rebinding: of mixed addresses only the public one is dialled', async () => {
    const { lab, opened } = await start([['10.0.0.1', '::1', '169.254.169.254', PUBLIC, '::ffff:127.0.0.1']]);
    expect((await lab.ask('https://rebind.example.net/')).status).toBe(200);
    expect(opened).toEqual([PUBLIC]);
  });

  it('DNS rebinding: what is dialled is the address that was checked, and it is looked up once', async () => {
    const { lab, opened } = await start([[PUBLIC], ['127.0.0.1']]);
    expect((await lab.ask('https://rebind.example.net/')).status).toBe(200);
    expect(opened).toEqual([PUBLIC]);
  });

  it('DNS rebinding: an answer that is no address is not looked up again', async () => {
    const { lab, opened } = await start([['localhost', 'internal.example']]);
    expect((await lab.ask('https://rebind.example.net/')).status).toBe(502);
    expect(opened).toEqual([]);
  });

  // With the name's rule the address may be private; its certificate still has to be right, and the scope is the name's.
  it('DNS rebinding: a host that a rule names may move, and the value goes nowhere without its certificate', async () => {
    const stranger = net.createServer((socket) => socket.on('error', () => undefined).end('HTTP/1.1 200 OK\r\n\r\n'));
    await new Promise<void>((resolve) => {
      stranger.listen(0, '127.0.0.1', resolve);
    });
    const at = stranger.address();
    lab = await Lab.start({
      rules: [{ allow: true, host: 'api.example.com' }],
      dial: {
        lookup: () => Promise.resolve(['127.0.0.1']),
        open: () => net.connect(typeof at === 'object' ? (at?.port ?? 0) : 0, '127.0.0.1'),
      },
    });
    const reply = await lab.ask('https://api.example.com/', { headers: { authorization: lab.token() } });
    expect(reply.status).toBe(502);
    stranger.close();
  });
});

describe('the proxy as its own upstream', () => {
  it('proxy recursion: without a rule its own port is a local address like any other', async () => {
    lab = await Lab.start();
    expect((await lab.ask(`http://127.0.0.1:${String(lab.port)}/`)).status).toBe(403);
  });

  it('proxy recursion: with a rule it asks for the credential, which it never passes on to itself', async () => {
    lab = await Lab.start({
      rules: [{ allow: true, host: '127.0.0.1' }],
      dial: { open: (address, port) => net.connect(port, address) },
    });
    const self = `127.0.0.1:${String(lab.port)}`;
    expect((await lab.ask(`http://${self}/`)).status).toBe(407);
    const login = Buffer.from(`kz:${new URL(lab.proxyUrl).password}`).toString('base64');
    // In a tunnel to itself: the inner credential is taken off too, and CONNECT opens nothing there.
    const wire = new Wire(await lab.connect(self));
    wire.write(`GET / HTTP/1.1\r\nHost: ${self}\r\nProxy-Authorization: Basic ${login}\r\n\r\n`);
    expect((await wire.answers(1))[0]?.status).toBe(407);
    const nested = new Wire(await lab.connect(self));
    nested.write(`CONNECT evil.example.net:443 HTTP/1.1\r\nHost: evil.example.net\r\nProxy-Authorization: Basic ${login}\r\n\r\n`);
    await nested.closed();
    expect(nested.text).not.toMatch(/^HTTP\/1\.1 2/);
  });
});
