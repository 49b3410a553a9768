import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { Dialer } from '../../src/proxy/dial.ts';

afterEach(() => {
  delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
});

it('a connection is to whom it was meant to be, also when Node is told to check nothing', async () => {
  const [known, unknown] = [Authority.create(), Authority.create()];
  const server = createServer({
    SNICallback: (name, done) => {
      done(null, unknown.contextFor(name));
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    const { port } = server.address() as AddressInfo;
    const dialer = new Dialer({ ca: [known.certificate], lookup: () => Promise.resolve(['127.0.0.1']) });
    await expect(dialer.connect({ host: 'localhost', port, tls: true, namedByRule: true })).rejects.toMatchObject({ code: 'tls' });
  } finally {
    server.close();
  }
});
