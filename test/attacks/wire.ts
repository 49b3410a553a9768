// Bytes by hand, on both sides of the proxy: what no well-behaved client or server would send.
import net from 'node:net';

export interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** A connection whose bytes are written by hand; what comes back is kept. */
export class Wire {
  readonly socket: net.Socket;
  #text = '';
  #isClosed = false;
  readonly #waiting = new Set<() => void>();

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1');
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#isClosed = true;
      this.#wake();
    });
    socket.once('end', () => {
      socket.end();
    });
    socket.resume();
  }

  get text(): string {
    return this.#text;
  }

  write(bytes: string | Buffer): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** The answers so far, as soon as there are `count` of them or the other side has closed. */
  async answers(count: number): Promise<readonly Answer[]> {
    await this.until(() => answersIn(this.#text).length >= count);
    return answersIn(this.#text);
  }

  /** Until `isDone`, or until the other side has closed. */
  async until(isDone: () => boolean): Promise<string> {
    while (!isDone() && !this.#isClosed) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
    return this.#text;
  }

  async closed(): Promise<void> {
    await this.until(() => false);
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

/** Complete answers with a Content-Length, chunked ones, and those without a body. */
function answersIn(text: string): readonly Answer[] {
  const found: Answer[] = [];
  let rest = text;
  for (;;) {
    const end = rest.indexOf('\r\n\r\n');
    if (end === -1) return found;
    const head = rest.slice(0, end);
    const behind = rest.slice(end + 4);
    const isChunked = /\r\ntransfer-encoding: *chunked/i.test(head);
    const last = behind.indexOf('0\r\n\r\n');
    const length = isChunked ? (last === -1 ? Infinity : last + 5) : Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? '0');
    if (behind.length < length) return found;
    found.push({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]), head, body: behind.slice(0, length) });
    rest = behind.slice(length);
  }
}

/** An upstream of bare bytes: keeps what each connection sent, and answers as `onBytes` does. */
export class RawUpstream {
  /** One entry for each connection, in the order in which they came. */
  readonly seen: string[] = [];
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  static async start(onBytes: (socket: net.Socket, soFar: string) => void): Promise<RawUpstream> {
    const upstream = new RawUpstream(onBytes);
    await new Promise<void>((resolve) => {
      upstream.#server.listen(0, '127.0.0.1', resolve);
    });
    return upstream;
  }

  private constructor(onBytes: (socket: net.Socket, soFar: string) => void) {
    this.#server = net.createServer((socket) => {
      const index = this.seen.push('') - 1;
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('data', (chunk: Buffer) => {
        const soFar = (this.seen[index] ?? '') + chunk.toString('latin1');
        this.seen[index] = soFar;
        onBytes(socket, soFar);
      });
    });
  }

  /** For a lab's dialler: whatever is dialled leads here. */
  readonly open = (): net.Socket => {
    const address = this.#server.address();
    return net.connect(typeof address === 'object' && address !== null ? address.port : 0, '127.0.0.1');
  };

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** Answers `ok` to everything that looks like the end of a head, once for each connection. */
export function sayOk(socket: net.Socket, soFar: string): void {
  if (soFar.includes('\r\n\r\n') && socket.bytesWritten === 0) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
}
