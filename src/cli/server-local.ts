// `kz server init`, `put` and `token`: a bundle to start from, values for it, and tokens, for one person on one machine.
import { existsSync, lstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { Option, type Command } from 'commander';
import { userDirectory } from '../config/find.ts';
import type { Declaration } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { writePrivateFile } from '../core/private-file.ts';
import { Access } from '../providers/resolve.ts';
import { durationArgument, giveBack, providerContext, useVoice, withDeadline, withTimeoutFlag, workingFolder } from './options.ts';
import { notice, print } from './ui.ts';
import { acceptable, destinationOf, openForWriting, readValue, writeAndReadBack } from './write-secret.ts';

interface InitFlags {
  readonly bundle: string;
  readonly force?: boolean;
  readonly quiet?: boolean;
}

interface TokenFlags {
  readonly subject: string;
  readonly audience: string;
  readonly issuer?: string;
  readonly claim?: Readonly<Record<string, string>>;
  readonly ttl: number;
  readonly key?: string;
  readonly kid?: string;
  readonly out?: string;
  readonly quiet?: boolean;
}

interface PutFlags {
  readonly bundle: string;
  readonly fromFile?: string;
  readonly quiet?: boolean;
  readonly timeout: number;
}

export function defineServerInit(command: Command): void {
  command
    .option('-b, --bundle <file>', 'the file to write', 'bundle.yaml')
    .option('--force', 'replace an existing one')
    .option('-q, --quiet', 'print errors only')
    .addHelpText('after', '\nMakes a key for `kz server token`, once for all bundles of yours.\n\nExample:\n  kz server init')
    .action(init);
}

export function defineServerPut(command: Command): void {
  withTimeoutFlag(command)
    .requiredOption('-b, --bundle <file>', 'the bundle that has the resource')
    .argument('<resource>', 'the resource, as callers name it')
    .option('--from-file <path>', 'read the value from a file')
    .option('-q, --quiet', 'print errors only')
    .addHelpText(
      'after',
      '\nThe value comes from the terminal, a pipe or a file.\n\nExample:\n  kz server put github/pat --bundle bundle.yaml',
    )
    .action(put);
}

export function defineServerToken(command: Command): void {
  command
    .addOption(new Option('-s, --subject <name>', 'who the token speaks for').argParser(textOf('--subject')).default('agent'))
    .addOption(new Option('-a, --audience <name>', 'which server it is for').argParser(textOf('--audience')).default('kz'))
    .option('--claim <name=value>', 'a further claim; can be given several times', claimArgument)
    .addOption(new Option('--ttl <duration>', 'how long it is good').argParser(ttlArgument).default(DEFAULT_TTL_MS, '12h'))
    .option('--issuer <url>', 'who issues it (default: the local issuer of `kz server init`)')
    .option('--key <file>', 'sign with this P-256 key, in PEM (default: the one of `kz server init`)')
    .option('--kid <id>', 'what the bundle calls the key')
    .option('-o, --out <file>', 'write it there, for you alone, instead of printing it')
    .option('-q, --quiet', 'print errors only')
    .addHelpText(
      'after',
      '\nPrints the token. Whoever has it is its subject until it expires.\n\nExample:\n  kz server token --ttl 8h --out agent.jwt',
    )
    .action(token);
}

const DEFAULT_TTL_MS = 12 * 3_600_000;

async function init(flags: InitFlags): Promise<void> {
  useVoice(flags);
  const { ensureLocalKey, localKeyPath, starterBundle } = await import('../server/identity/local-issuer.ts');
  const path = absolutePath(flags.bundle, workingFolder(), process.env);
  // Nor through a link that leads to what is not there yet: a folder that somebody else filled would say where the file goes.
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined && flags.force !== true) {
    throw new KzError('usage', `${flags.bundle} is already there`, { hint: 'replace it with --force' });
  }
  const keyPath = localKeyPath(userDirectory(process.env));
  const isNew = !existsSync(keyPath);
  const key = await ensureLocalKey(keyPath);
  await writePrivateFile(path, Buffer.from(starterBundle(key)));
  notice(`wrote ${path}`);
  if (isNew) notice(`made the key of your local issuer: ${keyPath}`);
  notice(`next: \`kz server put github/pat -b ${flags.bundle}\` stores the value, \`kz server token --out agent.jwt\` makes a token`);
}

