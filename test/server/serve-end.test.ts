// What a server still owes when it is stopped in the middle of calls: a line of the audit log for each of them, and no word that is not true.
import { existsSync, writeFileSync } from 'node:fs';
import http, { type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RunningServer } from '../../src/server/serve.ts';
import { McpPipes, ServeLab, urlOf } from './serve-lab.ts';

let lab: ServeLab;
let upstream: http.Server;
let answering: Promise<ServerResponse>;
const closers: (() => unknown)[] = [];

beforeEach(async () => {
  lab = new ServeLab();
  answering = new Promise((resolve) => {
    upstream = http.createServer((_request, response) => {
      response.writeHead(200).write('a beginning');
      resolve(response);
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  await lab.end();
  upstream.closeAllConnections();
  for (const close of closers.splice(0)) close();
  await new Promise((resolve) => upstream.close(resolve));
});

const address = (): string => `127.0.0.1:${String((upstream.address() as AddressInfo).port)}`;

const withUpstream = (): void => {
  lab.writeBundle(['hosts: [api.example.com]', `hosts: ["${address()}"]`]);
};

const SLOW = [
  'file: { type: env_file, path: ./secrets.env }',
  'file: { type: exec, command: [sh, -c, "echo > asked; exec sleep 60"] }',
] as const;

describe('a server that is stopped', () => {
  it('lets a request through its proxy come to its end, and takes no other', async () => {
    withUpstream();
    const server = await lab.start({ proxy: '127.0.0.1:0' });
    const socket = throughProxy(server);
    let answer = '';
    const ended = new Promise((resolve) => socket.on('data', (chunk: Buffer) => (answer += chunk.toString())).once('close', resolve));
    const upstreamResponse = await answering;
    server.stop();
    const refused = await new Promise((resolve) => throughProxy(server).once('data', resolve));
    expect(String(refused)).toMatch(/^HTTP\/1\.1 503 [^]*x-kz-error: overloaded/i);
    upstreamResponse.end(', and an end');
    await server.ended;
    await ended;
    expect(answer).toContain('an end');
    expect(lab.decisions).toMatchObject([{ tool: 'proxy', ref: null, host: '127.0.0.1', outcome: 'allowed' }]);
  });

  // Of an MCP client nobody waits any more.
  it('writes down a request through its proxy that it breaks off', async () => {
    withUpstream();
    const server = await lab.start({ proxy: '127.0.0.1:0', mcp: new McpPipes(), jwt: { file: jwtFile(), audience: undefined } });
    throughProxy(server);
    await answering;
    server.stop();
    await server.ended;
    expect(lab.decisions).toMatchObject([{ tool: 'proxy', ref: null, host: '127.0.0.1' }]);
    expect(lab.lines.at(-1)).toMatchObject({ type: 'server-ended', lost: 0 });
  });

  it('does not call a backend broken that a request through its proxy still waits for', async () => {
    lab.writeBundle(['hosts: [api.example.com]', `hosts: ["${address()}"]`], SLOW);
    const pipes = new McpPipes();
    const server = await lab.start({ proxy: '127.0.0.1:0', mcp: pipes, jwt: { file: jwtFile(), audience: undefined } });
    const { result } = await pipes.call('resolve', { resource: 'a/masked' });
    throughProxy(server, `authorization: Bearer ${String(result?.structuredContent?.token)}\r\n`);
    await expect.poll(() => existsSync(lab.path('asked'))).toBe(true);
    server.stop();
    await server.ended;
    expect(lab.decisions.at(-1)).toMatchObject({ tool: 'proxy', ref: 'a/masked', outcome: 'failed', code: 'cancelled' });
    expect(lab.texts()).toBe('');
  });

  it('writes down the check of a resource that it breaks off, and calls nothing broken', async () => {
    const check = `hosts: ["${address()}"], check: "GET https://${address()}/"`;
    lab.writeBundle(['hosts: [api.example.com]', check]);
    const pipes = new McpPipes();
    const server = await lab.start({ mcp: pipes, listen: undefined, healthCheck: true, jwt: { file: jwtFile(), audience: undefined } });
    upstream.removeAllListeners('connection');
    // Whoever speaks TLS waits for an answer to its first words.
    const asked = new Promise((resolve) => {
      upstream.once('connection', (socket) => {
        closers.push(() => socket.destroy());
        resolve(socket);
      });
    });
    void pipes.call('health_check');
    await asked;
    server.stop();
    await server.ended;
    expect(lab.decisions).toMatchObject([{ tool: 'health_check', ref: 'a/masked', outcome: 'failed', code: 'cancelled' }]);
    expect(lab.texts()).toBe('');
  });

  it('does not call a backend broken that a check still asks', async () => {
    const check = `hosts: ["${address()}"], check: "GET https://${address()}/"`;
    lab.writeBundle(['hosts: [api.example.com]', check], SLOW);
    const pipes = new McpPipes();
    const server = await lab.start({ mcp: pipes, listen: undefined, healthCheck: true, jwt: { file: jwtFile(), audience: undefined } });
    void pipes.call('health_check');
    await expect.poll(() => existsSync(lab.path('asked'))).toBe(true);
    server.stop();
    await server.ended;
    expect(lab.decisions).toMatchObject([{ tool: 'health_check', ref: 'a/masked', outcome: 'failed', code: 'cancelled' }]);
    // Whoever is told later is told something that is not true.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(lab.texts()).toBe('');
  });
});

function throughProxy(server: RunningServer, header = ''): net.Socket {
  const credential = Buffer.from(`kz:${lab.jwt()}`).toString('base64');
  const { hostname, port } = new URL(urlOf(server, 'proxy: '));
  const socket = net.connect(Number(port), hostname);
  closers.push(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write(`GET http://${address()}/ HTTP/1.1\r\nhost: ${address()}\r\nproxy-authorization: Basic ${credential}\r\n${header}\r\n`);
  return socket;
}

function jwtFile(): string {
  writeFileSync(lab.path('own.jwt'), lab.jwt());
  return lab.path('own.jwt');
}
