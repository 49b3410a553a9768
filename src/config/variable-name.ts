// Which names a secret may have in the child's environment.

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Names that change which code a program loads or runs. A config that could set them could run anything. */
const CODE_LOADING = new Set([
  'PATH',
  'ENV',
  'IFS',
  'SHELLOPTS',
  'BASHOPTS',
  'BASH_ENV',
  'PROMPT_COMMAND',
  'PS4',
  'ZDOTDIR',
  'NODE_OPTIONS',
  'NODE_PATH',
  'NODE_REPL_EXTERNAL_MODULE',
  'BUN_OPTIONS',
  'DENO_DIR',
  'PYTHONPATH',
  'PYTHONHOME',
  'PYTHONSTARTUP',
  'PYTHONINSPECT',
  'PERL5LIB',
  'PERL5OPT',
  'PERL5DB',
  'RUBYLIB',
  'RUBYOPT',
  'LUA_INIT',
  'JAVA_TOOL_OPTIONS',
  '_JAVA_OPTIONS',
  'JDK_JAVA_OPTIONS',
  'CLASSPATH',
  'DOTNET_STARTUP_HOOKS',
  'GCONV_PATH',
  'GIT_SSH',
  'GIT_SSH_COMMAND',
  'GIT_EXEC_PATH',
  'GIT_ASKPASS',
  'GIT_CONFIG_GLOBAL',
  'GIT_CONFIG_COUNT',
  'GIT_EXTERNAL_DIFF',
  'GIT_EDITOR',
  'GIT_PAGER',
  'SSH_ASKPASS',
  'EDITOR',
  'VISUAL',
  'PAGER',
  'MANPAGER',
  'LESSOPEN',
  'LESSCLOSE',
  'BROWSER',
  'SHELL',
]);

/** Why this name cannot be a secret, as the end of a sentence that starts with the name; undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (!NAME.test(name) || name === '__proto__') return 'is not a variable name (letters, digits and _, not starting with a digit)';
  if (isCodeLoading(name)) return 'cannot be a secret: it changes which code a program loads';
  if (name.startsWith('KEYZERO_')) return 'cannot be a secret: KEYZERO_ variables configure kz itself';
  return undefined;
}

export function isCodeLoading(name: string): boolean {
  return CODE_LOADING.has(name) || /^(LD_|DYLD_|GIT_CONFIG_(KEY|VALUE)_|BASH_FUNC_)/.test(name);
}
