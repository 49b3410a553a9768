import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from './lab.ts';

let lab: Lab | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

describe('a request over HTTP/1.1', () => {
  it('has its token swapped in a credential header, and nowhere else', async () => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }] });
    const reply = await lab.ask('https://api.example.com/v1/things?x=1', {
      headers: { authorization: `Bearer ${lab.token()}`, 'user-agent': lab.token() },
    });
    expect(reply.status).toBe(200);
    expect(lab.received).toMatchObject([
      { method: 'GET', url: '/v1/things?x=1', headers: { authorization: `Bearer ${lab.value()}`, 'user-agent': lab.token() } },
    ]);
    expect(lab.exchanges).toMatchObject([
      { status: 200, decision: 'allowed', swapped: [{ name: 'TOKEN', where: 'header authorization' }] },
    ]);
  });

  it('keeps its token at another host', async () => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }] });
    await lab.ask('https://evil.example.net/', { headers: { authorization: `Bearer ${lab.token()}` } });
    expect(lab.received).toMatchObject([{ headers: { authorization: `Bearer ${lab.token()}` } }]);
  });

  it('has the value masked again when it is echoed', async () => {
    lab = await Lab.start({
      secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }],
      serve: (request, response) => {
        response.setHeader('x-echo', request.headers.authorization ?? '');
        response.end(JSON.stringify(request.headers));
      },
    });
    const reply = await lab.ask('https://api.example.com/', { headers: { authorization: `Bearer ${lab.token()}` } });
    expect(reply.headers['x-echo']).toBe(`Bearer ${lab.token()}`);
    expect(JSON.parse(reply.text)).toMatchObject({ authorization: `Bearer ${lab.token()}` });
    expect(Number(reply.headers['content-length'])).toBe(reply.body.length);
  });

  it('in the clear is swapped only where the port is named', async () => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }] });
    await lab.ask('http://api.example.com/x', { headers: { 'x-api-key': lab.token() } });
    expect(lab.received).toMatchObject([{ headers: { 'x-api-key': lab.token() } }]);
    expect(lab.exchanges).toMatchObject([
      { left: [{ name: 'TOKEN', reason: 'host', allow: 'hosts = ["api.example.com", "api.example.com:80"]' }] },
    ]);
  });

  it('in the clear goes the same way', async () => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com:80'] }] });
    const reply = await lab.ask('http://api.example.com/x', { headers: { 'x-api-key': lab.token() } });
    expect(reply.text).toBe('ok');
    expect(lab.received).toMatchObject([{ url: '/x', headers: { 'x-api-key': lab.value(), host: 'api.example.com' } }]);
    expect(lab.received[0]?.headers['proxy-authorization']).toBeUndefined();
  });

  it('swaps in a JSON body and says the new length', async () => {
    lab = await Lab.start();
    const body = JSON.stringify({ client_secret: lab.token(), text: lab.token() });
    await lab.ask('https://api.example.com/', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': body.length },
      body,
    });
    const [{ body: sent, headers } = { body: Buffer.alloc(0), headers: {} }] = lab.received;
    expect(JSON.parse(sent.toString())).toEqual({ client_secret: lab.value(), text: lab.token() });
    expect(Number(headers['content-length'])).toBe(sent.length);
  });
});

describe('announced trailers', () => {
  const post = 'POST / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\nTrailer: x-sum\r\n';

  it('are dropped where the message is not chunked, which Node would not send', async () => {
    lab = await Lab.start();
    const answer = await said(lab, `${post}Content-Length: 2\r\n\r\nok`);
    expect(answer).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    expect(lab.received).toMatchObject([{ body: Buffer.from('ok') }]);
    expect(lab.received[0]?.headers.trailer).toBeUndefined();
  });

  it('pass with a chunked body, in both directions', async () => {
    lab = await Lab.start({
      serve: (request, response) => {
        request.resume().once('end', () => {
          response.writeHead(200, { trailer: 'x-back' });
          response.write(`${String(request.headers.trailer)} ${String(request.trailers['x-sum'])}`);
          response.addTrailers({ 'x-back': 'yes' });
          response.end();
        });
      },
    });
    const answer = await said(lab, `${post}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n`);
    expect(answer).toMatch(/trailer: x-back[^]*x-sum 7[^]*x-back: yes/i);
  });
});

/** Everything that comes back for these bytes, until the connection closes. */
async function said(to: Lab, bytes: string): Promise<string> {
  const socket = await to.tunnel('api.example.com:443');
  let answer = '';
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write(bytes);
  await closed;
  return answer;
}
