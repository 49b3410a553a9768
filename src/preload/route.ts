// Entry of the preload: what `kz run --blind` has every Node program of the run load first (NODE_OPTIONS=--require). Each TCP connection
// that would leave the machine goes through kz's proxy on loopback instead, whatever HTTP library opens it. It is a routing aid, not a
// wall: a program that avoids it reaches its server with a masked token, which is worth nothing there. It reads the two variables below
// and one certificate, writes nothing, and where it does not know this Node well enough it leaves the program as it is.
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { routeSockets } from './connect.ts';
import { canAdopt } from './private-parts.ts';
import { readProxy } from './proxy-url.ts';
import { trustAlso } from './trust.ts';

/** `http://kz:<credential>@127.0.0.1:<port>`. Without it the preload does nothing. */
const PROXY = 'KEYZERO_PROXY';

/** Path of the certificate (PEM) that the proxy's own certificates come from. */
const CERTIFICATE = 'KEYZERO_CA';

/** One per thread of the program, however often the file is loaded there. */
const LOADED = Symbol.for('keyzero.preload');

/* A program must start even if kz is wrong about this Node, so nothing is thrown from here. */
try {
  if (process.env[PROXY] && !Reflect.has(globalThis, LOADED)) install(process.env[PROXY], process.env[CERTIFICATE]);
} catch (error) {
  warn(error instanceof Error ? error.message : 'unknown error');
}

function install(proxyUrl: string, certificatePath: string | undefined): void {
  Object.defineProperty(globalThis, LOADED, { value: true });
  const proxy = readProxy(proxyUrl);
  if (proxy === undefined) throw new Error(`${PROXY} is not a URL of the form http://user:password@host:port`);
  if (!canAdopt()) throw new Error(`Node ${process.version} is not one that kz knows`);
  const certificate = certificatePath ? readCertificate(certificatePath) : undefined;
  routeSockets(proxy);
  if (certificate !== undefined) trustAlso(certificate);
  // `import { connect } from 'node:tls'` sees a patched function only after this.
  syncBuiltinESMExports();
}

/** A certificate that cannot be read only matters to programs that bring their own list, so the others are still routed. */
function readCertificate(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    warn(`cannot read the certificate ${CERTIFICATE} names`);
    return undefined;
  }
}

function warn(reason: string): void {
  process.emitWarning(`keyzero: connections may not be routed through kz: ${reason}`);
}
