// What a machine and a config make of a confinement. Each test has a machine of its own, in a folder.
import { lstatSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Surveyed } from '../../src/sandbox/surroundings.ts';
import { ASKED, canary, FakeMachine, hiddenPaths, secret } from './fake-machine.ts';

function allPaths({ confinement: c }: Surveyed): string[] {
  const named = [...c.hidden, ...c.replaced].map(({ path }) => path);
  return [...c.temporary, ...c.emptied, ...c.writable, ...c.guarded, ...c.readable, ...named];
}

describe('every list', () => {
  it('holds only real paths that are there, each once, and changes nothing', () => {
    const machine = new FakeMachine();
    for (const path of [
      '.ssh/id',
      '.aws/credentials',
      '.npmrc',
      '.bash_history',
      '.npm/x',
      '.cache/uv/x',
      'jobs/app/.env',
      'jobs/app/.git/config',
    ])
      machine.file(`home/me/${path}`);
    machine.link('home/me/jobs/app/.env.local', machine.path('home/me/.ssh/id'));
    machine.link('var/run', '../run');
    const config = machine.config();
    const before = snapshot(machine.root);
    const surveyed = machine.survey({ env: { AWS_CONFIG_FILE: '~/.aws/credentials' }, names: true, config });
    const paths = allPaths(surveyed).filter((path) => !surveyed.missing.includes(path));
    expect(paths.map((path) => realpathSync(path))).toEqual(paths);
    expect(new Set(paths).size).toBe(paths.length);
    expect(snapshot(machine.root)).toEqual(before);
  });

  it('copes with a home that is not set, is missing, is / or is a file', () => {
    const machine = new FakeMachine();
    machine.file('home/me/.ssh/id');
    for (const HOME of [undefined, '', '/', machine.path('nowhere'), machine.file('home/file'), 'relative']) {
      const { confinement } = machine.survey({ env: { HOME } });
      expect(confinement.writable).toContain(machine.project);
      expect(confinement.writable).not.toContain('/');
      // The account's own home counts whatever HOME says.
      expect(confinement.hidden).toContainEqual({ path: machine.path('home/me/.ssh'), kind: 'folder' });
    }
  });

  it('keeps spaces, quotes and line breaks of names', () => {
    const machine = new FakeMachine();
    const folder = machine.folder('home/me/jobs/a b\n"c" \'d\' é');
    machine.file(`home/me/jobs/${basename(folder)}/.env`);
    const surveyed = machine.survey({ directory: folder, config: machine.config({}, `home/me/jobs/${basename(folder)}/.keyzero.toml`) });
    expect(surveyed.confinement.directory).toBe(folder);
    expect(surveyed.confinement.writable).toContain(folder);
    expect(hiddenPaths(surveyed)).toContain(join(folder, '.env'));
  });
});

