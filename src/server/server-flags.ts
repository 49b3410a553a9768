// What the flags of `kz server start` mean together, and which of them together would be unsafe.
import { serverLogFolder, type DecisionSink } from '../audit/decision-log.ts';
import { KzError } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { parseListen } from './http/listen.ts';
import type { ServerOptions } from './serve.ts';
import type { KeyFile } from './tokens/token-keys.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Throws `usage`. */
export function checkFlags(options: ServerOptions): void {
  const { listen, proxy, tls, allowPlaintext, mcp, audit } = options;
  refuseOpen(
    '--listen',
    listen,
    allowPlaintext || tls !== undefined,
    'add --tls-cert and --tls-key; or --allow-plaintext, if something in front has TLS',
  );
  refuseOpen('--proxy', proxy, allowPlaintext, 'add --allow-plaintext, if the network in between is yours');
  refuseIdle('--jwt-file', options.jwt.file, { needs: '--mcp', given: mcp, hint: 'callers over HTTP send their own token' });
  refuseIdle('--jwt-audience', options.jwt.audience, { needs: '--mcp', given: mcp, hint: 'callers over HTTP send their own token' });
  refuseIdle('--proxy-ca-file', options.proxyCaFile, { needs: '--proxy', given: proxy });
  if (mcp !== undefined && (audit === '-' || audit === 'stdout')) {
    throw new KzError('usage', 'with --mcp standard output belongs to the protocol', { hint: '--audit stderr, or --audit FILE' });
  }
}

interface Need {
  readonly needs: string;
  /** Of that flag. */
  readonly given: unknown;
  readonly hint?: string;
}

/** A flag that does nothing is one that somebody counts on. */
function refuseIdle(flag: string, value: string | undefined, { needs, given, hint }: Need): void {
  if (value !== undefined && given === undefined) throw new KzError('usage', `${flag} needs ${needs}`, { hint });
}

/** What would carry tokens, or values, through a network in the clear has to be asked for. */
function refuseOpen(flag: string, address: string | undefined, isAsked: boolean, hint: string): void {
  if (address === undefined || isAsked || parseListen(address).isLoopback) return;
  throw new KzError('usage', `${flag} ${address} is open to other machines, without TLS`, { hint });
}

/** `audit` is what `--audit` says, `file` one of kz's own; without it, containers' standard output, and beside an MCP client `file`. Throws `usage`. */
export function auditSink({ audit, mcp, context: { env } }: Pick<ServerOptions, 'audit' | 'mcp' | 'context'>): DecisionSink {
  switch (audit) {
    case undefined:
      return mcp === undefined ? { to: 'descriptor', descriptor: 1 } : { to: 'folder', folder: serverLogFolder(env) };
    case 'file':
      return { to: 'folder', folder: serverLogFolder(env) };
    case '-':
    case 'stdout':
      return { to: 'descriptor', descriptor: 1 };
    case 'stderr':
      return { to: 'descriptor', descriptor: 2 };
    case 'none':
      return { to: 'none' };
    default:
      // A word that is mistyped is no name of a file.
      if (/[./~]/.test(audit)) return { to: 'file', path: absolutePath(audit, process.cwd(), env) };
      throw new KzError('usage', `--audit cannot be ${JSON.stringify(audit)}`, {
        hint: 'stdout, stderr, file, none, or a path: ./audit.jsonl',
      });
  }
}

/** Undefined: a key of this process alone. */
export function tokenKeyFile(path: string | undefined, env: Env): KeyFile | undefined {
  if (path !== undefined) return { path, from: '--token-key-file' };
  const named = env.KEYZERO_TOKEN_KEY_PATH;
  return named === undefined || named === '' ? undefined : { path: named, from: 'KEYZERO_TOKEN_KEY_PATH' };
}
