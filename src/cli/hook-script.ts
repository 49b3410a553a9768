// The shell code of `kz hook`: what a start-up file evaluates once, and what it evaluates on every change of folder.
import type { Variable } from './export-formats.ts';
import { fishQuote, shellQuote } from './quote.ts';

export const HOOK_SHELLS = ['zsh', 'bash', 'fish'] as const;
export type HookShell = (typeof HOOK_SHELLS)[number];

/** Which variables the hook set, so that it can take them back. Lives in the shell, is not exported. */
export const NAMES_VARIABLE = '__kz_names';

/** For `~/.zshrc`, `~/.bashrc` or `config.fish`. */
export const HOOK_SCRIPTS: Readonly<Record<HookShell, string>> = {
  zsh: `_kz_hook() { eval "$(command kz hook --shell zsh --update "$${NAMES_VARIABLE}")" }
autoload -Uz add-zsh-hook
add-zsh-hook chpwd _kz_hook
_kz_hook
`,
  bash: `_kz_hook() {
  local status=$?
  if [ "$PWD" != "$__kz_folder" ]; then
    __kz_folder=$PWD
    eval "$(command kz hook --shell bash --update "$${NAMES_VARIABLE}")"
  fi
  return $status
}
case ";\${PROMPT_COMMAND:-};" in
  *";_kz_hook;"*) ;;
  *) PROMPT_COMMAND="_kz_hook\${PROMPT_COMMAND:+;$PROMPT_COMMAND}" ;;
esac
`,
  fish: `function _kz_hook --on-variable PWD
  command kz hook --shell fish --update "$${NAMES_VARIABLE}" | source
end
_kz_hook
`,
};

/**
 * Takes back what the last folder set (a variable that the user had before gets its old value again), then sets the new ones. `previous`
 * comes from the shell, so anything in it that is not a variable name is ignored.
 */
export function updateScript(shell: HookShell, previous: string, variables: readonly Variable[]): string {
  const old = previous.split(' ').filter((name) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  const names = variables.map(({ name }) => name).join(' ');
  const steps = shell === 'fish' ? FISH : POSIX;
  return [...old.map(steps.restore), ...variables.map(steps.set), steps.remember(names)].map((line) => `${line}\n`).join('');
}

interface Steps {
  readonly restore: (name: string) => string;
  readonly set: (variable: Variable) => string;
  readonly remember: (names: string) => string;
}

const POSIX: Steps = {
  restore: (name) =>
    `if [ -n "\${__kz_was_${name}+x}" ]; then export ${name}="$__kz_was_${name}"; unset __kz_was_${name}; else unset ${name}; fi`,
  set: ({ name, value }) => `if [ -n "\${${name}+x}" ]; then __kz_was_${name}="$${name}"; fi; export ${name}=${shellQuote(value)}`,
  remember: (names) => `${NAMES_VARIABLE}=${shellQuote(names)}`,
};

const FISH: Steps = {
  restore: (name) => `if set -q __kz_was_${name}; set -gx ${name} $__kz_was_${name}; set -e __kz_was_${name}; else; set -e ${name}; end`,
  set: ({ name, value }) => `if set -q ${name}; set -g __kz_was_${name} $${name}; end; set -gx ${name} ${fishQuote(value)}`,
  remember: (names) => `set -g ${NAMES_VARIABLE} ${fishQuote(names)}`,
};
