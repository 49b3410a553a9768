// Published attack 2, Host ≠ SNI ≠ CONNECT ≠ :authority (vm0 #14412, agentcage #214, agent-sandbox.nix #105 and #150, microsandbox #709, AWF #8878,
// pipelock #175), and 3, host names that two parsers read differently (NUL in Claude Code's proxy, nono #1676 and #1709).
import http from 'node:http';
import http2 from 'node:http2';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab, replyOf, type LabOptions } from '../proxy/lab.ts';
import { Wire } from './wire.ts';

const OURS = 'api.example.com';
const EVIL = 'evil.example.net';

let lab: Lab | undefined;
let session: http2.ClientHttp2Session | undefined;

afterEach(async () => {
  session?.destroy();
  await lab?.close();
  lab = session = undefined;
});

async function start(options: LabOptions = {}): Promise<Lab> {
  lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: [OURS, `${OURS}:80`] }], ...options });
  return lab;
}

/** Every way to name three hosts of which not all are the same. */
const LIES = [OURS, EVIL].flatMap((connect) =>
  [OURS, EVIL]
    .flatMap((sni) => [OURS, EVIL].map((named) => ({ connect, sni, named })))
    .filter(({ sni, named }) => sni !== connect || named !== connect),
);

describe('a request whose names differ', () => {
  it.each(LIES)('host identity: over HTTP/1.1, CONNECT $connect, SNI $sni, Host $named', async ({ connect, sni, named }) => {
    const lab = await start();
    const wire = new Wire(await lab.tunnel(`${connect}:443`, { serverName: sni }));
    wire.write(`GET / HTTP/1.1\r\nHost: ${named}\r\nAuthorization: Bearer ${lab.token()}\r\n\r\n`);
    const [answer] = await wire.answers(1);
    expect(answer?.status).toBe(421);
    expect(answer?.head).toContain('x-kz-error: host-mismatch');
    expect(lab.received).toEqual([]);
  });

  it.each(LIES)('host identity: over HTTP/2, CONNECT $connect, SNI $sni, :authority $named', async ({ connect, sni, named }) => {
    const seen: unknown[] = [];
    const lab = await start({ serveHttp2: (_stream, headers) => seen.push(headers), serve: (request) => seen.push(request.headers) });
    if (connect === sni) {
      expect(await askHttp2(lab, connect, { ':authority': named })).toMatchObject({ ':status': 421, 'x-kz-error': 'host-mismatch' });
    } else {
      // Such a tunnel never gets as far as HTTP/2.
      const socket = await lab.tunnel(`${connect}:443`, { serverName: sni, alpn: ['h2', 'http/1.1'] });
      expect(socket.alpnProtocol).not.toBe('h2');
      const request = http.get({ createConnection: () => socket, setHost: false, headers: { host: named, authorization: lab.token() } });
      expect((await replyOf(request)).status).toBe(421);
    }
    expect(seen).toEqual([]);
  });

  it('host identity: over HTTP/2, Host beside another :authority', async () => {
    const seen: unknown[] = [];
    const lab = await start({ serveHttp2: (_stream, headers) => seen.push(headers) });
    for (const names of [
      { ':authority': OURS, host: EVIL },
      { ':authority': EVIL, host: OURS },
    ]) {
      expect((await askHttp2(lab, OURS, names))[':status']).toBe(400);
      session?.destroy();
    }
    expect(seen).toEqual([]);
  });

  it.each([`${OURS}:8443`, `${OURS}:80`, `${OURS}:0`, `${OURS}:443:80`, `${OURS}:+443`, `${OURS}:0443`])(
    'host identity: the name is right and the port is another one, %s',
    async (named) => {
      const lab = await start({ serveHttp2: () => undefined });
      const wire = new Wire(await lab.tunnel(`${OURS}:443`));
      wire.write(`GET / HTTP/1.1\r\nHost: ${named}\r\nAuthorization: Bearer ${lab.token()}\r\n\r\n`);
      expect((await wire.answers(1))[0]?.status).toBe(421);
      expect((await askHttp2(lab, OURS, { ':authority': named }))[':status']).toBe(421);
      expect(lab.received).toEqual([]);
    },
  );

  it('host identity: absolute form inside a tunnel', async () => {
    const lab = await start();
    for (const target of [`https://${EVIL}/`, `https://${OURS}/`, `http://${EVIL}/`, OURS, '*x']) {
      const wire = new Wire(await lab.tunnel(`${OURS}:443`));
      wire.write(`GET ${target} HTTP/1.1\r\nHost: ${OURS}\r\nAuthorization: Bearer ${lab.token()}\r\n\r\n`);
      expect((await wire.answers(1))[0]?.status).toBe(400);
    }
    expect(lab.received).toEqual([]);
  });

  it('host identity: absolute form to the proxy with another Host', async () => {
    const lab = await start();
    for (const [url, host] of [
      [`http://${EVIL}/`, OURS],
      [`http://${OURS}/`, EVIL],
      [`http://${OURS}:8080/`, `${OURS}:80`],
    ] as const) {
      const reply = await lab.ask(url, { headers: { host, authorization: `Bearer ${lab.token()}` } });
      expect(reply.status).toBe(421);
    }
    expect(lab.received).toEqual([]);
  });

  // onecli #259: it was forwarded as written, in the clear.
  it('host identity: https in absolute form leaves the machine over TLS', async () => {
    const lab = await start();
    const wire = new Wire(await lab.open());
    const login = Buffer.from(new URL(lab.proxyUrl).username + ':' + new URL(lab.proxyUrl).password).toString('base64');
    wire.write(
      `GET https://${OURS}/x HTTP/1.1\r\nHost: ${OURS}\r\nProxy-Authorization: Basic ${login}\r\nX-Api-Key: ${lab.token()}\r\n\r\n`,
    );
    expect((await wire.answers(1))[0]?.status).toBe(200);
    expect(lab.received).toMatchObject([{ url: '/x', headers: { 'x-api-key': lab.value() } }]);
    expect(lab.exchanges).toMatchObject([{ tls: true, port: 443 }]);
  });

  it('host identity: CONNECT inside a tunnel opens no second one', async () => {
    const lab = await start();
    const wire = new Wire(await lab.tunnel(`${OURS}:443`));
    wire.write(`CONNECT ${EVIL}:443 HTTP/1.1\r\nHost: ${EVIL}\r\n\r\n`);
    await wire.closed();
    expect(wire.text).not.toMatch(/^HTTP\/1\.1 2/);
    expect(lab.received).toEqual([]);
  });
});

