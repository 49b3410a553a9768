// Reads the arguments of `socket.connect` the way Node does, and tells what has to go through the proxy from what stays direct.
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';

export interface Call {
  readonly options: Readonly<Record<string, unknown>>;
  readonly onConnect: (() => void) | undefined;
}

export interface Target {
  /** Lower case, ASCII; an IPv6 address has no brackets here. */
  readonly host: string;
  readonly port: number;
}

/** `connect(options)`, `connect(path)`, `connect(port, host)`, each with a callback at the end, or Node's own normalised pair of both. */
export function readCall(args: readonly unknown[]): Call {
  const [first, second] = args;
  if (Array.isArray(first)) return readCall(first);
  const last = args.at(-1);
  const onConnect = isFunction(last) ? last : undefined;
  if (isRecord(first)) return { options: first, onConnect };
  if (typeof first === 'string' && !(Number(first) >= 0)) return { options: { path: first }, onConnect };
  return { options: { port: first, host: typeof second === 'string' ? second : undefined }, onConnect };
}

/** Undefined for what Node shall handle itself: loopback, pipes, and arguments it has a better error for. */
export function targetOf({ path, port, host }: Readonly<Record<string, unknown>>): Target | undefined {
  if (path || !isPort(port) || typeof host !== 'string' || host === '') return undefined;
  const canonical = canonicalHost(host);
  return canonical === undefined || isLoopback(canonical) ? undefined : { host: canonical, port: Number(port) };
}

function isPort(port: unknown): port is number | string {
  if (typeof port !== 'number' && (typeof port !== 'string' || port.trim() === '')) return false;
  return Number.isInteger(Number(port)) && Number(port) > 0 && Number(port) <= 65535;
}

/** A name with a space or a line break in it would end up in the proxy's request line. */
function canonicalHost(host: string): string | undefined {
  if (isIP(host)) return host.toLowerCase();
  // eslint-disable-next-line no-control-regex
  if (/[\x00-\x20\x7f]/.test(host)) return undefined;
  return domainToASCII(host).replace(/\.$/, '') || undefined;
}

/** The unspecified address is this machine too: that is where Linux and macOS connect to. */
function isLoopback(host: string): boolean {
  if (host === 'localhost' || host.endsWith('.localhost')) return true;
  if (isIP(host) === 4) return host.startsWith('127.') || host === '0.0.0.0';
  return isIP(host) === 6 && (/^[0:]+:0*[01]?$/.test(host) || /^[0:]*:ffff:(127\.|0*7f[0-9a-f]{2}:)/.test(host));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isFunction(value: unknown): value is () => void {
  return typeof value === 'function';
}
