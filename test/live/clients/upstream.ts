// The other side of the client tests: an API that tells what arrived and echoes it (HTTP/1.1, HTTP/2, WebSocket, gRPC and git's smart HTTP, under
// any name), and a stand-in for a corporate proxy, which leads every name to it. kz honours that proxy and so resolves nothing itself.
import { createServer as createHttp, type IncomingMessage, type Server } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
} from 'node:http2';
import { connect, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { Authority } from '../../../src/proxy/authority.ts';

export const SLOTS = ['header', 'basic', 'query', 'form', 'json'] as const;
export type Slot = (typeof SLOTS)[number];

/** What was found where credentials go. */
export type Found = Readonly<Partial<Record<Slot, string>>>;

export interface Arrival {
  readonly path: string;
  readonly httpVersion: string;
  readonly found: Found;
  /** Of a WebSocket: the first message. */
  readonly message?: string;
}

type Request = IncomingMessage | Http2ServerRequest;

export class EchoUpstream {
  readonly authority = Authority.create();
  readonly arrivals: Arrival[] = [];
  /** Over which TLS was to be spoken, whatever came of it. */
  connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #secure: Http2SecureServer;
  readonly #plain: Server;
  readonly #proxy: Server;

  static async start(): Promise<EchoUpstream> {
    const upstream = new EchoUpstream();
    await Promise.all([listening(upstream.#secure), listening(upstream.#plain), listening(upstream.#proxy)]);
    return upstream;
  }

  private constructor() {
    this.#secure = createSecureServer({
      allowHTTP1: true,
      SNICallback: (name, done) => {
        done(null, this.authority.contextFor(name));
      },
    });
    this.#plain = createHttp();
    for (const server of [this.#secure, this.#plain]) {
      server.on('request', (request: Request, response: Http2ServerResponse) => void this.#answer(request, response));
      server.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
        this.#openSocket(request, socket);
      });
    }
    this.#secure.on('connection', () => (this.connections += 1));
    this.#proxy = createHttp();
    this.#proxy.on('connect', (request: IncomingMessage, client: Duplex) => {
      this.#tunnel(request, client);
    });
    for (const server of [this.#secure, this.#plain, this.#proxy]) {
      server.on('connection', (socket: Socket) => this.#sockets.add(socket));
    }
  }

  get proxyUrl(): string {
    return `http://127.0.0.1:${String(portOf(this.#proxy))}`;
  }

  forget(): void {
    this.arrivals.length = 0;
    this.connections = 0;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of [this.#secure, this.#plain, this.#proxy]) server.close();
  }

  #tunnel(request: IncomingMessage, client: Duplex): void {
    const server = request.url?.endsWith(':443') === true ? this.#secure : this.#plain;
    const onward = connect(portOf(server), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      client.pipe(onward).pipe(client);
    });
    client.on('error', () => onward.destroy());
    onward.on('error', () => client.destroy());
  }

  async #answer(request: Request, response: Http2ServerResponse): Promise<void> {
    const { pathname } = addressOf(request);
    const type = request.headers['content-type'] ?? '';
    if (type.startsWith('application/grpc') && 'stream' in request) {
      this.#answerCall(request, response);
      return;
    }
    if (pathname.endsWith('.git/info/refs') && request.headers.authorization === undefined) {
      // git sends no password before it is asked.
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
      return;
    }
    const found = { ...foundInHead(request), ...foundInBody(type, await textOf(request)) };
    this.arrivals.push({ path: pathname, httpVersion: request.httpVersion, found });
    if (pathname.endsWith('.git/info/refs')) {
      response.setHeader('content-type', 'application/x-git-upload-pack-advertisement');
      response.end(REFS);
      return;
    }
    const echo = Buffer.from(JSON.stringify({ ...found, authorization: request.headers.authorization }));
    const compress = /\bgzip\b/.test(String(request.headers['accept-encoding']));
    response.setHeader('content-type', 'application/json');
    if (compress) response.setHeader('content-encoding', 'gzip');
    response.end(compress ? gzipSync(echo) : echo);
  }

  /** A unary call that answers with a StringValue: the value as it arrived in the metadata. */
  #answerCall(request: Http2ServerRequest, response: Http2ServerResponse): void {
    const found = foundInHead(request);
    this.arrivals.push({ path: addressOf(request).pathname, httpVersion: request.httpVersion, found });
    request.resume();
    response.writeHead(200, { 'content-type': 'application/grpc' });
    response.addTrailers({ 'grpc-status': '0', 'x-echo': JSON.stringify(found) });
    const text = Buffer.from(found.header ?? '');
    const message = Buffer.concat([Buffer.from([0x0a, text.length]), text]);
    response.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  }

  /** Says what was in the handshake, then repeats the first message. */
  #openSocket(request: IncomingMessage, socket: Duplex): void {
    socket.on('error', () => undefined);
    const accept = createHash('sha1')
      .update(`${String(request.headers['sec-websocket-key'])}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    const found = foundInHead(request);
    socket.write(textFrame(JSON.stringify({ ...found, authorization: request.headers.authorization })));
    let bytes = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      const message = maskedText(bytes);
      if (message === undefined) return;
      socket.removeAllListeners('data').resume();
      this.arrivals.push({ path: addressOf(request).pathname, httpVersion: request.httpVersion, found, message });
      socket.write(textFrame(JSON.stringify({ message })));
      // The client closes; what it says about that does not matter here.
      socket.once('data', () => socket.end(Buffer.from([0x88, 0])));
    });
  }
}

function listening(server: NetServer): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
}

function portOf(server: NetServer): number {
  return (server.address() as AddressInfo).port;
}

function addressOf({ url = '/' }: { url?: string | undefined }): URL {
  return new URL(url, 'https://api.example.test');
}

async function textOf(request: Request): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}

function foundInHead(request: {
  readonly url?: string | undefined;
  readonly headers: IncomingHttpHeaders | IncomingMessage['headers'];
}): Found {
  const { authorization, 'x-api-key': key } = request.headers;
  const token = addressOf(request).searchParams.get('token');
  const [, login] = /^Basic (.*)$/.exec(authorization ?? '') ?? [];
  const password = login === undefined ? undefined : /^me:(.*)$/s.exec(Buffer.from(login, 'base64').toString())?.[1];
  return {
    ...(typeof key === 'string' ? { header: key } : {}),
    ...(password === undefined ? {} : { basic: password }),
    ...(token === null ? {} : { query: token }),
  };
}

function foundInBody(type: string, body: string): Found {
  if (type.startsWith('application/x-www-form-urlencoded')) return { form: new URLSearchParams(body).get('password') ?? '' };
  if (!type.startsWith('application/json')) return {};
  const document = JSON.parse(body) as { readonly account: { readonly secret: string } };
  return { json: document.account.secret };
}

const REFS = ['# service=git-upload-pack\n', '', `${'1'.repeat(40)} refs/heads/main\0agent=echo\n`, ''].map(packetLine).join('');

function packetLine(text: string): string {
  return text === '' ? '0000' : `${(text.length + 4).toString(16).padStart(4, '0')}${text}`;
}

function textFrame(text: string): Buffer {
  const payload = Buffer.from(text);
  const length = payload.length < 126 ? [payload.length] : [126, payload.length >> 8, payload.length & 0xff];
  return Buffer.concat([Buffer.from([0x81, ...length]), payload]);
}

/** One whole masked text message of less than 126 bytes, once it is there. */
function maskedText(frame: Buffer): string | undefined {
  const length = (frame[1] ?? 0) & 0x7f;
  const [mask, payload] = [frame.subarray(2, 6), frame.subarray(6, 6 + length)];
  return frame.length < 6 + length ? undefined : Buffer.from(payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0))).toString();
}
