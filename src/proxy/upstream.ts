// The way to the upstreams: one dialer, and on top of it the pools that keep connections for the next request.
import { setMaxListeners } from 'node:events';
import type { ClientRequest } from 'node:http';
import type { ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { Dialer, type DialOptions, type Target } from './dial.ts';
import { UpstreamAgent, type UpstreamRequest } from './upstream-agent.ts';
import { UpstreamSessions, type Protocol } from './upstream-sessions.ts';

export class Upstream {
  readonly #dialer: Dialer;
  readonly #agent: UpstreamAgent;
  readonly #sessions: UpstreamSessions;
  readonly #closing = new AbortController();

  constructor(options: DialOptions) {
    this.#dialer = new Dialer(options);
    this.#agent = new UpstreamAgent(this.#dialer);
    this.#sessions = new UpstreamSessions(this.#dialer, this.#agent);
    // One for each connection that is being made.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Does ahead of time what the first connection would wait for. */
  prepare(): void {
    this.#dialer.prepare();
  }

  /** HTTP/1.1. */
  request(target: Target, request: UpstreamRequest): ClientRequest {
    return this.#agent.request(target, request);
  }

  /** HTTP/2. */
  stream(target: Target, headers: OutgoingHttpHeaders, endStream: boolean): Promise<ClientHttp2Stream> {
    return this.#sessions.request(target, headers, { endStream });
  }

  protocolOf(target: Target): Promise<Protocol> {
    return this.#sessions.protocolOf(target);
  }

  /** Bytes, for whoever knows what to do with them. */
  connect(target: Target): Promise<Socket> {
    return this.#dialer.connect(target, this.#closing.signal);
  }

  destroy(): void {
    this.#closing.abort(new Error('the proxy is closed'));
    this.#agent.destroy();
    this.#sessions.destroy();
  }
}
