import { expect, it } from 'vitest';
import { nameProblem } from '../../src/config/variable-name.ts';

it.each(['GITHUB_TOKEN', '_x', 'a1', 'PATH_TO_KEY', 'NODE_AUTH_TOKEN', 'LDAP_PASSWORD'])('%s can be a secret', (name) => {
  expect(nameProblem(name)).toBeUndefined();
});

it.each([
  'PATH',
  'NODE_OPTIONS',
  'LD_PRELOAD',
  'LD_AUDIT',
  'DYLD_INSERT_LIBRARIES',
  'BASH_ENV',
  'GIT_SSH_COMMAND',
  'GIT_CONFIG_KEY_0',
  'BASH_FUNC_x',
  'npm_config_node_options',
  'NPM_CONFIG_SCRIPT_SHELL',
  'MAKEFLAGS',
  'HOME',
  'GIT_CONFIG_PARAMETERS',
  'CORECLR_PROFILER_PATH',
  'KEYZERO_PASSPHRASE',
  '',
  '1A',
  'A-B',
  'A B',
  'A=B',
  'Ä',
  'A\n',
])('%j cannot', (name) => {
  expect(nameProblem(name)).toBeTypeOf('string');
});
