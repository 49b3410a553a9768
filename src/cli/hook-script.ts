// The shell code of `kz hook`: what a start-up file evaluates once, and what it evaluates on every change of folder.
import { nameProblem } from '../config/variable-name.ts';
import type { Variable } from './export-formats.ts';
import { fishQuote, shellQuote } from './quote.ts';

export const HOOK_SHELLS = ['zsh', 'bash', 'fish'] as const;
export type HookShell = (typeof HOOK_SHELLS)[number];

/** What is in the shell now. */
export interface HookState {
  /** `waiting` for `kz trust`; `none`; or the fingerprint of the configuration that the variables come from. */
  readonly from: string;
  /** The variables that the hook set. */
  readonly names: readonly string[];
}

/**
 * For `~/.zshrc`, `~/.bashrc` or `config.fish`. zsh and fish call the hook on every change of folder, bash looks at every prompt whether
 * there was one. While a folder waits for `kz trust`, every prompt asks again, so that trusting it is enough.
 */
export const HOOK_SCRIPTS: Readonly<Record<HookShell, string>> = {
  zsh: `_kz_hook() { eval "$(command kz hook --shell zsh --update "\${__kz_state-}" "$@")" }
_kz_prompt() { [[ \${__kz_state-} != waiting* ]] || _kz_hook --quiet }
autoload -Uz add-zsh-hook
add-zsh-hook chpwd _kz_hook
add-zsh-hook precmd _kz_prompt
_kz_hook
`,
  bash: `_kz_hook() { eval "$(command kz hook --shell bash --update "\${__kz_state-}" "$@")"; }
_kz_prompt() {
  local status=$?
  if [ "$PWD" != "\${__kz_folder-}" ]; then
    __kz_folder=$PWD
    _kz_hook
  elif [[ \${__kz_state-} == waiting* ]]; then
    _kz_hook --quiet
  fi
  return "$status"
}
case ";\${PROMPT_COMMAND-};" in
  *";_kz_prompt;"*) ;;
  *) PROMPT_COMMAND="_kz_prompt\${PROMPT_COMMAND:+;$PROMPT_COMMAND}" ;;
esac
`,
  fish: `function _kz_hook
  command kz hook --shell fish --update "$__kz_state" $argv | source
end
function _kz_folder --on-variable PWD
  _kz_hook
end
function _kz_prompt --on-event fish_prompt
  string match -q 'waiting*' -- "$__kz_state"; and _kz_hook --quiet
end
_kz_hook
`,
};

/**
 * Names that a shell uses itself: setting them is an error, changes how the shell works, or even its user (`UID` in zsh), and some cannot be
 * given back. A shell whose table lacks one still refuses it when it is read-only or no plain text.
 */
const RESERVED: Readonly<Record<HookShell, ReadonlySet<string>>> = {
  bash: wordsOf(`
    _ BASH BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND BASH_COMPAT BASH_EXECUTION_STRING BASH_LINENO
    BASH_LOADABLES_PATH BASH_REMATCH BASH_SOURCE BASH_SUBSHELL BASH_VERSINFO BASH_VERSION BASH_XTRACEFD COLUMNS COMP_WORDBREAKS DIRSTACK
    EPOCHREALTIME EPOCHSECONDS EUID EXECIGNORE FIGNORE FUNCNAME FUNCNEST GLOBIGNORE GROUPS HISTCMD HISTCONTROL HISTFILE HISTFILESIZE
    HISTIGNORE HISTSIZE HISTTIMEFORMAT IGNOREEOF INPUTRC LINENO LINES OLDPWD OPTARG OPTERR OPTIND PIPESTATUS POSIXLY_CORRECT PPID PWD
    RANDOM READLINE_ARGUMENT READLINE_LINE READLINE_MARK READLINE_POINT SECONDS SHLVL SRANDOM TIMEFORMAT TMOUT UID histchars`),
  zsh: wordsOf(`
    _ ARGC CDPATH COLUMNS EGID ERRNO EUID FIGNORE FUNCNEST GID HISTCHARS HISTCMD HISTFILE HISTSIZE KEYBOARD_HACK KEYTIMEOUT LINENO LINES
    LISTMAX MAILCHECK MAILPATH MANPATH MODULE_PATH NULLCMD OLDPWD OPTARG OPTIND POSTEDIT PPID PROMPT2 PROMPT3 PROMPT4 PSVAR PWD RANDOM
    READNULLCMD RPS1 RPS2 SAVEHIST SECONDS SHLVL SPROMPT TMOUT TRY_BLOCK_ERROR TRY_BLOCK_INTERRUPT TTY TTYIDLE UID USERNAME WATCH WORDCHARS
    ZLE_RPROMPT_INDENT ZSH_ARGZERO ZSH_EVAL_CONTEXT ZSH_EXECUTION_STRING ZSH_NAME ZSH_SUBSHELL ZSH_VERSION aliases argv builtins cdpath
    chpwd_functions commands dirstack dis_aliases dis_builtins dis_functions dis_functions_source dis_galiases dis_patchars dis_reswords
    dis_saliases errnos fignore fpath funcfiletrace funcsourcetrace funcstack functions functions_source functrace galiases histchars
    history historywords jobdirs jobstates jobtexts keymaps mailpath manpath module_path modules nameddirs options parameters patchars
    path pipestatus precmd_functions preexec_functions prompt psvar reswords saliases signals status sysparams termcap terminfo userdirs
    usergroups watch widgets zsh_eval_context zsh_scheduled_events`),
  fish: wordsOf(`
    _ CDPATH CMD_DURATION COLUMNS EUID FISH_VERSION LINES OLDPWD PWD SHLVL argv fish_bind_mode fish_complete_path fish_function_path
    fish_greeting fish_history fish_kill_signal fish_killring fish_pid fish_private_mode fish_user_paths history hostname pipestatus status
    status_generation umask version`),
};

