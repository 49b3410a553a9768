// Which names a secret may have in the child's environment.

import { looksLikeSecretValue } from '../core/credential-shape.ts';

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Names that change which code a program loads or runs: a config that could set them could run anything. HOME and XDG_CONFIG_HOME are among
 * them because every program takes its own configuration from there.
 */
const CODE_LOADING = new Set(
  `
  PATH HOME XDG_CONFIG_HOME SHELL EDITOR VISUAL PAGER MANPAGER BROWSER LESSOPEN LESSCLOSE
  ENV IFS SHELLOPTS BASHOPTS BASH_ENV PROMPT_COMMAND PROMPT RPROMPT PS0 PS1 PS2 PS3 PS4 ZDOTDIR FPATH CDPATH
  NODE_OPTIONS NODE_PATH NODE_REPL_EXTERNAL_MODULE BUN_OPTIONS DENO_DIR
  PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONINSPECT PYTHONUSERBASE PYTHONWARNINGS PYTHONBREAKPOINT
  PERL5LIB PERL5OPT PERL5DB RUBYLIB RUBYOPT BUNDLE_GEMFILE LUA_INIT LUA_PATH LUA_CPATH
  JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS CLASSPATH MAVEN_OPTS GRADLE_OPTS
  DOTNET_STARTUP_HOOKS GCONV_PATH OPENSSL_CONF OPENSSL_MODULES
  MAKEFLAGS MAKEFILES RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
  GIT_SSH GIT_SSH_COMMAND GIT_EXEC_PATH GIT_ASKPASS SSH_ASKPASS GIT_EXTERNAL_DIFF GIT_EDITOR GIT_SEQUENCE_EDITOR GIT_PAGER
  GIT_PROXY_COMMAND GIT_TEMPLATE_DIR GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS
`
    .trim()
    .split(/\s+/),
);

const CODE_LOADING_FAMILIES = /^(?:LD_|DYLD_|GIT_CONFIG_(?:KEY|VALUE)_|BASH_FUNC_|CORECLR_|COR_|GEM_)/;
/** npm reads its options in any case. `_auth` and its like are credentials. */
const NPM_OPTION = /^npm_config_(?!_auth)/i;

/** Why this name cannot be a secret, as the end of a sentence that starts with the name; undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (!NAME.test(name) || name === '__proto__') return 'is not a variable name (letters, digits and _, not starting with a digit)';
  if (isCodeLoading(name)) return 'cannot be a secret: it changes which code a program loads';
  if (name.startsWith('KEYZERO_')) return 'cannot be a secret: KEYZERO_ variables configure kz itself';
  return undefined;
}

/** Could it stand as a name in a config, whether kz takes it or not? */
export function isTypable(name: string): boolean {
  return NAME.test(name);
}

/** What was typed where a name belongs, to be repeated in an error; undefined for what may be a value: `NAME=value`, or the value alone. */
export function typedName(typed: string): string | undefined {
  return isTypable(typed) && !looksLikeSecretValue(typed) ? typed : undefined;
}

function isCodeLoading(name: string): boolean {
  return CODE_LOADING.has(name) || CODE_LOADING_FAMILIES.test(name) || NPM_OPTION.test(name);
}