/** In a tunnel to `connect` that names the same in TLS. */
async function askHttp2(lab: Lab, connect: string, names: http2.OutgoingHttpHeaders): Promise<http2.IncomingHttpHeaders> {
  const socket = await lab.tunnel(`${connect}:443`, { alpn: ['h2'] });
  expect(socket.alpnProtocol).toBe('h2');
  session = http2.connect(`https://${connect}`, { createConnection: () => socket });
  const stream = session.request({ ':path': '/', authorization: `Bearer ${lab.token()}`, ...names });
  return new Promise((resolve, reject) => {
    stream.once('response', resolve);
    stream.once('error', reject);
  });
}

describe('a host name that two parsers read differently', () => {
  const login = (lab: Lab) => Buffer.from(`kz:${new URL(lab.proxyUrl).password}`).toString('base64');

  // Claude Code 2.0.24 to 2.1.89 (NUL), nono #1676, agent-sandbox.nix #150 (brackets).
  it.each([
    [`${OURS}\0.${EVIL}`],
    [`${EVIL}\0.${OURS}`],
    [`${OURS}%00.${EVIL}`],
    [`${EVIL}%2f.${OURS}`],
    [`${OURS}@${EVIL}`],
    [`user:pass@${OURS}`],
    [`${EVIL}#.${OURS}`],
    [`${EVIL}?.${OURS}`],
    [`${EVIL}/.${OURS}`],
    [`${EVIL}\\.${OURS}`],
    [`${EVIL} ${OURS}`],
    [`${EVIL}\t${OURS}`],
    [`[${OURS}]`],
    [`[::1]${OURS}`],
    [`[fe80::1%25eth0]`],
    [`.${OURS}`],
    [`${OURS}..`],
    [`api..example.com`],
    [`-.${OURS}`],
    [`*.${OURS}`],
    [`${'a'.repeat(64)}.${OURS}`],
    [`${'a.'.repeat(130)}com`],
    [''],
  ])('host spelling: %j is refused', async (host) => {
    const lab = await start();
    const raw = new Wire(await lab.open());
    raw.write(`CONNECT ${host}:443 HTTP/1.1\r\nHost: ${OURS}\r\nProxy-Authorization: Basic ${login(lab)}\r\n\r\n`);
    await raw.closed();
    expect(raw.text).toMatch(/^HTTP\/1\.1 400 /);
    const plain = new Wire(await lab.open());
    plain.write(
      `GET http://${host}/ HTTP/1.1\r\nHost: ${OURS}\r\nProxy-Authorization: Basic ${login(lab)}\r\nX-Api-Key: ${lab.token()}\r\n\r\n`,
    );
    const [answer] = await plain.answers(1);
    // What stands behind a slash, question mark or number sign is no longer the host.
    expect([400, 421]).toContain(answer?.status);
    expect(lab.received).toEqual([]);
  });

  // The Cyrillic а as its punycode, names that only contain or end in the right one, and one that differs in what looks the same.
  it.each([
    `${OURS}.${EVIL}`,
    `${OURS}.evil`,
    `x${OURS}`,
    `x.${OURS}`,
    'xn--pi-6kc.example.com',
    'api-example.com',
    'api.examp1e.com',
    'example.com',
  ])('host spelling: %s gets no value of api.example.com', async (host) => {
    const lab = await start();
    await lab.ask(`https://${host}/`, { headers: { authorization: `Bearer ${lab.token()}` } });
    expect(lab.received).toMatchObject([{ headers: { authorization: `Bearer ${lab.token()}` } }]);
    expect(lab.exchanges).toMatchObject([{ host, swapped: [], left: [{ reason: 'host' }] }]);
  });

  it.each(['\u0430pi.example.com', '\uff41pi.example.com', 'api\u3002example.com', 'api.example\u200b.com'])(
    'host spelling: %j as bytes in Host is no other name for the target',
    async (named) => {
      const lab = await start();
      const wire = new Wire(await lab.tunnel(`${OURS}:443`));
      wire.write(Buffer.from(`GET / HTTP/1.1\r\nHost: ${named}\r\nAuthorization: ${lab.token()}\r\n\r\n`));
      expect((await wire.answers(1))[0]?.status).toBe(421);
      expect(lab.received).toEqual([]);
    },
  );

  it.each(['API.EXAMPLE.COM', 'Api.Example.Com', 'api.example.com.'])(
    'host spelling: %s is api.example.com for rule, scope and dial',
    async (host) => {
      const asked: string[] = [];
      const lab = await start({
        rules: [{ allow: true, host: OURS }],
        dial: {
          lookup: (name) => {
            asked.push(name);
            return Promise.resolve(['203.0.112.1']);
          },
        },
      });
      const wire = new Wire(await lab.tunnel(`${host}:443`, { serverName: OURS }));
      wire.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${lab.token()}\r\n\r\n`);
      expect((await wire.answers(1))[0]?.status).toBe(200);
      expect(asked).toEqual([OURS]);
      expect(lab.received).toMatchObject([{ headers: { authorization: `Bearer ${lab.value()}` } }]);
    },
  );

  // onecli #438, #251: one host identity for policy and injection.
  it('host identity: a rule for a whole domain does not widen the scope of a secret', async () => {
    const lab = await start({ rules: [{ allow: true, host: '*.example.com' }] });
    await lab.ask('https://user-content.example.com/', { headers: { authorization: lab.token(), host: 'user-content.example.com' } });
    await lab.ask(`https://${OURS}:8443/`, { headers: { authorization: lab.token() } });
    expect(lab.received.map(({ headers }) => headers.authorization)).toEqual([lab.token(), lab.value()]);
    expect((await lab.ask(`https://${EVIL}/`)).status).toBe(403);
  });

  it('host identity: a scope with a port covers no other port', async () => {
    const lab = await start({ secrets: [{ name: 'TOKEN', hosts: [`${OURS}:443`] }] });
    for (const url of [`https://${OURS}:8443/`, `http://${OURS}/`, `http://${OURS}:8080/`]) {
      await lab.ask(url, { headers: { authorization: lab.token() } });
    }
    expect(lab.received.map(({ headers }) => headers.authorization)).toEqual([lab.token(), lab.token(), lab.token()]);
  });
});
