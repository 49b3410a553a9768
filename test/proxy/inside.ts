// The inside of a sandbox without a sandbox: all of 127.0.0.0/8 is local anyway, so doors at every address and a name server on loopback are what
// a program in its own network namespace sees. It knows of no proxy.
import dgram from 'node:dgram';
import { promises as dns } from 'node:dns';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import http from 'node:http';
import http2 from 'node:http2';
import { openDoors, type Doors, type DoorOptions } from '../../src/proxy/doors.ts';
import { ProxyServer } from '../../src/proxy/server.ts';
import { replyOf, type Lab, type LabOptions, type Reply } from './lab.ts';
import { Scene, type Wire } from './scene.ts';

/** Elsewhere loopback has one address. */
export const HAS_WIDE_LOOPBACK = process.platform === 'linux';

export const CREDENTIAL = 'inside-credential';

export interface InsideOptions extends LabOptions {
  /** Every upstream is that listener of bare connections. */
  readonly raw?: (socket: net.Socket) => void;
  readonly doors?: Partial<DoorOptions>;
  /** What every dialled address is taken for, where it is to be one that is not loopback. */
  readonly dialled?: string;
}

/** `secure`, `plain` and `data` are three direct doors, of which the upstreams of the first speak TLS; and there is one loopback door. */
export class Inside {
  readonly scene = new Scene();
  readonly #direct: net.Server[] = [];
  #loopback = net.createServer();
  #front = net.createServer();
  #dns = dgram.createSocket('udp4');
  #proxy: ProxyServer | undefined;
  #doors: Doors | undefined;

  /** The options may name the ports of the doors. */
  async start(optionsFor: (inside: Inside) => InsideOptions = () => ({})): Promise<Lab> {
    for (let door = 0; door < 3; door++) this.#direct.push(await listening('0.0.0.0'));
    this.#loopback = await listening('127.0.0.1');
    this.#front = await listening('127.0.0.1');
    this.#dns = dgram.createSocket('udp4');
    this.#dns.bind(0, '127.0.0.1');
    await once(this.#dns, 'listening');
    const { doors, dialled, ...options } = optionsFor(this);
    const lab = await this.scene.start({
      ...(options.raw === undefined ? { dial: { open: (_, port) => this.#upstream(port) } } : {}),
      ...options,
    });
    for (const server of this.#direct) {
      server.on('connection', (socket: net.Socket) => {
        if (dialled !== undefined) pretend(socket, dialled);
      });
    }
    this.#proxy = ProxyServer.behind(lab.session, { credential: CREDENTIAL });
    const received = { proxy: this.#front, direct: this.#direct, dns: this.#dns, loopback: [this.#loopback] };
    this.#doors = openDoors(lab.session, this.#proxy, received, { reach: 'lo', ...doors });
    return lab;
  }

  get secure(): number {
    return portOf(this.#direct[0]);
  }

  get plain(): number {
    return portOf(this.#direct[1]);
  }

  get data(): number {
    return portOf(this.#direct[2]);
  }

  get proxyPort(): number {
    return this.#doors?.proxyPort ?? 0;
  }

  get nameServerPort(): number {
    return this.#dns.address().port;
  }

  get loopback(): number {
    return portOf(this.#loopback);
  }

  get resolver(): dns.Resolver {
    const resolver = new dns.Resolver({ timeout: 5000, tries: 1 });
    resolver.setServers([`127.0.0.1:${String(this.nameServerPort)}`]);
    return resolver;
  }

  async resolve(name: string): Promise<string> {
    const [address = ''] = await this.resolver.resolve4(name);
    return address;
  }

  /** A connection to a name that was looked up, or to an address. */
  async dial(host: string, port: number): Promise<net.Socket> {
    const socket = net.connect({ host: net.isIP(host) === 0 ? await this.resolve(host) : host, port, allowHalfOpen: true });
    await once(socket, 'connect');
    socket.on('error', () => undefined);
    return socket;
  }

  /** The same, followed from its start: it may be over as soon as it is there. */
  async wire(host: string, port: number): Promise<Wire> {
    const address = net.isIP(host) === 0 ? await this.resolve(host) : host;
    return this.scene.child(net.connect({ host: address, port, allowHalfOpen: true }));
  }

  /** TLS with what answers for a name; `serverName` when another is asked for in TLS, empty for none. */
  async secured(host: string, { serverName = host, alpn }: { serverName?: string; alpn?: string[] } = {}): Promise<tls.TLSSocket> {
    const socket = tls.connect({
      socket: await this.dial(host, this.secure),
      ca: this.scene.lab.authority.certificate,
      ...(serverName === '' ? { checkServerIdentity: () => undefined } : { servername: serverName }),
      ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
    });
    await once(socket, 'secureConnect');
    return socket;
  }

  /** One request, on a connection of its own or on `socket`. */
  async ask(socket: net.Socket, headers: http.OutgoingHttpHeaders, path = '/'): Promise<Reply> {
    const request = http.request({ createConnection: () => socket, path, setHost: false, headers });
    request.end();
    const reply = await replyOf(request);
    this.scene.lab.examine(reply.body);
    socket.destroy();
    return reply;
  }

  /** One stream of HTTP/2; gives status, code and body. */
  async stream(host: string, headers: http2.OutgoingHttpHeaders): Promise<{ status: unknown; code: unknown; text: string }> {
    const socket = await this.secured(host, { alpn: ['h2'] });
    const client = http2.connect(`https://${host}`, { createConnection: () => socket });
    const stream = client.request(headers);
    const [answer] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    let text = '';
    for await (const chunk of stream.setEncoding('utf8')) text += String(chunk);
    client.destroy();
    return { status: answer[':status'], code: answer['x-kz-error'], text };
  }

  close(): void {
    this.#doors?.close();
  }

  async end(): Promise<void> {
    this.close();
    this.#direct.splice(0);
    await this.#proxy?.close();
    await this.scene.end();
  }

  #upstream(port: number): net.Socket {
    const { lab } = this.scene;
    return net.connect(port === this.secure ? lab.upstreamPort : lab.plainPort, '127.0.0.1');
  }
}

async function listening(host: string): Promise<net.Server> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen({ host, port: 0, backlog: 1024 }, resolve));
  return server;
}

function portOf(server: net.Server | undefined): number {
  const address = server?.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function pretend(socket: net.Socket, address: string): void {
  Object.defineProperty(socket, 'localAddress', { value: address });
}
