// The completion scripts. They know the commands; names of secrets come from `kz list --names`, which contacts no provider.
import { COMMANDS } from './commands.ts';
import { EXPORT_NAMES } from './export-formats.ts';
import { HOOK_SHELLS } from './hook-script.ts';

export const COMPLETION_SHELLS = ['bash', 'zsh', 'fish'] as const;
export type CompletionShell = (typeof COMPLETION_SHELLS)[number];

/** Commands whose argument is the name of a secret. */
const TAKES_NAME = COMMANDS.filter(({ name }) => ['get', 'put', 'rm'].includes(name)).flatMap(({ name, aliases = [] }) => [
  name,
  ...aliases,
]);

/** What can follow a flag; after `files`, the shell's own completion of paths. */
const AFTER_FLAG: readonly { readonly flags: readonly string[]; readonly words: readonly string[] | 'names' | 'files' }[] = [
  { flags: ['--only'], words: 'names' },
  { flags: ['--shell'], words: HOOK_SHELLS },
  { flags: ['--format', '-f'], words: EXPORT_NAMES },
  { flags: ['--config', '-c', '--from-file'], words: 'files' },
];

const NAMES = 'command kz list --names --quiet 2>/dev/null';

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

/** Names of secrets are variable names: nothing in them is special to `compgen -W`, which expands its words. */
function bash(): string {
  const afterFlag = AFTER_FLAG.map(({ flags, words }) => `    ${flags.join(' | ')}) ${bashReply(words)} ;;`).join('\n');
  return `_kz() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [ "\${COMP_WORDS[i]}" = -- ]; then
      if declare -F _command_offset >/dev/null; then _command_offset $((i + 1)); else COMPREPLY=($(compgen -c -f -- "$current")); fi
      return
    fi
  done
  if [ "$COMP_CWORD" -eq 1 ]; then
    ${bashReply(commandNames())}
    return
  fi
  case $previous in
${afterFlag}
    *) case \${COMP_WORDS[1]} in
      ${TAKES_NAME.join(' | ')}) ${bashReply('names')} ;;
      help) ${bashReply(commandNames())} ;;
      completion) ${bashReply(COMPLETION_SHELLS)} ;;
      *) ${bashReply('files')} ;;
    esac ;;
  esac
}
complete -o default -F _kz kz
`;
}

function bashReply(words: readonly string[] | 'names' | 'files'): string {
  // Nothing of our own: -o default completes files, also those with spaces in their names.
  if (words === 'files') return 'COMPREPLY=()';
  const list = words === 'names' ? `"$(${NAMES})"` : `'${words.join(' ')}'`;
  return `COMPREPLY=($(compgen -W ${list} -- "$current"))`;
}

function zsh(): string {
  const commands = COMMANDS.map(({ name, summary }) => `    '${name}:${plain(summary).replaceAll(':', ' ')}'`).join('\n');
  const afterFlag = AFTER_FLAG.map(({ flags, words }) => `      ${flags.join('|')}) ${zshReply(words)} ;;`).join('\n');
  return `#compdef kz
_kz() {
  local -a commands
  commands=(
${commands}
  )
  local separator=\${words[(i)--]}
  if (( separator < CURRENT )); then
    shift separator words
    (( CURRENT -= separator ))
    _normal
  elif (( CURRENT == 2 )); then
    _describe command commands
  else
    case $words[CURRENT-1] in
${afterFlag}
      *) case $words[2] in
        ${TAKES_NAME.join('|')}) ${zshReply('names')} ;;
        help) _describe command commands ;;
        completion) ${zshReply(COMPLETION_SHELLS)} ;;
        *) _files ;;
      esac ;;
    esac
  fi
}
if [ "$funcstack[1]" = _kz ]; then _kz "$@"; else compdef _kz kz; fi
`;
}

function zshReply(words: readonly string[] | 'names' | 'files'): string {
  if (words === 'files') return '_files';
  return words === 'names' ? `compadd -- \${(f)"$(${NAMES})"}` : `compadd -- ${words.join(' ')}`;
}

function fish(): string {
  const commands = COMMANDS.map(({ name, summary }) => `complete -c kz -f -n __fish_use_subcommand -a ${name} -d '${plain(summary)}'`);
  const afterFlag = AFTER_FLAG.flatMap(({ flags, words }) => flags.map((flag) => `complete -c kz ${fishFlag(flag)} ${fishReply(words)}`));
  return `${[...commands, ...afterFlag].join('\n')}
complete -c kz -f -n '__fish_seen_subcommand_from ${TAKES_NAME.join(' ')}' -a '(${NAMES})'
complete -c kz -f -n '__fish_seen_subcommand_from help' -a '${commandNames().join(' ')}'
complete -c kz -f -n '__fish_seen_subcommand_from completion' -a '${COMPLETION_SHELLS.join(' ')}'
complete -c kz -n 'contains -- -- (commandline -opc)' -a '(__kz_complete_program)'
function __kz_complete_program
  set -l typed (commandline -opc) (commandline -ct)
  set -l separator (contains -i -- -- $typed)
  set -l program (string escape -- $typed[(math $separator + 1)..-1])
  complete -C "$program"
end
`;
}

function fishFlag(flag: string): string {
  return flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`;
}

function fishReply(words: readonly string[] | 'names' | 'files'): string {
  if (words === 'files') return '-r -F';
  return `-x -a '${words === 'names' ? `(${NAMES})` : words.join(' ')}'`;
}

function commandNames(): string[] {
  return COMMANDS.map(({ name }) => name);
}

/** As text between single quotes. */
function plain(text: string): string {
  return text.replaceAll("'", '’');
}