function wordsOf(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/));
}

/** Is the name one that the shell, or the hook in it, uses itself? */
export function isReserved(shell: HookShell, name: string): boolean {
  return name.startsWith('__kz_') || RESERVED[shell].has(name);
}

/** The state as the shell hands it back. It may have been tampered with: only names that the hook could have set are believed. */
export function parseState(shell: HookShell, text: string): HookState {
  const [from = '', ...names] = text.split(' ');
  return { from, names: names.filter((name) => nameProblem(name) === undefined && !isReserved(shell, name)) };
}

/** Where the shell keeps what a variable was before the hook set it. */
export function previousName(name: string): string {
  return `__kz_was_${name}`;
}

/**
 * Takes back what the hook set before (a variable that the user had gets its old value again), then sets the new ones, none of them reserved.
 * State and old values are exported, so that a shell started inside the folder can leave it too; but an old value that was the shell's alone
 * stays so. The state comes before the first value: whatever fails after it, leaving the folder takes back what was set.
 */
export function updateScript(shell: HookShell, before: HookState, from: string, variables: readonly Variable[]): string {
  const names = variables.map(({ name }) => name);
  const { functions, restore, keep, remember, set } = STEPS[shell];
  const lines = [...before.names.map(restore), ...names.map(keep), remember([from, ...names].join(' ')), ...variables.map(set)];
  return `${lines.length > 1 ? functions : ''}${lines.map((line) => `${line}\n`).join('')}`;
}

interface Steps {
  /** What the lines call. Part of every update: the shell may have been started with the hook of another kz. */
  readonly functions: string;
  readonly restore: (name: string) => string;
  readonly keep: (name: string) => string;
  readonly remember: (state: string) => string;
  readonly set: (variable: Variable) => string;
}

/** Says in `__kz_kind` what a variable is: `unset`, `exported`, `private` to the shell, or `special`: read-only, an array, a number, … */
const BASH_KIND = `_kz_kind() {
  case "$(declare -p "$1" 2>/dev/null)" in
    'declare -x '*=*) __kz_kind=exported ;;
    'declare -- '*=*) __kz_kind=private ;;
    '' | 'declare -x '* | 'declare -- '*) __kz_kind=unset ;;
    *) __kz_kind=special ;;
  esac
}
`;

const ZSH_KIND = `_kz_kind() {
  emulate -LR zsh
  case "\${(Pt)1}" in
    scalar-export) __kz_kind=exported ;;
    scalar) __kz_kind=private ;;
    '') __kz_kind=unset ;;
    *) __kz_kind=special ;;
  esac
}
`;

/** `start` begins every function. */
function posixFunctions(start: string): string {
  return `_kz_restore() {
  ${start}
  _kz_kind "$1"
  if [ "$__kz_kind" = special ]; then return 0; fi
  _kz_kind "__kz_was_$1"
  unset -v "$1"
  case "$__kz_kind" in
    exported) eval "export $1=\\"\\$__kz_was_$1\\"" ;;
    private) eval "$1=\\"\\$__kz_was_$1\\"" ;;
  esac
  unset -v "__kz_was_$1"
}
_kz_keep() {
  ${start}
  _kz_kind "$1"
  case "$__kz_kind" in
    exported) eval "export __kz_was_$1=\\"\\$$1\\"" ;;
    private) eval "__kz_was_$1=\\"\\$$1\\"" ;;
  esac
}
_kz_set() {
  ${start}
  _kz_kind "$1"
  if [ "$__kz_kind" = special ]; then
    echo "kz: $1 is not set: in this shell it is no plain variable" >&2
  else
    export "$1=$2"
  fi
}
`;
}

const POSIX: Omit<Steps, 'functions'> = {
  restore: (name) => `_kz_restore ${name}`,
  keep: (name) => `_kz_keep ${name}`,
  remember: (state) => `export __kz_state=${shellQuote(state)}`,
  set: ({ name, value }) => `_kz_set ${name} ${shellQuote(value)}`,
};

const FISH: Steps = {
  functions: '',
  restore(name) {
    const was = previousName(name);
    return `set -e ${name}; if set -qx ${was}; set -gx ${name} $${was}; else if set -q ${was}; set -gu ${name} $${was}; end; set -e ${was}`;
  },
  keep(name) {
    const was = previousName(name);
    return `if set -qx ${name}; set -gx ${was} $${name}; else if set -q ${name}; set -gu ${was} $${name}; end`;
  },
  remember: (state) => `set -gx __kz_state ${fishQuote(state)}`,
  set: ({ name, value }) => `set -gx ${name} ${fishQuote(value)}`,
};

const STEPS: Readonly<Record<HookShell, Steps>> = {
  bash: { functions: BASH_KIND + posixFunctions('local __kz_kind'), ...POSIX },
  zsh: { functions: ZSH_KIND + posixFunctions('emulate -LR zsh; local __kz_kind'), ...POSIX },
  fish: FISH,
};
