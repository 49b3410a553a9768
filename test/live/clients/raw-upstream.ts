// Servers that speak no HTTP, and a stand-in for a corporate proxy that leads to them: port 2525 greets first, every other one answers.
import { createServer as createHttp, type IncomingMessage } from 'node:http';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

const GREETED = 2525;

export class RawUpstream {
  /** What kz asked for: `db.example.test:5432`. */
  readonly connects: string[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #greets = createServer((socket) => socket.end('220 ready'));
  readonly #answers = createServer((socket) => {
    socket.once('data', (chunk: Buffer) => socket.end(`you said ${chunk.toString()}`));
  });
  readonly #proxy = createHttp();

  static async start(): Promise<RawUpstream> {
    const upstream = new RawUpstream();
    await Promise.all(upstream.#servers.map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))));
    return upstream;
  }

  private constructor() {
    this.#proxy.on('connect', ({ url = '' }: IncomingMessage, client: Duplex) => {
      this.connects.push(url);
      const onward = connect(portOf(url.endsWith(`:${String(GREETED)}`) ? this.#greets : this.#answers), '127.0.0.1', () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        client.pipe(onward).pipe(client);
      });
      client.on('error', () => onward.destroy());
      onward.on('error', () => client.destroy());
    });
    for (const server of this.#servers) {
      server.on('connection', (socket: Socket) => {
        this.#sockets.add(socket.on('error', () => undefined));
      });
    }
  }

  get proxyUrl(): string {
    return `http://127.0.0.1:${String(portOf(this.#proxy))}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
  }

  get #servers(): readonly Server[] {
    return [this.#greets, this.#answers, this.#proxy];
  }
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
