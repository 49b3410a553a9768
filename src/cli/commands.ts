// Every command, in alphabetical order. The one that was typed is loaded; for the others the summary is enough.
import type { Command } from 'commander';
import { KzError } from '../core/errors.ts';

export interface CommandRow {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly load: () => Promise<(command: Command) => void>;
}

export const COMMANDS: readonly CommandRow[] = [
  { name: 'add', summary: 'declare a secret in .keyzero.toml', load: async () => (await import('./commands/add.ts')).defineAdd },
  { name: 'audit', summary: 'show what blind runs did', load: async () => (await import('./commands/audit.ts')).defineAudit },
  {
    name: 'completion',
    summary: 'print a completion script',
    load: async () => (await import('./commands/completion.ts')).defineCompletion,
  },
  {
    name: 'doctor',
    summary: 'say what does not work here, and why',
    load: async () => (await import('./commands/doctor.ts')).defineDoctor,
  },
  {
    name: 'explain',
    summary: 'say what blind mode would do with a request',
    load: async () => (await import('./commands/explain.ts')).defineExplain,
  },
  {
    name: 'export',
    summary: 'print the values for a shell or a tool',
    load: async () => (await import('./commands/export.ts')).defineExport,
  },
  { name: 'get', summary: 'print one value', load: async () => (await import('./commands/get.ts')).defineGet },
  {
    name: 'hook',
    summary: 'print a shell hook that loads a folder’s secrets',
    load: async () => (await import('./commands/hook.ts')).defineHook,
  },
  { name: 'init', summary: 'write a starter .keyzero.toml', load: async () => (await import('./commands/init.ts')).defineInit },
  { name: 'list', aliases: ['ls'], summary: 'show what is declared', load: async () => (await import('./commands/list.ts')).defineList },
  {
    name: 'policy',
    summary: 'test and explain a server’s policies',
    load: async () => ifBuilt((await import('./commands/policy.ts')).definePolicy),
  },
  { name: 'put', aliases: ['set'], summary: 'store a value', load: async () => (await import('./commands/put.ts')).definePut },
  { name: 'rm', summary: 'remove a value', load: async () => (await import('./commands/rm.ts')).defineRemove },
  { name: 'run', summary: 'start a program with its secrets', load: async () => (await import('./commands/run.ts')).defineRun },
  {
    name: 'server',
    summary: 'let agents use credentials that they do not hold',
    load: async () => ifBuilt((await import('./commands/server.ts')).defineServer),
  },
  { name: 'status', summary: 'show which secrets are there', load: async () => (await import('./commands/status.ts')).defineStatus },
  { name: 'trust', summary: 'let the shell hook load this folder', load: async () => (await import('./commands/trust.ts')).defineTrust },
  { name: 'validate', summary: 'check the configuration', load: async () => (await import('./commands/validate.ts')).defineValidate },
];

/** Where kz was built without the libraries that only these commands need, they show their help, and throw `not-built`. */
function ifBuilt(define: (command: Command) => void): (command: Command) => void {
  return (command) => {
    define(command);
    command.hook('preAction', refuseIfNotBuilt);
  };
}

async function refuseIfNotBuilt(): Promise<void> {
  const { LACKS } = await import('./built.ts');
  if (LACKS.length === 0) return;
  throw new KzError('not-built', `this kz was built without ${LACKS.join(', ')}`, {
    hint: 'install them with `npm ci`, and build kz again',
  });
}
