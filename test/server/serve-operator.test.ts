// What an operator does to a server while it serves: certificates and audit files that are replaced, a stop in the middle of calls.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import tls from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { post, ServeLab, urlOf } from './serve-lab.ts';

let lab: ServeLab;

beforeEach(() => {
  lab = new ServeLab();
});

afterEach(() => lab.end());

describe('TLS', () => {
  it('of TLS files that do not belong together goes on with the old ones', async () => {
    const [one, two] = [pem(), pem()];
    const files = { certFile: lab.path('cert.pem'), keyFile: lab.path('key.pem') };
    writeFileSync(files.certFile, one.cert);
    writeFileSync(files.keyFile, one.key);
    const server = await lab.start({ tls: files });
    const before = await certificateAt(urlOf(server));
    writeFileSync(files.keyFile, two.key);
    server.reload();
    await expect.poll(() => lab.texts()).toContain('warning: cannot use the TLS certificate and key; the old certificate goes on');
    expect(await certificateAt(urlOf(server))).toBe(before);
    writeFileSync(files.certFile, two.cert);
    server.reload();
    await expect.poll(() => certificateAt(urlOf(server))).not.toBe(before);
  });

  it('takes a certificate over when its files are replaced, one after the other', async () => {
    const [one, two] = [pem(), pem()];
    const files = { certFile: lab.path('cert.pem'), keyFile: lab.path('key.pem') };
    writeFileSync(files.certFile, one.cert);
    writeFileSync(files.keyFile, one.key);
    const server = await lab.start({ tls: files });
    const before = await certificateAt(urlOf(server));
    writeFileSync(files.certFile, two.cert);
    writeFileSync(files.keyFile, two.key);
    await expect.poll(() => certificateAt(urlOf(server)), { timeout: 5000 }).not.toBe(before);
    expect(lab.texts()).toBe(`notice: serving with the new certificate in ${files.certFile}`);
    const after = await certificateAt(urlOf(server));
    writeFileSync(files.certFile, 'nothing');
    await expect.poll(() => lab.texts(), { timeout: 5000 }).toContain('the old certificate goes on');
    expect(await certificateAt(urlOf(server))).toBe(after);
  });
});

/** Any pair of a certificate and its key. */
function pem(): { cert: string; key: string } {
  const text = execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      '-',
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const [key = ''] = /-----BEGIN PRIVATE KEY-----[^]+?-----END PRIVATE KEY-----\n/.exec(text) ?? [];
  const [cert = ''] = /-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----\n/.exec(text) ?? [];
  return { cert, key };
}

function certificateAt(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

describe('the audit log', () => {
  it('has a line for who brings no token', async () => {
    const server = await lab.start();
    const response = await fetch(`${urlOf(server)}/v1/resolve`, { method: 'POST', body: '{}' });
    expect(response.status).toBe(401);
    await expect
      .poll(() => lab.decisions)
      .toEqual([expect.objectContaining({ face: 'http', tool: null, outcome: 'denied', code: 'jwt-missing', sub: null })]);
    const metrics = await (await fetch(`${urlOf(server)}/metrics`)).text();
    expect(metrics).toContain('kz_jwt_failures_total{code="jwt-missing"} 1\n');
    expect(metrics).toContain('kz_decisions_total{face="http",tool="none",outcome="denied",policy=""} 1\n');
  });

  it('that was moved away begins anew at a reload, and loses nothing', async () => {
    const server = await lab.start();
    const ask = () => post(server, '/v1/resolve', { resource: 'a/value' }, lab.jwt());
    await ask();
    renameSync(lab.path('audit.jsonl'), lab.path('audit.jsonl.1'));
    await ask();
    server.reload();
    await ask();
    await expect.poll(() => lab.decisions.length).toBe(1);
    expect(statSync(lab.path('audit.jsonl')).mode & 0o777).toBe(0o600);
    expect(readFileSync(lab.path('audit.jsonl.1'), 'utf8').split('"type":"decision"')).toHaveLength(3);
    // What cannot be opened leaves the one that was.
    renameSync(lab.path('audit.jsonl'), lab.path('audit.jsonl.2'));
    mkdirSync(lab.path('audit.jsonl'));
    server.reload();
    await ask();
    expect(lab.texts()).toContain('audit.jsonl: it is a folder; the log goes on in the file that was open');
    await expect.poll(() => readFileSync(lab.path('audit.jsonl.2'), 'utf8').split('"type":"decision"').length).toBe(3);
  });
});

it('lets a call of a client that speaks the present MCP come to its end, too', async () => {
  const slow = 'file: { type: exec, command: [sh, -c, "sleep 1; exit 1"] }';
  lab.writeBundle(['file: { type: env_file, path: ./secrets.env }', slow]);
  const server = await lab.start();
  const params = { name: 'fetch', arguments: { resource: 'a/masked', url: 'https://api.example.com/' }, _meta: PRESENT };
  const running = fetch(`${urlOf(server)}/mcp`, {
    method: 'POST',
    headers: {
      ...{ authorization: `Bearer ${lab.jwt()}`, 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      ...{ 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'fetch' },
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }),
  });
  await expect.poll(async () => (await fetch(`${urlOf(server)}/metrics`)).text()).toContain('\nkz_in_flight 1\n');
  server.stop();
  expect(await (await running).text()).toContain('secret-unavailable');
  await server.ended;
  expect(lab.decisions).toEqual([expect.objectContaining({ face: 'mcp', tool: 'fetch', outcome: 'failed', code: 'secret-unavailable' })]);
});

const PRESENT = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
};
