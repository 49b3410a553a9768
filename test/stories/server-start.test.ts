// How `kz server start` begins and ends: what it says, what it refuses, where its decisions are written, and what signals do to it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { has } from './kz.ts';
import { waitFor } from './processes.ts';
import { serveApi, type Json } from './server-parts.ts';
import { Scene } from './server-scene.ts';

let scene: Scene;
/** Answers the request to `/later`, which waits for it. */
let held: (() => void) | undefined;

beforeEach(async () => {
  held = undefined;
  scene = await Scene.start((request, response) => {
    if (request.url === '/later') held = () => response.end('late');
    else serveApi(request, response);
  });
});

afterEach(async () => {
  await scene.end();
});

const start = ['server', 'start', '--bundle', 'bundle.yaml'];
const LISTEN = ['--listen', '127.0.0.1:0'];

function linesOf(path: string): Json[] {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as Json);
}

const typesOf = (lines: readonly Json[]): unknown[] => lines.map(({ type }) => type);

describe('refuses to start', () => {
  it.each<[string, string[], number, string]>([
    ['without a bundle', ['server', 'start'], 2, 'kz server start needs --bundle'],
    ['with a bundle that is not there', ['server', 'start', '--bundle', 'nope.yaml'], 1, 'there is no bundle nope.yaml'],
    ['on all addresses without TLS', [...start, '--listen', ':0'], 2, '--listen :0 is open to other machines, without TLS'],
    ['on 0.0.0.0 without TLS', [...start, '--listen', '0.0.0.0:0'], 2, '--listen 0.0.0.0:0 is open to other machines, without TLS'],
    ['on [::] without TLS', [...start, '--listen', '[::]:0'], 2, '--listen [::]:0 is open to other machines, without TLS'],
    ['with an open proxy', [...start, ...LISTEN, '--proxy', '0.0.0.0:0'], 2, '--proxy 0.0.0.0:0 is open to other machines, without TLS'],
    ['on a name', [...start, '--listen', 'example.com:80'], 2, 'cannot listen on "example.com:80"'],
    ['on no port', [...start, '--listen', '127.0.0.1'], 2, 'cannot listen on "127.0.0.1"'],
    ['with half of TLS', [...start, '--tls-key', 'key.pem'], 2, '--tls-key needs --tls-cert'],
    ['with no TLS files', [...start, '--tls-cert', 'a.pem', '--tls-key', 'b.pem'], 1, 'cannot read a.pem, which --tls-cert names (ENOENT)'],
    ['with other TLS files', [...start, ...LISTEN, '--tls-cert', 'bundle.yaml', '--tls-key', 'bundle.yaml'], 1, 'cannot use the TLS'],
    ['with an audit log in the protocol', [...start, '--mcp', '--audit', 'stdout'], 2, 'standard output belongs to the protocol'],
    ['with the same in short', [...start, '--mcp', '--audit', '-'], 2, 'standard output belongs to the protocol'],
    ['with a mistyped place', [...start, ...LISTEN, '--audit', 'stdut'], 2, '--audit cannot be "stdut"'],
    ['where it cannot be audited', [...start, ...LISTEN, '--audit', './none/audit.jsonl'], 1, 'none/audit.jsonl: ENOENT'],
    ['with keys that are none', [...start, ...LISTEN, '--token-key-file', 'bundle.yaml'], 1, 'is not a key of 32 bytes in base64'],
    ['without its keys', [...start, ...LISTEN, '--token-key-file', 'nope'], 1, 'cannot read nope, which --token-key-file names (ENOENT)'],
    ['at no rate', [...start, ...LISTEN, '--rate', '0'], 2, '--rate cannot be "0"'],
    ['with a flag that it does not have', [...start, '--listn', '127.0.0.1:0'], 2, 'has no flag --listn'],
    ['with an argument', [...start, 'more'], 2, 'kz server start takes no arguments'],
  ])('%s', async (_, args, status, words) => {
    const { code, stderr, stdout } = await scene.kz(args);
    expect({ code, stdout }, stderr).toEqual({ code: status, stdout: expect.not.stringContaining('"decision"') as string });
    expect(stderr).toMatch(/^kz: error: /);
    expect(stderr).toContain(words);
  });

  it('with a bundle that is wrong, and says where', async () => {
    scene.story.write('bundle.yaml', scene.text().replace('"effect":"deny"', '"effect":"maybe"'));
    const { code, stderr, stdout } = await scene.kz([...start, ...LISTEN]);
    expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/bundle\.yaml:\d+:\d+: /);
  });

  it('on a port that is taken', async () => {
    const taken = net.createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${String((taken.address() as AddressInfo).port)}`;
    for (const flag of ['--listen', '--proxy']) {
      const others = flag === '--proxy' ? LISTEN : [];
      const { code, stderr } = await scene.kz([...start, ...others, flag, address, '--audit', 'none']);
      expect(code, stderr).toBe(1);
      expect(stderr).toContain(`cannot listen on ${address}: something else listens there\nkz: hint: let ${flag} name another port`);
    }
    await new Promise((resolve) => taken.close(resolve));
  });
});

describe('says where it serves', () => {
  it('over HTTP, and nothing else on standard error', async () => {
    const served = await scene.serve();
    expect(served.running.stderr).toMatch(/^kz: listening on (http:\/\/127\.0\.0\.1:\d+) \(MCP at \1\/mcp\)\n$/);
    expect((await served.ask('/healthz')).json).toEqual({ status: 'ok', bundle_loaded: true, bundle_version: '1' });
  });

  it('through its proxy, whose authority it writes down for everybody', async () => {
    const served = await scene.serve(['--proxy', '127.0.0.1:0', '--proxy-ca-file', 'proxy-ca.pem']);
    expect(served.running.stderr).toMatch(/kz: proxy: http:\/\/127\.0\.0\.1:\d+\n/);
    const file = join(scene.story.project, 'proxy-ca.pem');
    expect(readFileSync(file, 'latin1')).toMatch(/^-----BEGIN CERTIFICATE-----/);
    expect(statSync(file).mode & 0o777).toBe(0o644);
  });

  it('or not, with -q', async () => {
    const served = scene.spawn([...LISTEN, '-q']);
    await waitFor('the first line of the log', () => served.running.stdout.includes('server-started'));
    expect((await served.stop()).stderr).toBe('');
  });

  it.each(['localhost:0', '[::1]:0'])('on %s', async (address) => {
    if (address.startsWith('[') && !hasIpv6()) return;
    const served = scene.spawn(['--listen', address]);
    await served.said('listening on ');
    expect((await served.ask('/healthz')).status).toBe(200);
  });

  it('on every address, when it is asked to', async () => {
    const served = scene.spawn(['--listen', '0.0.0.0:0', '--allow-plaintext', '--allow-host', 'kz.example']);
    await served.said('listening on ');
    const port = new URL(served.url).port;
    const askAs = (host: string) => served.ask('/healthz', { headers: { host } });
    expect((await askAs(`kz.example:${port}`)).status).toBe(200);
    expect((await askAs(`evil.example:${port}`)).status).toBe(403);
  });
});

function hasIpv6(): boolean {
  try {
    return readFileSync('/proc/net/if_inet6', 'utf8').includes('00000000000000000000000000000001');
  } catch {
    return process.platform !== 'linux';
  }
}

describe('ends', () => {
  it.each(['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)('with status 0 at %s, with its last line in the log', async (signal) => {
    const served = await scene.serve();
    const { code, stdout, signal: died } = await served.stop(signal);
    expect({ code, died }).toEqual({ code: 0, died: null });
    expect(typesOf(served.events)).toEqual(['server-started', 'server-ended']);
    expect(stdout).toMatch(/"lost":0}\n$/);
  });

  it('not at SIGHUP, which reads the bundle again, nor at SIGUSR1 and SIGUSR2', async () => {
    const served = await scene.serve();
    served.running.send('SIGUSR1');
    served.running.send('SIGUSR2');
    served.running.send('SIGHUP');
    await served.said('serving ');
    expect((await served.ask('/healthz')).status).toBe(200);
    await waitFor('the line', () => served.events.length === 2);
    expect(typesOf(served.events)).toEqual(['server-started', 'bundle-reloaded']);
  });

  it('not when standard input is closed, without --mcp', async () => {
    const served = await scene.serve([], { input: '' });
    expect((await served.ask('/healthz')).status).toBe(200);
  });

  it('with --mcp when standard input is closed, and the HTTP server with it', async () => {
    const served = await scene.serve(['--mcp', '--audit', 'none'], { keepInput: true });
    expect((await served.ask('/healthz')).status).toBe(200);
    served.running.child.stdin?.end();
    expect(await served.running.ended).toMatchObject({ code: 0, signal: null, stdout: '' });
  });

  it('once the requests that run have their answer, and takes no new ones', async () => {
    const served = await scene.serve();
    const answer = served.fetch({ url: 'https://api.example/later' });
    await waitFor('the request', () => held !== undefined);
    const ended = served.stop();
    // It is on its way out when it says so.
    await until(async () => (await served.ask('/readyz')).status === 503);
    expect((await served.ask('/healthz')).status).toBe(200);
    expect((await served.resolve('github/pat')).status).toBe(503);
    held?.();
    expect(await answer).toMatchObject({ status: 200, json: { status: 200, body: 'late' } });
    expect(await ended).toMatchObject({ code: 0, signal: null });
    expect(await served.decision('github/pat')).toMatchObject({ outcome: 'allowed', status: 200 });
    expect(typesOf(served.events)).toEqual(['server-started', 'decision', 'server-ended']);
  });

  it('once, however often it is asked', async () => {
    const served = await scene.serve();
    served.running.send('SIGTERM');
    if (served.running.child.exitCode === null) served.running.send('SIGINT');
    expect(await served.running.ended).toMatchObject({ code: 0, signal: null });
    expect(typesOf(served.events)).toEqual(['server-started', 'server-ended']);
  });
});

describe.skipIf(!has('openssl'))('TLS', () => {
  function makeCertificate(name: string): { cert: string; key: string } {
    const [cert, key] = [join(scene.story.project, `${name}.pem`), join(scene.story.project, `${name}-key.pem`)];
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`];
    execFileSync('openssl', [...args, '-addext', 'subjectAltName=IP:0.0.0.0', '-keyout', key, '-out', cert], { stdio: 'ignore' });
    return { cert, key };
  }

  it('serves, on other addresses too, and takes up a new certificate at SIGHUP', async () => {
    const { cert } = makeCertificate('one');
    const served = scene.spawn(['--listen', '0.0.0.0:0', '--tls-cert', 'one.pem', '--tls-key', 'one-key.pem']);
    await served.said('listening on https://0.0.0.0:');
    const { port } = new URL(served.url);
    const shown = () =>
      new Promise<string>((resolve, reject) => {
        const socket = tls.connect({ host: '127.0.0.1', port: Number(port), rejectUnauthorized: false }, () => {
          resolve(String(socket.getPeerCertificate().subject.CN));
          socket.destroy();
        });
        socket.once('error', reject);
      });
    const answer = await served.ask('/v1/resolve', {
      ca: readFileSync(cert, 'latin1'),
      jwt: scene.token(),
      body: { resource: 'github/pat' },
    });
    expect(answer.status, answer.text).toBe(200);
    expect(await shown()).toBe('one');
    await expect(served.ask('/healthz', { ca: scene.upstream.certificate })).rejects.toThrow(/self-signed/);
    // An old version of TLS is not spoken.
    await expect(
      new Promise((resolve, reject) => {
        const options = { rejectUnauthorized: false, maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
        tls
          .connect({ host: '127.0.0.1', port: Number(port), ...options }, () => {
            resolve('spoken');
          })
          .once('error', reject);
      }),
    ).rejects.toThrow();

    const next = makeCertificate('two');
    scene.story.write('one.pem', readFileSync(next.cert));
    scene.story.write('one-key.pem', readFileSync(next.key), 0o600);
    served.running.send('SIGHUP');
    await served.said('serving ');
    await until(async () => (await shown()) === 'two');
    scene.story.write('one.pem', 'nothing');
    served.running.send('SIGHUP');
    await served.said('the old certificate goes on');
    expect(await shown()).toBe('two');
  });
});

