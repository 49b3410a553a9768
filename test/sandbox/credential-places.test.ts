// Which places count as credentials: the list itself, variables that name others, and the system's.
import { describe, expect, it } from 'vitest';
import { canary, FakeMachine, hiddenPaths } from './fake-machine.ts';

describe('a home', () => {
  it.each(
    `.aws/credentials .config/gcloud/x .vault-token .ssh/id_ed25519 .gnupg/x .docker/config.json .azure/x .kube/config .config/gh/hosts.yml
     .config/op/config .config/sops/age/keys.txt .password-store/x.gpg .local/share/keyrings/login.keyring .netrc .pypirc .git-credentials
     .config/git/credentials .pgpass .my.cnf .1password/agent.sock .mozilla/firefox/x .config/google-chrome/x .cargo/credentials.toml
     .config/containers/auth.json .terraform.d/credentials.tfrc.json .config/rclone/rclone.conf .config/hub .s3cfg .boto
     .claude/.credentials.json .claude.json .codex/auth.json .bash_history .zsh_history .python_history .node_repl_history .psql_history
     .mysql_history .sqlite_history .some_tool_history .histfile .lesshst .viminfo .zsh_sessions/x .local/share/fish/fish_history
     .local/share/atuin/x .Xauthority .env .config/Claude/Local%Storage/x .local/share/uv/credentials/x`
      .trim()
      .split(/\s+/)
      .map((path) => path.replace('%', ' ')),
  )('hides %s', (path) => {
    const machine = new FakeMachine();
    const file = machine.file(`home/me/${path}`, canary());
    const hidden = hiddenPaths(machine.survey());
    expect(hidden.some((each) => file === each || file.startsWith(`${each}/`))).toBe(true);
    expect(hidden).not.toContain(machine.home);
  });

  it.each(
    `.bashrc .gitconfig .config/git/ignore .docker/daemon.json .docker/cli-plugins/x .claude/plugins/x/server.js .claude/settings.json
     .codex/config.toml .cargo/config.toml .cargo/bin/x .config/nvim/init.lua .local/bin/x .local/share/fnm/x .nvm/x .histories/x
     .cache/huggingface/hub/x .terraform.d/plugins/x .config/Claude/Claude%Extensions/x .historyx .npmrc`
      .trim()
      .split(/\s+/)
      .map((path) => path.replace('%', ' ')),
  )('leaves %s, which is no credential', (path) => {
    const machine = new FakeMachine();
    machine.file(`home/me/${path}`, 'x');
    expect(hiddenPaths(machine.survey())).toEqual([]);
  });

  it('is HOME, and the account’s where that is another', () => {
    const machine = new FakeMachine();
    const paths = [machine.folder('home/me/.ssh'), machine.folder('root/.ssh')];
    expect(new Set(hiddenPaths(machine.survey({ accountHome: machine.path('root') })))).toEqual(new Set(paths));
  });

  it('that cannot be listed is looked at all the same; nor do files in place of folders hurt', () => {
    const machine = new FakeMachine();
    machine.file('home/me/.config', 'a file');
    machine.file('home/me/.aws', 'a file');
    expect(machine.survey().confinement.hidden).toEqual([{ path: machine.path('home/me/.aws'), kind: 'file' }]);
  });

  it('follows XDG’s variables', () => {
    const machine = new FakeMachine();
    const paths = [machine.folder('c/gcloud'), machine.folder('d/keyrings')];
    const env = { XDG_CONFIG_HOME: machine.path('c'), XDG_DATA_HOME: machine.path('d'), XDG_CACHE_HOME: 'relative' };
    expect(new Set(hiddenPaths(machine.survey({ env })))).toEqual(new Set(paths));
  });

  it('of macOS has more', () => {
    const machine = new FakeMachine();
    const path = machine.folder('home/me/Library/Application Support/Google/Chrome');
    expect(hiddenPaths(machine.survey({ platform: 'darwin' }))).toEqual([path]);
    expect(hiddenPaths(machine.survey())).toEqual([]);
  });
});

