// The project: which folders it is, what in it a person's tools run without being asked, and which of its files hold values.
import { dirname, join } from 'node:path';
import type { Config } from '../config/load.ts';
import { isInside, lookAt, namesIn, words } from './machine.ts';

/** Real: the folders of the project's config files, and where the program starts. */
export function projectFolders(config: Pick<Config, 'files'>, directory: string): readonly string[] {
  const folders = config.files.filter(({ layer }) => layer !== 'user').map(({ path }) => dirname(path));
  return [...new Set([...folders, directory].flatMap((folder) => lookAt(folder)?.path ?? []))];
}

/** Run, or obeyed, by entering or opening the folder, by committing, or by starting an agent in it. git's own: git-folders.ts. */
export const GUARDED = words(`
  .keyzero.toml .keyzero.local.toml .envrc .mise.toml mise.toml .mise.local.toml mise.local.toml .mise .gitmodules
  .husky .githooks lefthook.yml lefthook.yaml .lefthook.yml .lefthook.yaml lefthook-local.yml .pre-commit-config.yaml
  .vscode .idea .zed .fleet .devcontainer .devcontainer.json
  .mcp.json .claude .cursor .codex .gemini .windsurf .aider.conf.yml .continue
`);

/** The same in a home, for who made it writable. */
export const GUARDED_AT_HOME = words(`
  .bashrc .bash_profile .bash_login .bash_logout .bash_aliases .profile .zshrc .zshenv .zprofile .zlogin .zlogout .inputrc .tmux.conf
  .pam_environment .xprofile .xinitrc .xsession .xsessionrc .config/fish .config/nushell .config/autostart .config/systemd
  .local/share/systemd .local/share/applications .config/environment.d .local/bin bin .cargo/bin .cargo/config.toml go/bin
  .gitconfig .config/git .npmrc .vimrc .vim .config/nvim .emacs .emacs.d .config/Code/User .vscode-server .config/mise .config/direnv
  Library/LaunchAgents
`);

/** `.env.example` and its like hold names, not values. */
const EXAMPLE = /\.(?:examples?|samples?|templates?|tpl|dist|defaults?|schema)$/i;
const HOLDS_VALUES = /^(?:\.env(?:rc|s)?|\.dev\.vars|\.secrets)(?:[._-].*)?$/;
const NEEDS_SEPARATOR = /^\.secrets[._-]/;

/**
 * `.env*` of the projects' folders, of those between the uppermost and where the program starts, and of those above up to the root of the
 * repository: programs search upwards. Not looked at.
 */
export function valueFiles(projects: readonly string[]): readonly string[] {
  const folders = new Set<string>();
  for (const project of projects) {
    folders.add(project);
    const top = projects.filter((other) => isInside(project, other)).sort((a, b) => a.length - b.length)[0] ?? project;
    const end = repositoryRoot(top) ?? top;
    for (let folder = project; folder !== end && folder !== dirname(folder); folder = dirname(folder)) folders.add(dirname(folder));
  }
  return [...folders].flatMap((folder) => valuesIn(folder));
}

function valuesIn(folder: string): string[] {
  const names = namesIn(folder).filter((name) => HOLDS_VALUES.test(name) && !NEEDS_SEPARATOR.test(name) && !EXAMPLE.test(name));
  // A virtual environment of Python's is a folder that may be called like that.
  return names.map((name) => join(folder, name)).filter((path) => lookAt(join(path, 'pyvenv.cfg')) === undefined);
}

function repositoryRoot(start: string): string | undefined {
  for (let folder = start; folder !== dirname(folder); folder = dirname(folder)) {
    if (lookAt(join(folder, '.git')) !== undefined) return folder;
  }
  return undefined;
}
