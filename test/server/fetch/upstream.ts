// TLS upstreams on loopback that answer under any name: names resolve to a public address that is dialled on loopback, so nothing leaves the
// machine. `lookup` says otherwise for single names; an address that is not loopback is never dialled really.
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { onTestFinished } from 'vitest';
import { Authority } from '../../../src/proxy/authority.ts';
import type { DialOptions } from '../../../src/proxy/dial.ts';
import { Upstream } from '../../../src/proxy/upstream.ts';

export interface UpstreamOptions {
  /** Answers HTTP/1.1 requests to every name. Without it they are written down and answered with `ok`. */
  readonly serve?: http.RequestListener;
  /** Instead of HTTP: what a connection carries, after TLS. */
  readonly raw?: (socket: net.Socket) => void;
  /** Name → its addresses; every other name is at a public address. */
  readonly lookup?: Readonly<Record<string, readonly string[]>>;
  /** For URLs with an address instead of a name, which TLS does not tell the server: whom the certificate is for. */
  readonly address?: string;
  readonly dial?: Partial<DialOptions>;
}

export interface ReceivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

export const PUBLIC_ADDRESS = '203.0.112.1';

/** For one test: closed at its end. */
export async function startUpstreams(options: UpstreamOptions = {}): Promise<Upstreams> {
  const upstreams = await Upstreams.start(options);
  onTestFinished(() => upstreams.close());
  return upstreams;
}

export class Upstreams {
  readonly received: ReceivedRequest[] = [];
  /** `address:port`, in the order in which they were dialled. */
  readonly dialled: string[] = [];
  /** The servers' ends of connections, in the order of their arrival, before TLS. */
  readonly connections: net.Socket[] = [];
  readonly upstream: Upstream;
  readonly #authority = Authority.create();
  readonly #options: UpstreamOptions;
  readonly #server = net.createServer();
  readonly #plain = net.createServer();
  readonly #requests: http.Server;

  static async start(options: UpstreamOptions = {}): Promise<Upstreams> {
    const upstreams = new Upstreams(options);
    for (const server of [upstreams.#server, upstreams.#plain]) {
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve);
      });
    }
    return upstreams;
  }

  private constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#requests = http.createServer({ keepAliveTimeout: 0 }, options.serve ?? this.#record);
    this.#server.on('connection', (socket) => {
      this.#keep(socket);
      const secure = new tls.TLSSocket(socket, {
        isServer: true,
        ALPNProtocols: ['http/1.1'],
        secureContext: this.#authority.contextFor(options.address ?? 'no-name.test'),
        SNICallback: (name, done) => {
          done(null, this.#authority.contextFor(name));
        },
      });
      this.#carry(secure);
    });
    this.#plain.on('connection', (socket) => {
      this.#keep(socket);
      this.#carry(socket);
    });
    this.upstream = new Upstream({
      ca: [this.#authority.certificate],
      lookup: (host) => Promise.resolve(options.lookup?.[host] ?? [PUBLIC_ADDRESS]),
      open: (address, port) => {
        this.dialled.push(`${address}:${String(port)}`);
        return net.connect(portOf(port === 80 || port === 8080 ? this.#plain : this.#server), '127.0.0.1');
      },
      ownAddresses: () => [],
      ...options.dial,
    });
  }

  /** PEM: whoever asks without `upstream` has to trust it. */
  get ca(): string {
    return this.#authority.certificate;
  }

  /** Where the TLS server listens on loopback, for whoever dials by himself. */
  get port(): number {
    return portOf(this.#server);
  }

  get openConnections(): number {
    return this.connections.filter(({ destroyed }) => !destroyed).length;
  }

  async close(): Promise<void> {
    this.upstream.destroy();
    for (const socket of this.connections) socket.destroy();
    for (const server of [this.#server, this.#plain]) {
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    }
  }

  #keep(socket: net.Socket): void {
    this.connections.push(socket);
    socket.on('error', () => undefined);
  }

  #carry(socket: net.Socket): void {
    socket.on('error', () => undefined);
    if (this.#options.raw === undefined) this.#requests.emit('connection', socket);
    else this.#options.raw(socket);
  }

  readonly #record: http.RequestListener = (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers, rawHeaders } = request;
      this.received.push({ method, url, headers, rawHeaders, body: Buffer.concat(chunks) });
      response.end('ok');
    });
  };
}

function portOf(server: net.Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