describe('temporary and emptied', () => {
  it('are /tmp, /var/tmp, /run and /var/run where it is no link', () => {
    const machine = new FakeMachine();
    machine.link('var/run', '../run');
    const { confinement } = machine.survey();
    expect(confinement.temporary).toEqual([machine.path('tmp'), machine.path('var/tmp')]);
    expect(confinement.emptied).toEqual([machine.path('run')]);
    const other = new FakeMachine();
    other.folder('var/run');
    expect(other.survey().confinement.emptied).toEqual([other.path('run'), other.path('var/run')]);
  });

  it('TMPDIR is one wherever it is, but no home, no folder of the system, and nothing of the project', () => {
    const machine = new FakeMachine();
    for (const path of ['scratch', 'tmp/nix-shell', 'home/me/tmp'])
      expect(machine.survey({ env: { TMPDIR: machine.folder(path) } }).confinement.temporary).toContain(machine.path(path));
    for (const path of ['home/me', 'home', 'etc', 'home/me/jobs/app/tmp']) {
      const { confinement } = machine.survey({ env: { TMPDIR: machine.folder(path) } });
      expect(confinement.temporary).toEqual([machine.path('tmp'), machine.path('var/tmp')]);
    }
    expect(machine.survey({ env: { TMPDIR: machine.home } }).notes.join()).toContain('TMPDIR, which is your home folder');
  });

  it('a project in /tmp is writable', () => {
    const machine = new FakeMachine();
    const project = machine.folder('tmp/app');
    const { confinement } = machine.survey({ directory: project, config: machine.config({}, 'tmp/app/.keyzero.toml') });
    expect(confinement.writable).toContain(project);
  });

  it('a home in /tmp stays, with its credentials hidden', () => {
    const machine = new FakeMachine();
    const home = machine.folder('tmp/home');
    const keys = machine.folder('tmp/home/.ssh');
    const env = { HOME: home };
    expect(machine.survey({ env, accountHome: home }).confinement).toMatchObject({
      readable: expect.arrayContaining([home]) as unknown,
      hidden: [{ path: keys, kind: 'folder' }],
    });
    expect(machine.survey({ env, accountHome: home, settings: { ...ASKED, hide: [home] } }).confinement.readable).toEqual([]);
  });

  it('hold an eighth of the memory, within limits', () => {
    const machine = new FakeMachine();
    const size = (gib: number): number => machine.survey({ memoryBytes: gib * 1024 ** 3 }).confinement.temporaryBytes / 1024 ** 2;
    expect([size(0.5), size(8), size(512)]).toEqual([256, 1024, 4096]);
    expect(machine.survey({ memoryBytes: undefined }).confinement.temporaryBytes).toBeGreaterThan(0);
  });
});

describe('programs below what is emptied', () => {
  it('stay: of NixOS, of version managers’ links, and shims', () => {
    const machine = new FakeMachine();
    machine.folder('nix/store/x-system/sw/bin');
    machine.link('run/current-system', machine.path('nix/store/x-system'));
    machine.folder('home/me/.local/share/fnm/v22/bin');
    machine.link('run/user/1000/fnm_multishells/7_1', machine.path('home/me/.local/share/fnm/v22'));
    machine.folder('tmp/xfs-1');
    const PATH = [machine.path('run/user/1000/fnm_multishells/7_1/bin'), machine.path('tmp/xfs-1'), machine.path('usr/bin'), 'tmp'].join(
      ':',
    );
    const { readable } = machine.survey({ env: { PATH } }).confinement;
    expect(new Set(readable)).toEqual(
      new Set([machine.path('run/current-system'), machine.path('run/user/1000/fnm_multishells/7_1'), machine.path('tmp/xfs-1')]),
    );
  });

  it('do not, where a link would show a home, or something hidden, under another name', () => {
    const machine = new FakeMachine();
    machine.file('home/me/.ssh/id');
    machine.folder('home/me/.aws/bin');
    machine.folder('home/me/bin');
    machine.link('run/a', machine.home);
    machine.link('run/b', machine.path('home/me/.ssh'));
    machine.link('run/c', machine.path('home/me/.aws'));
    machine.link('run/d', machine.root);
    machine.folder('home/me/.config/gcloud');
    machine.folder('home/me/.config/bin');
    machine.link('run/e', machine.path('home/me/.config'));
    machine.file('home/me/jobs/app/.npmrc', `//a/:_authToken=${canary()}\n`);
    machine.link('run/f', machine.project);
    const PATH = ['run/a/bin', 'run/b', 'run/c/bin', 'run/d/usr/bin', 'run', 'tmp', 'run/e/bin', 'run/f']
      .map((path) => machine.path(path))
      .join(':');
    const { readable } = machine.survey({ env: { PATH } }).confinement;
    // Below the link that is too much, the folder itself will do.
    expect(readable).toEqual([machine.path('run/a/bin'), machine.path('run/e/bin')]);
  });
});