async function until(predicate: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await predicate())) if (performance.now() > deadline) throw new Error('waited in vain');
}

describe('the audit log', () => {
  const DECISION = {
    type: 'decision',
    face: 'http',
    tool: 'resolve',
    issuer: 'lab',
    ref: 'github/pat',
    policy: 'acme',
    outcome: 'allowed',
  };

  it('is on standard output', async () => {
    const served = await scene.serve();
    await served.resolve('github/pat', { jwt: scene.token({ jti: 'one', sub: 'agent' }) });
    const { events } = served;
    expect(events[0]).toMatchObject({ type: 'server-started', schema_version: 1, bundle_version: '1', pid: served.running.pid });
    expect(await served.decided(1)).toEqual([expect.objectContaining({ ...DECISION, jti: 'one', sub: 'agent' })]);
  });

  it('or on standard error', async () => {
    const served = await scene.serve(['--audit', 'stderr']);
    await served.resolve('github/pat');
    await served.said('"ref":"github/pat"');
    expect((await served.stop()).stdout).toBe('');
  });

  it('or nowhere', async () => {
    const served = await scene.serve(['--audit', 'none']);
    expect((await served.resolve('github/pat')).status).toBe(200);
    const { stdout, stderr } = await served.stop();
    expect({ stdout, lines: stderr.split('\n').length }).toEqual({ stdout: '', lines: 2 });
  });

  it('or a file that only its owner may read, which grows', async () => {
    const path = scene.story.write('audit.jsonl', '{"type":"before"}\n', 0o644);
    for (const round of [1, 2]) {
      const served = await scene.serve(['--audit', './audit.jsonl']);
      await served.resolve('github/pat');
      expect((await served.stop()).stdout, String(round)).toBe('');
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(typesOf(linesOf(path))).toEqual([
      'before',
      ...['server-started', 'decision', 'server-ended'],
      ...['server-started', 'decision', 'server-ended'],
    ]);
    expect(linesOf(path)[2]).toMatchObject(DECISION);
  });

  it.each<[string, string[]]>([
    ['with --audit file', ['--audit', 'file']],
    ['beside an MCP client', ['--mcp']],
  ])('or, %s, a file of its own in the folder of kz', async (_, args) => {
    const state = join(scene.story.folder, 'state');
    mkdirSync(state);
    const served = await scene.serve(args, { keepInput: true, env: { XDG_STATE_HOME: state } });
    await served.resolve('github/pat');
    const { code, stdout } = await served.stop();
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    const folder = join(state, 'keyzero', 'server');
    const [name = '', ...others] = readdirSync(folder);
    expect(others).toEqual([]);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    expect(typesOf(linesOf(join(folder, name)))).toEqual(['server-started', 'decision', 'server-ended']);
    expect(readdirSync(scene.story.project)).not.toContain('file');
  });

  it.skipIf(process.platform !== 'linux')('that cannot be written stops nobody, and that is said once', async () => {
    const served = await scene.serve(['--audit', '/dev/full']);
    await served.said('the audit log cannot be written (ENOSPC)');
    for (const ref of ['github/pat', 'github/pat']) expect((await served.resolve(ref)).status).toBe(200);
    expect((await served.ask('/metrics')).text).toMatch(/^kz_audit_\w+ [1-9]/m);
    expect((await served.stop()).stderr.split('the audit log').length).toBe(2);
  });
});
