// The plan of the house (docs/architecture.md), checked: who may import whom, and who may see a value.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));

/** Folder → rank. A file imports its own folder or a lower rank. */
const RANKS: Record<string, number> = {
  core: 0,
  // Programs of their own, loaded into the child or started before it: nobody imports them, and they import nobody.
  preload: 0,
  stage: 0,
  config: 1,
  policy: 1,
  mask: 1,
  wire: 1,
  providers: 2,
  audit: 2,
  sandbox: 2,
  proxy: 3,
  database: 3,
  run: 4,
  server: 4,
  scan: 4,
  cli: 5,
};

/** Every file that calls `Secret.reveal()`, and why it must. */
const REVEALS: Record<string, string> = {
  'cli/commands/export.ts': 'its purpose is to print values',
  'cli/commands/get.ts': 'its purpose is to print a value',
  'cli/commands/hook.ts': 'its purpose is to put values into a shell',
  'cli/write-secret.ts': 'encodes a value before it is written',
  'mask/local-value.ts': 'asks what kind of value it is',
  'mask/mint.ts': 'keeps a value’s shape in its token',
  'mask/remask.ts': 'searches responses for values',
  'mask/swap.ts': 'puts a value in the place of its token',
  'providers/age.ts': 'writes a value',
  'providers/aws.ts': 'writes a value',
  'providers/keychain.ts': 'writes a value',
  'providers/onepassword.ts': 'writes a value',
  'providers/secrets.ts': 'decodes, fills templates and checks shapes',
  'providers/store-key.ts': 'writes and reads the store’s own key',
  'providers/store.ts': 'writes a value',
  'providers/vault.ts': 'writes a value',
  'run/credential-check.ts': 'sends a value to prove that it works',
  'run/database.ts': 'asks whether a value is for a database',
  'run/environment.ts': 'builds the child’s environment',
  'server/fetch/inject.ts': 'puts a value into a request and searches the answer for it',
  'server/use-cases.ts': 'gives a value away in mode direct, over HTTP',
};

const FORBIDDEN_NAMES = /(^|\/)(utils?|helpers?|common|lib|types|index)(\.ts|\/)/;

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, folder: name.split('/')[0] ?? '', text: withoutComments(readFileSync(join(SRC, name), 'utf8')) }));

function withoutComments(text: string): string {
  return text.replace(/^\s*(\/\/|\/?\*).*$/gm, '');
}

it('gives every folder a rank', () => {
  expect([...new Set(files.map(({ folder }) => folder))].filter((folder) => !(folder in RANKS))).toEqual([]);
});

it('imports only its own folder or a lower rank', () => {
  const wrong = files.flatMap(({ name, folder, text }) => {
    const imports = [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, path]) => join(name, '..', path ?? ''));
    return imports.filter((target) => !mayEnter(folder, target.split('/')[0] ?? '')).map((target) => `${name} imports ${target}`);
  });
  expect(wrong).toEqual([]);
});

function mayEnter(from: string, to: string): boolean {
  return from === to || (RANKS[to] ?? Infinity) < (RANKS[from] ?? -1);
}

it('reveals a value only in the files that are listed, each with a reason', () => {
  const revealing = files.filter(({ name, text }) => name !== 'core/secret.ts' && text.includes('.reveal(')).map(({ name }) => name);
  expect(revealing.sort()).toEqual(Object.keys(REVEALS).sort());
});

it('has no rooms without a name', () => {
  expect(files.map(({ name }) => name).filter((name) => FORBIDDEN_NAMES.test(name))).toEqual([]);
});

it('writes to the terminal in one file only', () => {
  const printing = files.filter(({ text }) => /process\.(stdout|stderr|stdin)\b|console\./.test(text));
  expect(printing.map(({ name }) => name)).toEqual([]);
});

it('sets an exit status in the cli only', () => {
  const setting = files.filter(({ folder, text }) => !['cli', 'stage'].includes(folder) && /process\.exit(Code)?\b/.test(text));
  expect(setting.map(({ name }) => name)).toEqual([]);
});