describe('hidden', () => {
  it('a link from the project to ~/.ssh shows nothing', () => {
    const machine = new FakeMachine();
    machine.file('home/me/keys/id');
    machine.link('home/me/.ssh', machine.path('home/me/keys'));
    machine.link('home/me/jobs/app/keys', '../../.ssh');
    expect(machine.survey().confinement.hidden).toEqual([{ path: machine.path('home/me/keys'), kind: 'folder' }]);
  });

  it('what secrets of the config come from, unless it is exposed', () => {
    const machine = new FakeMachine();
    const file = join(machine.project, '.keyzero.toml');
    const at = (path: string): string => machine.file(`home/me/jobs/app/${path}`);
    const hidden = [at('a.txt'), at('b.json'), at('s.env.age'), machine.file('home/me/c.txt'), at('odd#name')];
    const shown = [at('e.txt'), at('free')];
    const secrets = [
      secret('a.txt', file),
      secret('./b.json#db.password', file),
      secret('s.env.age#A', file, { provider: 'age' }),
      secret('~/c.txt', file),
      secret('odd#name#k', file),
      secret('e.txt', file, { expose: true }),
      secret('free', file, { provider: 'env' }),
      secret('gone.txt', file),
    ];
    const config = machine.config({ secrets: new Map(secrets.map((each, index) => [String(index), each])) });
    const surveyed = machine.survey({ config });
    expect(new Set(hiddenPaths(surveyed))).toEqual(new Set(hidden));
    expect(hiddenPaths(surveyed)).not.toContain(shown[0]);
    const documents = [{ provider: 'file' as const, ref: 'e.txt', origin: secret('', file).origin }];
    expect(hiddenPaths(machine.survey({ config: machine.config({ secrets: config.secrets, documents }) }))).toContain(shown[0]);
  });

  it('the whole of a Kubernetes mount, whose versions change', () => {
    const machine = new FakeMachine();
    machine.file('mounted/..v1/db');
    machine.link('mounted/..data', '..v1');
    machine.link('mounted/db', '..data/db');
    const file = join(machine.project, '.keyzero.toml');
    const config = machine.config({ secrets: new Map([['A', secret(machine.path('mounted/db'), file)]]) });
    expect(machine.survey({ config }).confinement.hidden).toEqual([{ path: machine.path('mounted'), kind: 'folder' }]);
  });

  it('store, identities and what providers log in with', () => {
    const machine = new FakeMachine();
    const files = ['store.age', 'store.key', 'store.key.age', 'id.txt', 'token', 'secret-id', 'jwt', 'kz-jwt'].map((name) =>
      machine.file(`home/me/x/${name}`),
    );
    const ca = machine.file('home/me/x/ca.pem');
    const [path, , , identity, token_file, secret_id_file, jwt_file, ofKeyzero] = files;
    const providers = {
      store: { path },
      age: { identity },
      vault: { token_file, secret_id_file, jwt_file, ca },
      keyzero: { jwt_file: ofKeyzero, ca },
    };
    expect(new Set(hiddenPaths(machine.survey({ config: machine.config({ providers }) })))).toEqual(new Set(files));
  });

  it('kz’s own folders, wherever they are', () => {
    const machine = new FakeMachine();
    const folders = ['.config', '.local/share', '.local/state', 'cfg', 'state'].map((path) => machine.folder(`home/me/${path}/keyzero`));
    const env = { XDG_CONFIG_HOME: machine.path('home/me/cfg'), XDG_STATE_HOME: machine.path('home/me/state') };
    expect(new Set(hiddenPaths(machine.survey({ env })))).toEqual(new Set(folders));
  });

  it('nothing twice: what is in a hidden or empty folder has no mask of its own', () => {
    const machine = new FakeMachine();
    machine.file('home/me/.aws/credentials');
    machine.file('tmp/x');
    const env = { AWS_SHARED_CREDENTIALS_FILE: '~/.aws/credentials', NETRC: machine.path('tmp/x') };
    expect(hiddenPaths(machine.survey({ env }))).toEqual([machine.path('home/me/.aws')]);
  });
});

