// Where the server listens, from what a person writes: `127.0.0.1:8080`, `[::1]:0`, `:8080`, `localhost:8080`. A name is never resolved:
// what it stands for could change between the check and the listening.
import { isIP } from 'node:net';
import { addressKind } from '../../core/address.ts';
import { KzError, systemCode } from '../../core/errors.ts';
import { canonicalHost } from '../../core/host-name.ts';

export interface ListenAddress {
  /** An IP address without brackets. Undefined: all addresses of this machine. */
  readonly host: string | undefined;
  /** 0: the system chooses. */
  readonly port: number;
  /** False is to be asked for by an explicit flag. */
  readonly isLoopback: boolean;
}

/** Throws `usage`. */
export function parseListen(text: string): ListenAddress {
  const [, name, digits] = /^(\[[^\]]*\]|[^:]*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (name === undefined || port > 65_535) throw unfit(text);
  if (name === '') return { host: undefined, port, isLoopback: false };
  const canonical = canonicalHost(name);
  // RFC 6761, section 6.3: it is this, whatever a hosts file says.
  const host = canonical === 'localhost' ? '127.0.0.1' : canonical?.replace(/^\[(.*)\]$/, '$1');
  if (host === undefined || isIP(host) === 0) throw unfit(text);
  return { host, port, isLoopback: addressKind(host) === 'loopback' };
}

/** `127.0.0.1:8080`, `[::1]:8080`, `0.0.0.0:8080`. */
export function formatListen({ host, port }: Pick<ListenAddress, 'host' | 'port'>): string {
  const name = host ?? '0.0.0.0';
  return `${isIP(name) === 6 ? `[${name}]` : name}:${String(port)}`;
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there',
  EACCES: 'ports below 1024 are for the administrator',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EAFNOSUPPORT: 'this machine does not have IPv6',
};

/** `flag` names the address. */
export function cannotListen(listen: Pick<ListenAddress, 'host' | 'port'>, flag: string, error: unknown): KzError {
  const code = systemCode(error) ?? 'unknown error';
  return new KzError('start-failed', `cannot listen on ${formatListen(listen)}: ${REASONS[code] ?? code}`, {
    hint: code === 'EADDRINUSE' ? `let ${flag} name another port; 0 is one that is free` : undefined,
    cause: error,
  });
}

function unfit(text: string): KzError {
  return new KzError('usage', `cannot listen on ${JSON.stringify(text)}: it is not an IP address and a port`, {
    hint: 'write 127.0.0.1:8080, [::1]:8080 or localhost:8080; :8080 is every address of this machine',
  });
}
