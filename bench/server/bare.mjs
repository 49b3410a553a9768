// An HTTP server that reads a JSON body and answers with as much as kz does: what Node alone costs.
import { createServer } from 'node:http';

const answer = JSON.stringify({ results: { a: { allowed: true, policy: 'p', mode: 'masked', token: `T${'x'.repeat(360)}`, ttl: 900 } } });

const server = createServer((request, response) => {
  /** @type {Buffer[]} */
  const chunks = [];
  request.on('data', (/** @type {Buffer} */ chunk) => chunks.push(chunk));
  request.once('end', () => {
    JSON.parse(Buffer.concat(chunks).toString());
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) }).end(answer);
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  console.error(`listening on ${String(typeof address === 'object' ? address?.port : address)}`);
});
