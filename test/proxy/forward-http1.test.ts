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
    expect(lab.exchanges).toMatchObject([{ left: [{ name: 'TOKEN', reason: 'host', allow: 'hosts = ["api.example.com:80"]' }] }]);
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
