// Where programs, and the system, keep credentials. A place is here when what it holds lets somebody in, now or later: keys, tokens, cookies,
// and histories, into which people type passwords. Settings stay readable; settings-files.ts cleans those that have both.
import { readdirSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { looksLikeSecretName } from '../core/credential-shape.ts';
import { absolutePath } from '../core/home-path.ts';
import { isWsl, lookAt, namesIn, systemPath, words, xdgFolder, type Machine } from './machine.ts';

/** Below a home, `%` for a space. Folders where all or most is credentials, so that a file which a login makes later is hidden as well. */
const HOME_FOLDERS = words(`
  .ssh .gnupg .pki .putty .secrets .config/age .config/sops .config/yubico .minisign
  .password-store .local/share/gopass .config/gopass .local/share/keyrings .local/share/kwalletd .1password .config/1Password .config/op .op
  .config/Bitwarden .config/rbw .cache/rbw .local/share/rbw .lpass .local/share/lpass .config/lpass .config/keepassxc .cache/keepassxc
  .doppler .infisical .config/infisical .phase .akeyless .config/bws
  .aws .azure .config/gcloud .config/doctl .config/hcloud .config/linode-cli .config/scw .config/exoscale .oci .bluemix .aliyun .tccli
  .fly .config/flyctl .config/heroku .config/netlify .netlify .config/com.vercel.cli .local/share/com.vercel.cli .wrangler
  .config/.wrangler .cloudflared .railway .supabase .config/stripe .config/firebase .config/ngrok .ngrok2
  .snowflake .config/snowflake .config/rclone .mc .kaggle .config/planetscale .config/turso .config/neonctl
  .kube .minikube .talos .config/argocd .config/k9s .config/helm/registry .colima .lima .docker/run .docker/desktop .docker/contexts
  .orbstack/run .orbstack/ssh .local/share/containers/podman/machine
  .config/gh .config/hub .config/glab-cli .config/tea .config/github-copilot .config/git-credential-manager .gcm .git-credential-cache
  .local/share/uv/credentials .local/share/DBeaverData .influxdbv2
  .claude/projects .codeium .config/Claude/Local%Storage .config/Claude/Session%Storage
  .mozilla .config/google-chrome .config/chromium .config/BraveSoftware .config/microsoft-edge .config/vivaldi .config/opera .thunderbird
  snap/firefox snap/chromium .var/app/org.mozilla.firefox .var/app/com.google.Chrome .var/app/org.chromium.Chromium .var/app/com.brave.Browser
  .config/Slack .config/discord .config/Signal .local/share/TelegramDesktop .config/Postman .config/Insomnia
  .zsh_sessions .bash_sessions .local/share/atuin .local/share/powershell/PSReadLine .mongodb .local/share/nvim/shada .local/state/nvim/shada
`);

const HOME_FILES = words(`
  .vault-token .netrc ._netrc .authinfo .authinfo.gpg .git-credentials .config/git/credentials
  .docker/config.json .docker/.token_seed .config/containers/auth.json .rd/docker.sock .cargo/credentials.toml .cargo/credentials
  .pypirc .config/pypoetry/auth.toml .gem/credentials .local/share/gem/credentials .composer/auth.json .config/composer/auth.json
  .ivy2/.credentials .sbt/.credentials .hex/hex.config .terraform.d/credentials.tfrc.json .terraformrc .pulumi/credentials.json
  .s3cfg .boto .passwd-s3fs .databrickscfg .snowsql/config .modal.toml .cache/huggingface/token .cache/huggingface/stored_tokens
  .huggingface/token .ovh.conf .config/openstack/clouds.yaml .config/openstack/secure.yaml .config/configstore/firebase-tools.json
  .pgpass .pg_service.conf .my.cnf .mylogin.cnf .odbc.ini .clickhouse-client/config.xml .config/usql/config.yaml
  .claude/.credentials.json .claude/history.jsonl .claude.json .codex/auth.json .codex/history.jsonl .gemini/oauth_creds.json .gemini/.env
  .local/share/opencode/auth.json .config/goose/secrets.yaml .cursor/mcp.json .config/Code/User/globalStorage/state.vscdb
  .config/Claude/claude_desktop_config.json .config/Claude/Cookies .config/Code/User/mcp.json .config/Cursor/User/globalStorage/state.vscdb
  .Xauthority .ICEauthority .msmtprc .fetchmailrc .mailrc .irssi/config .env
  .lesshst .viminfo .histfile .zhistory .Rhistory .dbshell .local/share/fish/fish_history .config/fish/fish_history
  .config/nushell/history.txt .config/nushell/history.sqlite3 .ipython/profile_default/history.sqlite .julia/logs/repl_history.jl
  .config/pgcli/history .config/mycli/history .config/litecli/history
`);

const MAC_FOLDERS = words(`
  Keychains Cookies Safari Messages Mail Application%Support/Google/Chrome Application%Support/Chromium Application%Support/Firefox
  Application%Support/BraveSoftware Application%Support/Microsoft%Edge Application%Support/Arc Application%Support/Slack
  Application%Support/discord Application%Support/Signal Application%Support/Claude/claude_desktop_config.json Application%Support/Claude/Cookies Application%Support/Bitwarden Application%Support/1Password
  Group%Containers/2BUA8C4S2C.com.1password Application%Support/com.apple.TCC Application%Support/gh Application%Support/gopass
`).map((path) => `Library/${path}`);

/** `.bash_history`, `.psql_history`, and whatever else is called like that. */
const HISTORY = /^\..+_hist(?:ory|file)?$/i;

/** Below the root. Readable to root, or to a group that the program's user may be in. */
const SYSTEM_PLACES = words(`
  /etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow- /etc/ssl/private /etc/pki/tls/private /etc/letsencrypt /etc/kubernetes /etc/rancher
  /etc/wireguard /etc/openvpn /etc/ipsec.secrets /etc/ppp/chap-secrets /etc/ppp/pap-secrets /etc/NetworkManager/system-connections
  /etc/netplan /etc/krb5.keytab /etc/mysql/debian.cnf /etc/docker/key.json /etc/vault.d /etc/credstore /etc/credstore.encrypted
  /var/backups /var/lib/docker /var/lib/containerd /var/lib/kubelet /var/lib/rancher /var/lib/etcd /var/lib/sss /var/lib/private
  /var/lib/systemd/credential.secret /var/lib/NetworkManager /var/lib/bluetooth /var/lib/jenkins/secrets /var/spool/cron /var/mail
  /var/run/secrets /var/run/docker.sock /mnt/wslg
`);

/** Variables that name one file or folder of credentials. */
const NAMED_BY = words(`
  AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE AWS_WEB_IDENTITY_TOKEN_FILE AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
  GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG CLOUDSDK_AUTH_ACCESS_TOKEN_FILE AZURE_CONFIG_DIR AZURE_FEDERATED_TOKEN_FILE
  AZURE_CLIENT_CERTIFICATE_PATH KEYZERO_AGE_IDENTITY SOPS_AGE_KEY_FILE GNUPGHOME PASSWORD_STORE_DIR NETRC PGPASSFILE PGSERVICEFILE
  REGISTRY_AUTH_FILE RCLONE_CONFIG TF_CLI_CONFIG_FILE GH_CONFIG_DIR GLAB_CONFIG_DIR OP_CONFIG_DIR BOTO_CONFIG HF_TOKEN_PATH
  DATABRICKS_CONFIG_FILE SNOWFLAKE_HOME MYSQL_TEST_LOGIN_FILE KRB5_KTNAME KRB5_CLIENT_KTNAME KRB5CCNAME XAUTHORITY ICEAUTHORITY
  CREDENTIALS_DIRECTORY DOPPLER_CONFIG_DIR MINIKUBE_HOME TALOSCONFIG OS_CLIENT_CONFIG_FILE
  HISTFILE LESSHISTFILE NODE_REPL_HISTORY PSQL_HISTORY MYSQL_HISTFILE SQLITE_HISTORY PYTHON_HISTORY REDISCLI_HISTFILE
`);

/** Variables that name the folder of a program, of which these are the credentials. */
const WITHIN: Readonly<Record<string, readonly string[]>> = {
  DOCKER_CONFIG: ['config.json', '.token_seed', 'run', 'desktop', 'contexts'],
  CARGO_HOME: ['credentials.toml', 'credentials'],
  HF_HOME: ['token', 'stored_tokens'],
  COMPOSER_HOME: ['auth.json'],
  PULUMI_HOME: ['credentials.json'],
  CLAUDE_CONFIG_DIR: ['.credentials.json', '.claude.json', 'history.jsonl', 'projects'],
  CODEX_HOME: ['auth.json', 'history.jsonl'],
  POETRY_CONFIG_DIR: ['auth.toml'],
  ZDOTDIR: ['.zsh_history', '.zhistory', '.histfile', '.zsh_sessions'],
};

/** As they are called, not looked at: most are not there, and several may be the same. */
export function credentialPlaces(machine: Machine): readonly string[] {
  return [...homePlaces(machine), ...namedPlaces(machine), ...systemPlaces(machine)];
}

function homePlaces(machine: Machine): string[] {
  const mac = machine.platform === 'darwin' ? MAC_FOLDERS : [];
  const usual = [...HOME_FOLDERS, ...HOME_FILES, ...mac].map((path) => path.replaceAll('%', ' '));
  const moved = Object.entries(XDG_PARTS).flatMap(([prefix, name]) => {
    if (machine.env[`XDG_${name}_HOME`]?.startsWith('/') !== true) return [];
    const paths = usual.filter((path) => path.startsWith(prefix)).map((path) => path.slice(prefix.length));
    return presentIn(xdgFolder(machine, name), paths);
  });
  return [...machine.homes.flatMap((home) => [...presentIn(home, usual), ...presentIn(home, histories(home))]), ...moved];
}

/** Most are not there, and reading the list of a folder once is faster than hundreds of looks. */
function presentIn(folder: string, paths: readonly string[]): string[] {
  const lists = new Map<string, ReadonlySet<string> | undefined>();
  const isListed = (parent: string, name: string): boolean => {
    if (!lists.has(parent)) lists.set(parent, listOf(parent));
    return lists.get(parent)?.has(name) !== false;
  };
  const isPresent = (path: string): boolean => {
    let parent = folder;
    for (const name of path.split('/')) {
      if (!isListed(parent, name)) return false;
      parent = `${parent}/${name}`;
    }
    return true;
  };
  return paths.filter(isPresent).map((path) => `${folder}/${path}`);
}

/** Undefined for one that cannot be listed, in which things may be all the same. */
function listOf(folder: string): ReadonlySet<string> | undefined {
  try {
    return new Set(readdirSync(folder));
  } catch {
    return undefined;
  }
}

const XDG_PARTS = { '.config/': 'CONFIG', '.local/share/': 'DATA', '.cache/': 'CACHE', '.local/state/': 'STATE' } as const;

function histories(home: string): string[] {
  return namesIn(home).filter((name) => HISTORY.test(name));
}

function namedPlaces(machine: Machine): string[] {
  const { env, home } = machine;
  const single = NAMED_BY.map((name) => env[name]?.replace(/^(?:FILE|DIR|WRFILE):/, ''));
  const within = Object.entries(WITHIN).flatMap(([name, inner]) => {
    const folder = env[name] ?? '';
    return folder === '' ? [] : inner.map((each) => join(folder, each));
  });
  const all = [...single, ...(env.KUBECONFIG ?? '').split(delimiter), ...within, ...filesOfSecrets(machine)];
  return all.flatMap((path) => (path === undefined || path === '' ? [] : [absolutePath(path, home, env)]));
}

/** `POSTGRES_PASSWORD_FILE`, `DEPLOY_KEY`: the name says what the file is. */
function filesOfSecrets({ env }: Machine): string[] {
  return Object.entries(env).flatMap(([name, value]) => {
    // What is no file is known faster than what its name means; and these two always are one.
    if (name === 'SHELL' || name === '_' || value === undefined || !isAbsolute(value) || lookAt(value)?.kind !== 'file') return [];
    return looksLikeSecretName(name.replace(/_(?:FILE|PATH)$/i, '')) ? [value] : [];
  });
}

function systemPlaces(machine: Machine): string[] {
  const places = SYSTEM_PLACES.map((path) => systemPath(machine, path));
  const keys = namesIn(systemPath(machine, '/etc/ssh')).filter((name) => /^ssh_host_.*_key$/.test(name));
  return [...places, ...keys.map((name) => systemPath(machine, `/etc/ssh/${name}`)), ...windowsPlaces(machine)];
}

/** WSL: the homes of Windows hold the same credentials once more, and in AppData those of its own programs. */
function windowsPlaces(machine: Machine): string[] {
  if (!isWsl(machine)) return [];
  const drives = namesIn(systemPath(machine, '/mnt')).filter((name) => /^[a-z]$/.test(name));
  const users = drives.map((drive) => systemPath(machine, `/mnt/${drive}/Users`));
  const homes = users.flatMap((folder) => namesIn(folder).map((name) => join(folder, name)));
  return homes.flatMap((home) => presentIn(home, ['AppData', ...HOME_FOLDERS, ...HOME_FILES, ...histories(home)]));
}
