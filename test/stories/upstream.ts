// An upstream on loopback that answers under every name, with a certificate of its own authority, and the corporate proxy that leads there:
// kz tunnels through a proxy of its own environment and leaves the resolving of names to it. Nothing leaves the machine.
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { Authority } from '../../src/proxy/authority.ts';
import type { Story } from './kz.ts';

/** The head of a request, as the upstream got it. */
export interface Received {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
}

export class Upstream {
  readonly received: Received[] = [];
  /** What kz asked the corporate proxy for: `api.example:443`. */
  readonly connects: string[] = [];
  readonly #authority = Authority.create();
  readonly #secure: https.Server;
  readonly #plain: http.Server;
  readonly #proxy: http.Server;
  readonly #sockets = new Set<net.Socket>();
  readonly #keep = (socket: net.Socket): void => {
    this.#sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
  };

  /** Resolves once it listens. `serve` answers every request, whatever its host. */
  static async start(serve: http.RequestListener): Promise<Upstream> {
    const upstream = new Upstream(serve);
    await Promise.all([upstream.#secure, upstream.#plain, upstream.#proxy].map(listening));
    return upstream;
  }

  private constructor(serve: http.RequestListener) {
    const listener: http.RequestListener = (request, response) => {
      const { method = '', url = '', headers } = request;
      this.received.push({ method, host: headers.host ?? '', path: url, headers });
      serve(request, response);
    };
    this.#secure = https.createServer(
      {
        SNICallback: (name, done) => {
          done(null, this.#authority.contextFor(name));
        },
      },
      listener,
    );
    this.#plain = http.createServer(listener);
    this.#proxy = http.createServer((_request, response) => response.writeHead(501).end());
    this.#proxy.on('connect', (request: http.IncomingMessage, socket: net.Socket) => {
      this.#tunnel(request.url ?? '', socket);
    });
    for (const server of [this.#secure, this.#plain, this.#proxy]) server.on('connection', this.#keep);
  }

  /** For `[blind] upstream_ca`. */
  get certificate(): string {
    return this.#authority.certificate;
  }

  /** `https://localhost:port`, for a config that allows it. */
  get port(): number {
    return portOf(this.#secure);
  }

  get plainPort(): number {
    return portOf(this.#plain);
  }

  /** What kz's own environment has to say, so that it finds the way here for every name. */
  get environment(): Record<string, string> {
    const proxy = `http://127.0.0.1:${String(portOf(this.#proxy))}`;
    return { HTTPS_PROXY: proxy, HTTP_PROXY: proxy };
  }

  /** Writes the project's config: `text`, and that this upstream's certificates are good. */
  configure(story: Story, text: string, blind = ''): string {
    story.write('upstream-ca.pem', this.certificate);
    return story.config(`[blind]\nupstream_ca = "upstream-ca.pem"\n${blind}\n${text}`);
  }

  async stop(): Promise<void> {
    const servers = [this.#secure, this.#plain, this.#proxy];
    const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
  }

  #tunnel(target: string, client: net.Socket): void {
    this.connects.push(target);
    const upstream = net.connect(target.endsWith(':443') ? this.port : this.plainPort, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      client.pipe(upstream).pipe(client);
    });
    this.#keep(upstream);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const)
      one.on('error', () => undefined).on('close', () => other.destroy());
  }
}

/** The whole body of a request. */
export async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('latin1');
}

export function answerJson(response: http.ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function portOf(server: net.Server): number {
  return (server.address() as AddressInfo).port;
}

function listening(server: net.Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
}
