// Programs that know of no proxy, in isolation: nothing in their environment says where kz is, and they reach what the rules allow all the
// same, under its own name and with its own certificate check. What is swapped and what comes back is as with the proxy.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ISOLATION_NOTE, NO_ISOLATION, ownTemporary } from '../stories/isolation.ts';
import { NODE, Story, type Ended } from '../stories/kz.ts';
import { hasPip, pythonIndex } from '../stories/package-registry.ts';
import { Upstream } from '../stories/upstream.ts';
import { ASKING, BARE, GO, JAVA } from './clients/bare.ts';
import { folderOf, isInstalled, PROGRAMS, PYTHON } from './clients/parts.mjs';
import { RawUpstream } from './clients/raw-upstream.ts';
import { CLIENTS, type Client } from './clients/table.ts';
import { EchoUpstream } from './clients/upstream.ts';

const { PATH = '' } = process.env;
const ALLOWED = 'api.example.test';
const TOKEN = /kz_masked_[0-9a-f]{32}/;

let story: Story;
let upstream: EchoUpstream;
let raw: RawUpstream;
let value: string;
let messageValue: string;
let nodePrograms: string;

beforeAll(async () => {
  story = new Story();
  upstream = await EchoUpstream.start();
  raw = await RawUpstream.start();
  value = story.canary();
  messageValue = story.canary();
  story.write('ca.pem', upstream.authority.certificate);
  story.write('bare.sh', BARE, 0o755);
  story.write('Ask.java', JAVA);
  story.write('go/main.go', GO);
  story.write('go/go.mod', 'module bare\n\ngo 1.20\n');
  if (isInstalled('go')) {
    const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=mod', GOPROXY: 'off', GOTOOLCHAIN: 'local' };
    execFileSync('go', ['build', '-o', 'bare', '.'], { cwd: join(story.project, 'go'), env });
  }
  // What is outside of the project is not there, or cannot be written to.
  nodePrograms = join(story.project, 'node');
  cpSync(join(PROGRAMS, 'node'), nodePrograms, { recursive: true });
  symlinkSync(join(folderOf('node-modules'), 'node_modules'), join(nodePrograms, 'node_modules'));
  configure('[[blind.connections]]\nallow = true\nhost = "api.example.test"\n');
});

beforeEach(() => {
  upstream.forget();
});

afterAll(() => {
  upstream.close();
  raw.close();
  story.end();
});

function configure(rules: string, name = '.keyzero.toml'): void {
  story.write(
    name,
    `
    [secrets.TOKEN]
    provider = "env"
    ref = "VALUE"
    hosts = ["api.example.test", "api.example.test:80"]
    [secrets.MESSAGE_TOKEN]
    provider = "env"
    ref = "MESSAGE_VALUE"
    hosts = ["api.example.test"]
    swap = ["body"]
    [blind]
    upstream_ca = "ca.pem"
    ${rules}
  `,
  );
}

interface Options {
  readonly env?: Readonly<Record<string, string>>;
  readonly config?: string;
  readonly proxyUrl?: string;
}

function bare(
  command: readonly string[],
  { env = {}, config = '.keyzero.toml', proxyUrl = upstream.proxyUrl }: Options = {},
): Promise<Ended> {
  return story.kz(['run', '--blind', '--sandbox', 'strict', '-c', config, '--', './bare.sh', ...command], {
    env: {
      PATH,
      TMPDIR: ownTemporary(story),
      ...env,
      HTTPS_PROXY: proxyUrl,
      HTTP_PROXY: proxyUrl,
      VALUE: value,
      MESSAGE_VALUE: messageValue,
    },
  });
}

const rows = CLIENTS.map((client) => {
  const { name, problem } = client;
  return { title: problem === undefined ? name : `${name} (skipped: ${problem})`, skip: problem !== undefined, client };
});

const asking = Object.entries(ASKING).map(([name, { problem, command }]) => {
  return { title: problem === undefined ? name : `${name} (skipped: ${problem})`, skip: problem !== undefined, command };
});

