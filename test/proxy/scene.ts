// What tests of broken and slow peers share: a lab, upstreams that are bare sockets, and children that write and read bytes themselves. At the
// end it looks for values in all that any child got, and for warnings of the process.
import net from 'node:net';
import { expect } from 'vitest';
import { Lab, type Ask, type LabOptions, type Reply } from './lab.ts';

const HEAD_END = '\r\n\r\n';

/** One end of a connection, byte by byte. */
export class Wire {
  readonly socket: net.Socket;
  /** `end`: the other side closed in order. `reset`: it did not. */
  how: 'open' | 'end' | 'reset' = 'open';
  #chunks: Buffer[] = [];

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
    socket.on('end', () => (this.how = 'end'));
    socket.on('error', () => (this.how = 'reset'));
    socket.on('close', () => {
      if (this.how === 'open') this.how = 'reset';
    });
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get text(): string {
    return this.bytes.toString('latin1');
  }

  get body(): string {
    return this.text.slice(this.text.indexOf(HEAD_END) + HEAD_END.length);
  }

  /** Resolves when `text` has come, so many times. */
  async until(text: string, times = 1): Promise<void> {
    await this.#when(() => this.text.split(text).length > times, JSON.stringify(text));
  }

  /** Resolves when the other side has nothing more to say. */
  async closed(): Promise<string> {
    await this.#when(() => this.how !== 'open', 'its end');
    return this.text;
  }

  #when(isThere: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!isThere() && !this.socket.closed && this.how === 'open') return;
        this.socket.off('data', look).off('end', look).off('error', look).off('close', look);
        if (isThere()) resolve();
        else reject(new Error(`closed before ${what}: ${JSON.stringify(this.text.slice(-500))}`));
      };
      this.socket.on('data', look).on('end', look).on('error', look).on('close', look);
      look();
    });
  }
}

export class Scene {
  #lab: Lab | undefined;
  readonly #wires: Wire[] = [];
  readonly #servers: net.Server[] = [];
  readonly #sockets = new Set<net.Socket>();
  readonly #warnings: Error[] = [];
  readonly #onWarning = (warning: Error): void => {
    this.#warnings.push(warning);
  };

  get lab(): Lab {
    if (this.#lab === undefined) throw new Error('no lab was started');
    return this.#lab;
  }

  /** With `raw`, every upstream is that listener of bare connections. */
  async start(options: LabOptions & { readonly raw?: (socket: net.Socket) => void } = {}): Promise<Lab> {
    process.on('warning', this.#onWarning);
    const { raw, ...rest } = options;
    const port = raw === undefined ? 0 : await this.listen(raw);
    const dial = raw === undefined ? {} : { open: () => net.connect({ port, host: '127.0.0.1', noDelay: true }) };
    this.#lab = await Lab.start({ ...rest, dial: { ...dial, ...rest.dial } });
    return this.#lab;
  }

  /** A server of bare connections on loopback; gives its port. */
  async listen(onConnection: (socket: net.Socket) => void): Promise<number> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => this.#sockets.delete(socket));
      onConnection(socket);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 }, resolve));
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Follows a connection of the child. */
  child(socket: net.Socket): Wire {
    const wire = new Wire(socket);
    this.#wires.push(wire);
    return wire;
  }

  /** A request in the clear, as its bytes; `{login}` stands for the credential's line. */
  async send(request: string): Promise<Wire> {
    const wire = this.child(await this.lab.open());
    wire.socket.write(withLogin(this.lab, request), 'latin1');
    return wire;
  }

  async ask(url: string, ask: Ask = {}): Promise<Reply> {
    const reply = await this.lab.ask(url, ask);
    this.lab.examine(JSON.stringify([reply.rawHeaders, reply.trailers]), 'the head');
    this.lab.examine(reply.body, 'the body');
    return reply;
  }

  async end(): Promise<void> {
    const lab = this.#lab;
    this.#lab = undefined;
    for (const wire of this.#wires.splice(0)) {
      lab?.examine(wire.bytes);
      wire.socket.destroy();
    }
    for (const server of this.#servers.splice(0)) server.close();
    for (const socket of this.#sockets) socket.destroy();
    await lab?.close();
    process.off('warning', this.#onWarning);
    expect(this.#warnings.splice(0)).toEqual([]);
  }
}

export function withLogin(lab: Lab, request: string): string {
  const login = Buffer.from(new URL(lab.proxyUrl).username + ':' + new URL(lab.proxyUrl).password).toString('base64');
  return request.replaceAll('{login}', `Proxy-Authorization: Basic ${login}`);
}

/** Gathers what a bare connection receives, and calls back once with each head of a request. */
export function onHead(socket: net.Socket, callback: (head: string, wire: Wire) => void): Wire {
  const wire = new Wire(socket);
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    for (let end = text.indexOf(HEAD_END); end >= 0; end = text.indexOf(HEAD_END)) {
      const head = text.slice(0, end + HEAD_END.length);
      text = text.slice(head.length);
      callback(head, wire);
    }
    // A body, of which nothing is needed but what may be the start of a head's end.
    if (text.length > 100_000) text = text.slice(-3);
  });
  return wire;
}
