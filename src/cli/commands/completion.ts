// `kz completion`: the script that completes commands and names of secrets.
import { Argument, type Command } from 'commander';
import { COMPLETION_SHELLS, completionScript, type CompletionShell } from '../completion-script.ts';
import { print } from '../ui.ts';

export function defineCompletion(command: Command): void {
  command
    .addArgument(new Argument('<shell>', 'which shell').choices([...COMPLETION_SHELLS]))
    .addHelpText('after', '\nExample:\n  kz completion bash > ~/.local/share/bash-completion/completions/kz\n  eval "$(kz completion zsh)"')
    .action((shell: CompletionShell) => {
      print(completionScript(shell));
    });
}