describe('variables', () => {
  it.each([
    'AWS_SHARED_CREDENTIALS_FILE',
    'AWS_CONFIG_FILE',
    'GOOGLE_APPLICATION_CREDENTIALS',
    'KUBECONFIG',
    'NETRC',
    'KEYZERO_AGE_IDENTITY',
    'SOPS_AGE_KEY_FILE',
    'PGPASSFILE',
    'HISTFILE',
    'XAUTHORITY',
    'POSTGRES_PASSWORD_FILE',
    'DEPLOY_TOKEN_PATH',
    'API_KEY',
  ])('%s names a file', (name) => {
    const machine = new FakeMachine();
    const file = machine.file('srv/x');
    expect(hiddenPaths(machine.survey({ env: { [name]: file } }))).toEqual([file]);
  });

  it('name folders, several files, files in folders, and kinds', () => {
    const machine = new FakeMachine();
    const files = ['k1', 'k2', 'docker/config.json', 'cargo/credentials.toml', 'krb'].map((name) => machine.file(`srv/${name}`));
    machine.file('srv/docker/other');
    const folder = machine.folder('srv/gnupg');
    const env = {
      KUBECONFIG: `${files[0] ?? ''}:${files[1] ?? ''}:`,
      DOCKER_CONFIG: machine.path('srv/docker'),
      CARGO_HOME: machine.path('srv/cargo'),
      KRB5CCNAME: `FILE:${files[4] ?? ''}`,
      GNUPGHOME: folder,
    };
    expect(new Set(hiddenPaths(machine.survey({ env })))).toEqual(new Set([...files, folder]));
  });

  it('of other things hide nothing; nor does one that names a home, or nothing', () => {
    const machine = new FakeMachine();
    const file = machine.file('srv/x');
    const env = {
      EDITOR: file,
      LOG_FILE: file,
      NETRC: '',
      GNUPGHOME: machine.home,
      KUBECONFIG: '::',
      PASSWORD_STORE_DIR: '/',
      HISTFILE: '/dev/null',
    };
    expect(hiddenPaths(machine.survey({ env }))).toEqual([]);
  });

  it('XDG_RUNTIME_DIR outside of /run is hidden whole', () => {
    const machine = new FakeMachine();
    const folder = machine.folder('srv/runtime-me');
    expect(machine.survey({ env: { XDG_RUNTIME_DIR: folder } }).confinement.hidden).toEqual([{ path: folder, kind: 'folder' }]);
  });
});

describe('the system', () => {
  it('has shadow files, host keys, folders of secrets', () => {
    const machine = new FakeMachine();
    const paths = [
      'etc/shadow',
      'etc/gshadow',
      'etc/ssh/ssh_host_ed25519_key',
      'var/run/secrets/token',
      'mnt/wslg/PulseServer',
      'etc/ssl/private/x',
    ];
    for (const path of [...paths, 'etc/ssh/ssh_host_ed25519_key.pub', 'etc/ssh/ssh_config', 'etc/passwd', 'etc/ssl/certs/x'])
      machine.file(path);
    const expected = ['etc/shadow', 'etc/gshadow', 'etc/ssh/ssh_host_ed25519_key', 'mnt/wslg', 'etc/ssl/private'];
    expect(new Set(hiddenPaths(machine.survey()))).toEqual(new Set(expected.map((path) => machine.path(path))));
  });

  it('of WSL has the homes of Windows, in which the program may start and a project be', () => {
    const machine = new FakeMachine();
    const project = machine.folder('mnt/c/Users/me/app');
    const expected = ['.ssh', '.aws', 'AppData'].map((path) => machine.folder(`mnt/c/Users/me/${path}`));
    machine.folder('mnt/data/Users/me/.ssh');
    const env = { WSL_DISTRO_NAME: 'Debian' };
    expect(new Set(hiddenPaths(machine.survey({ env })))).toEqual(new Set(expected));
    expect(hiddenPaths(machine.survey())).toEqual([]);
    expect(machine.survey({ env, directory: project }).confinement.writable).toContain(project);
    for (const path of ['mnt/c/Users/me', 'mnt/c/Users', 'mnt/c'])
      expect(machine.survey({ env, directory: machine.path(path) }).confinement.writable).not.toContain(machine.path(path));
  });
});
