// What plays api.example.com in the demo: a TLS server that echoes what it is sent, and a CONNECT proxy, the only way to it.
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** api.example.com and the proxy. `received` is what came to the one, `dialled` what the other was asked for. */
export async function startApi() {
  /** @type {{ authorization: string, body: string, echo: string, encrypted: boolean }[]} */
  const received = [];
  /** @type {string[]} */
  const dialled = [];
  const authority = await newAuthority();
  const server = createTlsServer(
    {
      SNICallback: (name, done) => {
        done(null, authority.contextFor(name));
      },
    },
    (request, response) => {
      let body = '';
      request.on('data', (/** @type {Buffer} */ chunk) => (body += chunk.toString('utf8')));
      request.on('end', () => {
        const { authorization = '' } = request.headers;
        const echo = JSON.stringify({ you_sent: authorization });
        received.push({ authorization, body, echo, encrypted: 'encrypted' in request.socket });
        response.end(echo);
      });
    },
  );
  const way = createServer().on('connect', (request, socket) => {
    dialled.push(request.url ?? '');
    const upstream = connect(portOf(server), '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    for (const end of [socket, upstream]) end.on('error', () => undefined);
    socket.pipe(upstream).pipe(socket);
  });
  for (const each of [server, way])
    await new Promise((resolve) =>
      each.listen(0, '127.0.0.1', () => {
        resolve(undefined);
      }),
    );
  const close = () => {
    for (const each of [server, way]) each.close().closeAllConnections();
  };
  return { certificate: authority.certificate, proxy: `http://127.0.0.1:${String(portOf(way))}`, received, dialled, close };
}

/** Node cannot make certificates; the class that makes those of a blind run can. This one has a key of its own. */
async function newAuthority() {
  const entryPoints = [fileURLToPath(new URL('../../src/proxy/authority.ts', import.meta.url))];
  const { outputFiles } = await build({ entryPoints, bundle: true, platform: 'node', format: 'esm', write: false });
  const source = Buffer.from(outputFiles[0]?.contents ?? []).toString('base64');
  const module = /** @type {typeof import('../../src/proxy/authority.ts')} */ (await import(`data:text/javascript;base64,${source}`));
  return module.Authority.create();
}

/** @param {import('node:net').Server} server */
function portOf(server) {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
