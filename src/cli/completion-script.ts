// The completion scripts. They know the commands; names of secrets come from `kz list --names`, which contacts no provider.
import { COMMANDS } from './commands.ts';

export const COMPLETION_SHELLS = ['bash', 'zsh', 'fish'] as const;
export type CompletionShell = (typeof COMPLETION_SHELLS)[number];

/** Commands whose first argument is the name of a secret. */
const TAKES_NAME = ['get', 'put', 'rm'];

export function completionScript(shell: CompletionShell): string {
  switch (shell) {
    case 'bash':
      return bash();
    case 'zsh':
      return zsh();
    case 'fish':
      return fish();
  }
}

function bash(): string {
  return `_kz() {
  local current=\${COMP_WORDS[COMP_CWORD]} i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [ "\${COMP_WORDS[i]}" = -- ]; then
      if declare -F _command_offset >/dev/null; then _command_offset $((i + 1)); else COMPREPLY=($(compgen -c -f -- "$current")); fi
      return
    fi
  done
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${names()}' -- "$current"))
  else
    case \${COMP_WORDS[1]} in
      ${TAKES_NAME.join(' | ')}) COMPREPLY=($(compgen -W "$(command kz list --names -q 2>/dev/null)" -- "$current")) ;;
      *) COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
  fi
}
complete -F _kz kz
`;
}

function zsh(): string {
  const commands = COMMANDS.map(({ name, summary }) => `    '${name}:${summary.replaceAll("'", '’').replaceAll(':', ' ')}'`).join('\n');
  return `#compdef kz
_kz() {
  local -a commands
  commands=(
${commands}
  )
  local separator=\${words[(I)--]}
  if (( separator > 0 && separator < CURRENT )); then
    shift separator words
    (( CURRENT -= separator ))
    _normal
  elif (( CURRENT == 2 )); then
    _describe command commands
  else
    case $words[2] in
      ${TAKES_NAME.join('|')}) compadd -- \${(f)"$(command kz list --names -q 2>/dev/null)"} ;;
      *) _files ;;
    esac
  fi
}
if [ "$funcstack[1]" = _kz ]; then _kz "$@"; else compdef _kz kz; fi
`;
}

function fish(): string {
  const commands = COMMANDS.map(
    ({ name, summary }) => `complete -c kz -f -n __fish_use_subcommand -a ${name} -d '${summary.replaceAll("'", '’')}'`,
  ).join('\n');
  return `${commands}
complete -c kz -f -n '__fish_seen_subcommand_from ${TAKES_NAME.join(' ')}' -a '(command kz list --names -q 2>/dev/null)'
complete -c kz -n '__fish_seen_subcommand_from run' -a '(__fish_complete_subcommand --fcs-skip=2)'
`;
}

function names(): string {
  return COMMANDS.map(({ name }) => name).join(' ');
}