describe('files about names', () => {
  it('are replaced where they really are, when kz answers for names', () => {
    const machine = new FakeMachine();
    machine.file('run/systemd/stub.conf', 'nameserver 127.0.0.53\noptions edns0 ndots:5 use-vc\nsearch ns.svc.cluster.local\n');
    machine.link('etc/resolv.conf', '../run/systemd/stub.conf');
    machine.file('etc/hosts', '127.0.0.1 localhost\n10.0.0.5 db.internal\n');
    machine.file('etc/nsswitch.conf', 'passwd: files systemd\nhosts: mymachines resolve [!UNAVAIL=return] dns\nnetworks: files');
    const { replaced } = machine.survey({ names: true, host: 'box' }).confinement;
    expect(new Map(replaced.map(({ path, contents }) => [path, contents]))).toEqual(
      new Map([
        [machine.path('run/systemd/stub.conf'), 'nameserver 127.0.0.1\nsearch ns.svc.cluster.local\noptions ndots:5\n'],
        [machine.path('etc/hosts'), '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 box\n'],
        [machine.path('etc/nsswitch.conf'), 'passwd: files systemd\nnetworks: files\nhosts: files dns\n'],
      ]),
    );
    expect(machine.survey({ names: false }).confinement.replaced).toEqual([]);
  });

  it('are left where there are none, or a link leads nowhere', () => {
    const machine = new FakeMachine();
    machine.link('etc/resolv.conf', '/nowhere/at/all');
    expect(machine.survey({ names: true }).confinement.replaced).toEqual([]);
  });
});

describe('settings with logins', () => {
  it('are replaced by ones without, unless `read` names them', () => {
    const machine = new FakeMachine();
    const value = canary();
    const npmrc = machine.file('home/me/.npmrc', `registry=https://npm.acme.dev/\n//npm.acme.dev/:_authToken=${value}\n`);
    expect(machine.survey().confinement.replaced).toEqual([{ path: npmrc, contents: 'registry=https://npm.acme.dev/\n' }]);
    expect(machine.survey({ settings: { ...ASKED, read: [npmrc] } }).confinement.replaced).toEqual([]);
    expect(machine.survey({ settings: { ...ASKED, hide: [npmrc] } }).confinement).toMatchObject({
      replaced: [],
      hidden: [{ path: npmrc }],
    });
    expect(readFileSync(npmrc, 'utf8')).toContain(value);
  });
});

function snapshot(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).map((name) => `${name} ${String(lstatSync(join(root, name)).mtimeMs)}`);
}

describe('what the command names below a temporary folder', () => {
  it('can be read with what is beside it, but never all of that folder, nor what is hidden', () => {
    const machine = new FakeMachine();
    const script = machine.file('tmp/clone/server.js', '');
    const alone = machine.file('tmp/alone.js', '');
    const data = machine.folder('tmp/data');
    const secret = machine.file('tmp/vault/token', 'CANARY');
    const env = { VAULT_TOKEN_FILE: secret };
    const command = ['node', script, alone, data, secret, '/nowhere/x', '--flag', machine.file('home/me/jobs/app/own.js', '')];
    const { readable } = machine.survey({ command, env, settings: { ...ASKED, hide: [secret] } }).confinement;
    expect(readable.toSorted()).toEqual([machine.path('tmp/alone.js'), machine.path('tmp/clone'), data].toSorted());
  });

  it('is found from where the program starts', () => {
    const machine = new FakeMachine();
    machine.file('tmp/clone/bin/run.sh', '');
    const { readable } = machine.survey({ command: ['../clone/bin/run.sh'], directory: machine.folder('tmp/other') }).confinement;
    expect(readable).toEqual([machine.path('tmp/clone/bin')]);
  });
});
