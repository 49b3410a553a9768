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

/** The state as the shell hands it back. It may have been tampered with: only names that the hook could have set are believed. */
export function parseState(text: string): HookState {
  const [from = '', ...names] = text.split(' ');
  return { from, names: names.filter((name) => nameProblem(name) === undefined) };
}

/** Where the shell keeps what a variable was before the hook set it. */
export function previousName(name: string): string {
  return `__kz_was_${name}`;
}

/**
 * Takes back what the hook set before (a variable that the user had gets its old value again), then sets the new ones. State and old
 * values are exported, so that a shell started inside the folder can leave it too.
 */
export function updateScript(shell: HookShell, before: HookState, from: string, variables: readonly Variable[]): string {
  const state = [from, ...variables.map(({ name }) => name)].join(' ');
  const steps = shell === 'fish' ? FISH : POSIX;
  return [...before.names.map(steps.restore), ...variables.map(steps.set), steps.remember(state)].map((line) => `${line}\n`).join('');
}

interface Steps {
  readonly restore: (name: string) => string;
  readonly set: (variable: Variable) => string;
  readonly remember: (state: string) => string;
}

const POSIX: Steps = {
  restore(name) {
    const was = previousName(name);
    return `if [ -n "\${${was}+x}" ]; then export ${name}="$${was}"; unset ${was}; else unset ${name}; fi`;
  },
  set: ({ name, value }) =>
    `if [ -n "\${${name}+x}" ]; then export ${previousName(name)}="$${name}"; fi; export ${name}=${shellQuote(value)}`,
  remember: (state) => `export __kz_state=${shellQuote(state)}`,
};

const FISH: Steps = {
  restore(name) {
    const was = previousName(name);
    return `if set -q ${was}; set -gx ${name} $${was}; set -e ${was}; else; set -e ${name}; end`;
  },
  set: ({ name, value }) => `if set -q ${name}; set -gx ${previousName(name)} $${name}; end; set -gx ${name} ${fishQuote(value)}`,
  remember: (state) => `set -gx __kz_state ${fishQuote(state)}`,
};