async function put(ref: string, flags: PutFlags): Promise<void> {
  useVoice(flags);
  const { access, declaration } = await resourceValue(ref, flags.bundle);
  const provider = await openForWriting(declaration, access);
  notice(`${ref} goes to ${destinationOf(declaration, provider)}`);
  const secret = acceptable(declaration, await readValue(declaration, flags.fromFile));
  try {
    await withDeadline(flags, (signal) => writeAndReadBack(declaration, secret, provider, signal));
  } finally {
    await giveBack(access);
  }
  notice(`${ref} is stored`);
}

/** Throws `secret-undeclared` for what no resource of the bundle covers. */
async function resourceValue(ref: string, path: string): Promise<{ readonly access: Access; readonly declaration: Declaration }> {
  const [{ loadBundle }, { ResourceTable }, { declarationIn, providerRef }] = await Promise.all([
    import('../config/bundle.ts'),
    import('../server/resources.ts'),
    import('../server/backends.ts'),
  ]);
  const bundle = await loadBundle(path);
  const found = ResourceTable.compile(bundle).find(ref);
  const backend = bundle.backends.get(found?.resource.entry.resolver ?? '');
  if (found === undefined || backend === undefined) {
    const refs = bundle.resources.map((each) => each.ref);
    const hint = refs.length === 0 ? 'it has none' : `it has ${refs.join(', ')}`;
    throw new KzError('secret-undeclared', `no resource of ${path} is called ${JSON.stringify(ref)}`, { hint });
  }
  const { entry } = found.resource;
  const text = providerRef(backend, entry, { ref, captures: found.captures });
  const declared = declarationIn(bundle, { name: ref, provider: backend.provider, text, field: entry.field });
  const declaration = entry.description === undefined ? declared : { ...declared, description: entry.description };
  return { access: new Access(backend.options, providerContext()), declaration };
}

async function token(flags: TokenFlags): Promise<void> {
  useVoice(flags);
  const { LOCAL_ISSUER_URL, localKeyPath, readLocalKey, signToken } = await import('../server/identity/local-issuer.ts');
  const { key, issuer = LOCAL_ISSUER_URL, audience, subject, claim: claims = {}, ttl: ttlMs, kid } = flags;
  const path = key === undefined ? localKeyPath(userDirectory(process.env)) : absolutePath(key, workingFolder(), process.env);
  if (key !== undefined && !existsSync(path)) {
    throw new KzError('usage', `there is no key ${key}, which --key names`, {
      hint: 'make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, or leave --key out',
    });
  }
  const out = flags.out === undefined ? undefined : absolutePath(flags.out, workingFolder(), process.env);
  if (out !== undefined) requireFolder(dirname(out));
  const jwt = await signToken(readLocalKey(path), { issuer, audience, subject, claims, ttlMs, kid });
  if (out === undefined) {
    print(`${jwt}\n`);
    return;
  }
  await writePrivateFile(out, Buffer.from(`${jwt}\n`));
  notice(`wrote ${flags.out ?? out}: whoever has it is ${JSON.stringify(subject)} until it expires`);
}

/** A typing mistake must not leave a token in a folder that nobody looks for. */
function requireFolder(folder: string): void {
  if (existsSync(folder)) return;
  throw new KzError('usage', `there is no folder ${folder}, which --out names`, { hint: 'correct --out, or make the folder first' });
}

/** A server refuses a token without it. */
function textOf(flag: string): (text: string) => string {
  return (text) => {
    if (text.trim() !== '') return text;
    throw new KzError('usage', `${flag} is empty`, { hint: `name it, or leave ${flag} out` });
  };
}

/** What the token says by itself. */
const OWN_CLAIMS = ['iss', 'aud', 'sub', 'exp', 'iat', 'nbf', 'jti'];

function claimArgument(text: string, previous: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const [, name = '', value = ''] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === '') throw new KzError('usage', '--claim needs a name and a value', { hint: '--claim team=web' });
  if (OWN_CLAIMS.includes(name))
    throw new KzError('usage', `--claim cannot set ${name}`, { hint: 'use --subject, --audience, --issuer or --ttl' });
  return { ...previous, [name]: value };
}

function ttlArgument(text: string): number {
  const ms = durationArgument(text);
  if (ms < 1000) throw new KzError('usage', 'a token lives for a second at least');
  return ms;
}
