// What an isolated program may read, write and reach beyond the default, and what it may not: as the config says, wherever that and the
// program are.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IsolatedStory } from './isolated.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from './isolation.ts';
import { has } from './kz.ts';
import { answerJson, Upstream } from './upstream.ts';

let story: IsolatedStory;

beforeEach(() => {
  story = new IsolatedStory();
});

afterEach(() => {
  story.end(['secret', 'key', 'credentials', 'notes']);
});

/** A file below the story's folder, outside of the project. */
function file(path: string, text: string): string {
  const full = join(story.folder, path);
  mkdirSync(join(full, '..'), { recursive: true });
  writeFileSync(full, text);
  return full;
}

describe.skipIf(NO_ISOLATION !== undefined)(`[blind.sandbox], isolated${ISOLATION_NOTE}`, () => {
  it('by default hides credentials of the home, and kz’s own store', async () => {
    for (const path of ['home/.ssh/key', 'home/.aws/credentials', 'home/.config/keyzero/key']) file(path, story.canary());
    const { stdout, stderr } = await story.shell(
      'cat ~/.ssh/key ~/.aws/credentials ~/.config/keyzero/key 2>&-; for folder in ~/.ssh ~/.aws; do ls -A $folder; done',
    );
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '' });
  });

  it('`read` shows what is hidden, and that alone; nobody can write to it', async () => {
    file('home/.aws/config', 'region = x\n');
    file('home/.aws/credentials', story.canary());
    story.blind('[blind.sandbox]\nread = ["~/.aws/config"]');
    const { stdout, code } = await story.shell('cat ~/.aws/config; ls ~/.aws; exec 2>&-; cat ~/.aws/credentials; echo x >> ~/.aws/config');
    expect({ stdout, isWell: code === 0 }).toEqual({ stdout: 'region = x\nconfig\n', isWell: false });
    expect(readFileSync(join(story.home, '.aws/config'), 'utf8')).toBe('region = x\n');
  });

  it('`write` opens a folder beside the project, and a file', async () => {
    file('shared/file', 'before\n');
    file('other/file', 'before\n');
    file('other/single', 'before\n');
    story.blind('[blind.sandbox]\nwrite = ["../shared", "../other/single"]');
    const { stderr } = await story.shell(
      'for file in ../shared/file ../shared/new ../other/single; do echo after > $file || exit 9; done; echo after 2>&- > ../other/file; true',
    );
    expect(stderr).toBe('');
    const texts = ['shared/file', 'shared/new', 'other/single', 'other/file'].map((path) => readFileSync(join(story.folder, path), 'utf8'));
    expect(texts).toEqual(['after\n', 'after\n', 'after\n', 'before\n']);
  });

  it('`hide` takes a file and a folder of the project away', async () => {
    story.write('notes', story.canary());
    story.write('private/secret', story.canary());
    story.write('private/deep/open', 'open\n');
    story.blind('[blind.sandbox]\nhide = ["notes", "private"]\nread = ["private/deep"]');
    const { stdout } = await story.shell(
      'exec 2>&-; cat notes private/secret; ls private; cat private/deep/open; echo x > notes; mv private away; rm -r private; true',
    );
    expect(stdout).toBe('deep\nopen\n');
    expect(existsSync(join(story.project, 'private/secret'))).toBe(true);
    expect(readFileSync(join(story.project, 'notes'), 'utf8')).toMatch(/^CANARY/);
  });

  it('what is hidden in a guarded folder opens nothing else of it', async () => {
    story.write('.claude/hooks/secret', story.canary());
    story.write('.claude/hooks/before.sh', 'before\n');
    story.blind('[blind.sandbox]\nhide = [".claude/hooks/secret"]');
    const { stdout } = await story.shell(
      'exec 2>&-; cat .claude/hooks/secret; echo after > .claude/hooks/before.sh; echo after > .claude/hooks/new',
    );
    expect(stdout).toBe('');
    expect(readFileSync(join(story.project, '.claude/hooks/before.sh'), 'utf8')).toBe('before\n');
    expect(existsSync(join(story.project, '.claude/hooks/new'))).toBe(false);
  });

  it('a path of `write` that is not there stops the run, with what to type', async () => {
    story.blind('[blind.sandbox]\nwrite = ["../nowhere"]');
    const { code, stdout, stderr } = await story.shell('echo started');
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toMatch(
      /^kz: error: \[blind\.sandbox\] names \S+nowhere in `write`, which is not there\nkz: hint: run `mkdir -p \S+nowhere`\n$/,
    );
  });

  describe('`allow_loopback`', () => {
    let servers: Server[];
    let ports: number[];

    beforeEach(async () => {
      servers = ['one', 'two'].map((name) =>
        createServer((socket) => {
          socket.on('error', () => undefined).end(`this is ${name}`);
        }),
      );
      await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))));
      ports = servers.map((server) => (server.address() as AddressInfo).port);
    });

    afterEach(async () => {
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    });

    it('opens one port of this machine, and no other', async () => {
      story.blind(`[blind.sandbox]\nallow_loopback = [${String(ports[0])}]`);
      const program = `import net from 'node:net';
        for (const port of [${ports.join(', ')}]) for (const host of ['127.0.0.1', 'localhost'])
          console.log(await new Promise((resolve) => { let text = ''; net.connect(port, host).on('data', (chunk) => (text += chunk))
            .on('end', () => resolve(text)).on('error', (error) => resolve(error.code ?? error.errors?.[0].code)); }));`;
      const { stdout, stderr } = await story.node(program);
      expect({ stdout, stderr }).toEqual({ stdout: 'this is one\nthis is one\nECONNREFUSED\nECONNREFUSED\n', stderr: '' });
    });

    it('is in the audit as what it is', async () => {
      story.blind(`[blind.sandbox]\nallow_loopback = [${String(ports[0])}]`);
      await story.node(
        `import net from 'node:net'; net.connect(${String(ports[0])}, '127.0.0.1').resume().on('end', () => process.exit());`,
      );
      const { stdout, code } = await story.kz(['audit']);
      expect(code).toBe(0);
      expect(stdout).toMatch(new RegExp(`127\\.0\\.0\\.1:${String(ports[0])} .*by allow_loopback; a tunnel\\n`));
    });
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`the network, isolated${ISOLATION_NOTE}`, () => {
  let upstream: Upstream;

  beforeEach(async () => {
    upstream = await Upstream.start((request, response) => {
      answerJson(response, { you: request.headers.authorization });
    });
    upstream.configure(
      story,
      '[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example"] }\n[[blind.connections]]\nallow = true\nhost = "api.example"\n',
    );
  });

  afterEach(() => upstream.stop());

  it.skipIf(!has('curl'))('curl without a proxy variable gets there all the same, with the value', async () => {
    const script = `token="$TOKEN" ca="$CURL_CA_BUNDLE"; env -i curl -q -sS --cacert "$ca" -H "Authorization: Bearer $token" https://api.example/user; echo; echo "$token"`;
    const { stdout, stderr } = await story.shell(script, { env: upstream.environment });
    const [answer = '', token = ''] = stdout.split('\n');
    expect(stderr).toBe('');
    expect(JSON.parse(answer)).toEqual({ you: `Bearer ${token}` });
    expect(upstream.received.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${story.value}`]);
  });

  it('a client that knows no proxy gets there by name, and a denied name does not exist: `kz audit` tells what would allow it', async () => {
    const program = `import tls from 'node:tls'; import { readFileSync } from 'node:fs'; import { lookup } from 'node:dns/promises';
      const ca = readFileSync(process.env.SSL_CERT_FILE);
      const answer = await new Promise((resolve, reject) => { let text = ''; const socket = tls.connect({ host: 'api.example', port: 443, ca, servername: 'api.example' }, () =>
        socket.write('GET /raw HTTP/1.1\\r\\nHost: api.example\\r\\nConnection: close\\r\\nAuthorization: Bearer ' + process.env.TOKEN + '\\r\\n\\r\\n'));
        socket.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text)).on('error', reject); });
      console.log(answer.split('\\r\\n')[0]);
      console.log(await lookup('evil.example').catch((error) => error.code));`;
    const { stdout, stderr } = await story.unaware(program, { env: upstream.environment });
    expect({ stdout, stderr }).toEqual({ stdout: 'HTTP/1.1 200 OK\nENOTFOUND\n', stderr: '' });
    expect(upstream.received.map(({ path, headers }) => [path, headers.authorization])).toEqual([['/raw', `Bearer ${story.value}`]]);
    const audit = await story.kz(['audit']);
    expect(audit.stdout).toContain('GET     api.example/raw');
    expect(audit.stdout).toMatch(/refused .* evil\.example .*no rule allows this host: its name does not exist for the program/);
    expect(audit.stdout).toContain('host = "evil.example"');
  });

  it('there is none but kz’s: what is not led to it is refused or unreachable', async () => {
    const program = `import net from 'node:net'; import dgram from 'node:dgram';
      const tcp = (host, port) => new Promise((resolve) => net.connect({ host, port, family: 0 }).on('connect', () => resolve('connected')).on('error', (error) => resolve(error.code)));
      console.log(await tcp('127.0.0.1', ${String(upstream.port)}), await tcp('192.0.2.1', 2222), await tcp('::1', ${String(upstream.port)}));
      process.exit();`;
    const { stdout } = await story.unaware(program, { env: upstream.environment });
    expect(stdout).toBe('ECONNREFUSED ECONNREFUSED ECONNREFUSED\n');
    expect(upstream.received).toEqual([]);
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`where things are, isolated${ISOLATION_NOTE}`, () => {
  it('a config named by -c elsewhere is found, and the folder where kz was started can be written to', async () => {
    const config = file('elsewhere/config.toml', readFileSync(join(story.project, '.keyzero.toml'), 'utf8'));
    mkdirSync(join(story.folder, 'other'));
    const { stdout, stderr } = await story.strict(['sh', '-c', 'echo x > here && echo "$TOKEN"'], {
      flags: ['-c', config],
      cwd: join(story.folder, 'other'),
    });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^kz_masked_/);
    expect(existsSync(join(story.folder, 'other/here'))).toBe(true);
  });

  it('the home itself is read-only, and kz says so', async () => {
    file('home/.keyzero.toml', readFileSync(join(story.project, '.keyzero.toml'), 'utf8'));
    file('home/.profile', 'before\n');
    const { stdout, stderr } = await story.shell('cat .profile; exec 2>&-; echo after >> .profile; echo x > new; pwd', { cwd: story.home });
    expect(stdout).toBe(`before\n${story.home}\n`);
    expect(stderr).toBe(
      `kz: sandbox: the program cannot write to ${story.home}, which is your home folder; \`write\` in [blind.sandbox] names what it may\n`,
    );
    expect([existsSync(join(story.home, 'new')), readFileSync(join(story.home, '.profile'), 'utf8')]).toEqual([false, 'before\n']);
  });

  it('a folder that is hidden is none to start in', async () => {
    mkdirSync(join(story.home, '.ssh'));
    file('home/.ssh/.keyzero.toml', readFileSync(join(story.project, '.keyzero.toml'), 'utf8'));
    const { code, stdout, stderr } = await story.shell('echo started', { cwd: join(story.home, '.ssh') });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toMatch(/^kz: error: cannot start in ~\/\.ssh: it is hidden from blind programs\nkz: hint: /);
  });
});