describe.skipIf(NO_ISOLATION !== undefined)(`isolated, without a proxy variable${ISOLATION_NOTE}`, () => {
  describe('a client of the table sends the value and sees the token', () => {
    for (const { title, skip, client } of rows) {
      it.skipIf(skip)(title, async () => {
        const ended = await bare(client.command(nodePrograms), client.env === undefined ? {} : { env: client.env });
        expect(ended.code, ended.stderr).toBe(0);
        expectArrival(client);
        if (client.prints === undefined) expect(ended.stdout).toMatch(TOKEN);
        else expect(ended.stdout).toContain(client.prints);
      });
    }
  });

  describe('of two names, one that a rule allows', () => {
    for (const { title, skip, command } of asking) {
      it.skipIf(skip)(`${title}: reaches it`, async () => {
        const { code, stdout, stderr } = await bare(command(`https://${ALLOWED}/echo`));
        expect(code, stderr).toBe(0);
        expect(upstream.arrivals.map(({ found }) => found.header)).toEqual([value]);
        if (!stdout.includes('refs/heads/main')) expect(stdout).toMatch(TOKEN);
      });

      it.skipIf(skip)(`${title}: reaches nothing under the other`, async () => {
        const { code } = await bare(command('https://denied.example.test/echo'));
        expect(code).not.toBe(0);
        expect([upstream.arrivals, upstream.connections]).toEqual([[], 0]);
      });
    }
  });

  it('without rules, every name is reached, and a token goes to its own hosts only', async () => {
    configure('', 'no-rules.toml');
    const ask = (host: string): Promise<Ended> =>
      bare(
        [
          NODE,
          '-e',
          `fetch("https://${host}/echo", { headers: { "x-api-key": process.env.TOKEN } }).then((a) => a.text()).then(console.log)`,
        ],
        {
          config: 'no-rules.toml',
        },
      );
    expect(await ask(ALLOWED)).toMatchObject({ code: 0 });
    expect(await ask('other.example.test')).toMatchObject({ code: 0 });
    expect(upstream.arrivals.map(({ found }) => found.header)).toEqual([value, expect.stringMatching(TOKEN)]);
  });

  it('a name that differs from the one in TLS is not served', async () => {
    const script = `
      const socket = require('tls').connect({ host: 'api.example.test', port: 443, servername: 'denied.example.test' }, () =>
        socket.write('GET /echo HTTP/1.1\\r\\nHost: denied.example.test\\r\\nX-Api-Key: ' + process.env.TOKEN + '\\r\\nConnection: close\\r\\n\\r\\n'));
      socket.on('data', (chunk) => process.stdout.write(chunk)).on('error', (error) => console.log(error.code));`;
    const { stdout } = await bare([NODE, '-e', script]);
    expect(stdout).not.toContain('200 OK');
    expect(upstream.arrivals).toEqual([]);
  });

  describe('raw TCP to a port that a rule names', () => {
    const RULES = ['db.example.test:5432', 'mail.example.test:2525']
      .map((host) => `[[blind.connections]]\nallow = true\nhost = "${host}"\n`)
      .join('\n');
    const CLIENT = {
      Node: (host: string, port: number, says: string): string[] => [
        NODE,
        '-e',
        `const socket = require('net').connect(${String(port)}, '${host}', () => socket.write('${says}'));
         socket.on('data', (chunk) => { process.stdout.write(chunk); socket.end(); }).on('error', (error) => { console.error(error.code); process.exit(1); });`,
      ],
      Python: (host: string, port: number, says: string): string[] => [
        PYTHON,
        '-c',
        `import socket; s = socket.create_connection(("${host}", ${String(port)})); s.sendall(b"${says}"); print(s.recv(100).decode(), end="")`,
      ],
    };
    const clients = Object.entries(CLIENT);

    beforeAll(() => {
      configure(RULES, 'raw.toml');
    });

    it.skipIf(PYTHON === '').each(clients)('%s speaks first', async (_, command) => {
      const ended = await bare(command('db.example.test', 5432, '\\x01hello'), { config: 'raw.toml', proxyUrl: raw.proxyUrl });
      expect(ended).toMatchObject({ code: 0, stdout: 'you said \x01hello' });
    });

    it.skipIf(PYTHON === '').each(clients)('%s waits for the server to speak first', async (_, command) => {
      const ended = await bare(command('mail.example.test', 2525, ''), { config: 'raw.toml', proxyUrl: raw.proxyUrl });
      expect(ended).toMatchObject({ code: 0, stdout: '220 ready' });
    });

    it.skipIf(PYTHON === '').each(clients)('%s reaches no other port of that name', async (_, command) => {
      raw.connects.length = 0;
      for (const port of [5433, 2525]) {
        const ended = await bare(command('db.example.test', port, '\\x01hello'), { config: 'raw.toml', proxyUrl: raw.proxyUrl });
        expect(ended.stdout).toBe('');
      }
      expect(raw.connects).toEqual([]);
    });
  });

  const noPip = hasPip() ? '' : ' (skipped: no pip)';
  it.skipIf(!hasPip())(`pip installs from an index that asks for a login${noPip}`, async () => {
    const folder = join(story.folder, 'index');
    mkdirSync(folder);
    const login = `Basic ${Buffer.from(`me:${value}`).toString('base64')}`;
    const index = await Upstream.start(pythonIndex(folder, ({ headers }) => headers.authorization === login));
    try {
      story.write('pip/index-ca.pem', index.certificate);
      story.write('pip.toml', PIP);
      const script =
        'python3 -m pip install -q --disable-pip-version-check --no-cache-dir --target target -i "https://me:$TOKEN@pypi.example.test/simple/" demo && PYTHONPATH=target python3 -c "import demo; print(demo.answer)"';
      const ended = await story.kz(['run', '--blind', '--sandbox', 'strict', '-c', 'pip.toml', '--', './bare.sh', 'sh', '-c', script], {
        env: { ...index.environment, TMPDIR: ownTemporary(story), VALUE: value, PATH: '/usr/local/bin:/usr/bin:/bin' },
      });
      expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: '42\n' });
    } finally {
      await index.stop();
    }
  });
});

const PIP = `
[secrets]
TOKEN = { provider = "env", ref = "VALUE", hosts = ["pypi.example.test"] }
[blind]
upstream_ca = "pip/index-ca.pem"
[[blind.connections]]
allow = true
host = "pypi.example.test"
`;

/** In every slot, the value and nothing else; a request may have some of them only. */
function expectArrival(client: Client): void {
  const found = upstream.arrivals.flatMap((arrival) => Object.entries(arrival.found));
  expect(new Set(found.map(([slot]) => slot))).toEqual(new Set(client.slots));
  expect(found.filter(([, text]) => text !== value)).toEqual([]);
  if (client.sendsMessage === true) expect(upstream.arrivals.map(({ message }) => message)).toEqual([messageValue]);
}
