// `kz server init` and `kz server token`: a bundle to start from, and tokens for it, for one person on one machine.
import { existsSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { userDirectory } from '../config/find.ts';
import { KzError } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { writePrivateFile } from '../core/private-file.ts';
import { durationArgument, useVoice, workingFolder } from './options.ts';
import { notice, print } from './ui.ts';

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
  readonly quiet?: boolean;
}

export function defineServerInit(command: Command): void {
  command
    .option('-b, --bundle <file>', 'the file to write', 'bundle.yaml')
    .option('--force', 'replace an existing one')
    .option('-q, --quiet', 'print errors only')
    .addHelpText('after', '\nMakes a key for `kz server token`, once for all bundles of yours.\n\nExample:\n  kz server init')
    .action(init);
}

export function defineServerToken(command: Command): void {
  command
    .option('-s, --subject <name>', 'who the token speaks for', 'agent')
    .option('-a, --audience <name>', 'which server it is for', 'kz')
    .option('--claim <name=value>', 'a further claim; can be given several times', claimArgument)
    .addOption(new Option('--ttl <duration>', 'how long it is good').argParser(ttlArgument).default(DEFAULT_TTL_MS, '12h'))
    .option('--issuer <url>', 'who issues it (default: the local issuer of `kz server init`)')
    .option('--key <file>', 'sign with this P-256 key, in PEM (default: the one of `kz server init`)')
    .option('--kid <id>', 'what the bundle calls the key')
    .option('-q, --quiet', 'print errors only')
    .addHelpText(
      'after',
      '\nPrints the token. Whoever has it is its subject until it expires.\n\nExample:\n  kz server token --ttl 8h > agent.jwt',
    )
    .action(token);
}

const DEFAULT_TTL_MS = 12 * 3_600_000;

async function init(flags: InitFlags): Promise<void> {
  useVoice(flags);
  const { ensureLocalKey, localKeyPath, starterBundle } = await import('../server/local-issuer.ts');
  const path = absolutePath(flags.bundle, workingFolder(), process.env);
  if (existsSync(path) && flags.force !== true) {
    throw new KzError('usage', `${flags.bundle} is already there`, { hint: 'replace it with --force' });
  }
  const keyPath = localKeyPath(userDirectory(process.env));
  const isNew = !existsSync(keyPath);
  const key = await ensureLocalKey(keyPath);
  await writePrivateFile(path, Buffer.from(starterBundle(key)));
  notice(`wrote ${path}`);
  if (isNew) notice(`made the key of your local issuer: ${keyPath}`);
  notice(`next: \`kz server check -b ${flags.bundle}\`, \`kz server token > agent.jwt\``);
}

async function token(flags: TokenFlags): Promise<void> {
  useVoice(flags);
  const { LOCAL_ISSUER_URL, localKeyPath, readLocalKey, signToken } = await import('../server/local-issuer.ts');
  const { key, issuer = LOCAL_ISSUER_URL, audience, subject, claim: claims = {}, ttl: ttlMs, kid } = flags;
  const path = key === undefined ? localKeyPath(userDirectory(process.env)) : absolutePath(key, workingFolder(), process.env);
  print(`${await signToken(readLocalKey(path), { issuer, audience, subject, claims, ttlMs, kid })}\n`);
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
