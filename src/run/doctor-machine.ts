// What of the machine and of kz's own environment decides whether things work, above all where an MCP client starts kz: it gives few
// variables. Looks only; names of variables and paths are told, values of others are not.
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { DialError } from '../proxy/dial.ts';
import { trustedRoots } from '../proxy/roots.ts';
import { UpstreamProxies } from '../proxy/upstream-proxy.ts';
import { findOnPath } from './doctor-runtimes.ts';
import type { Variables } from './environment.ts';

export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  readonly node: string;
  readonly kind: 'container' | 'wsl' | undefined;
  readonly home: string | undefined;
  /** Where PATH has kz. */
  readonly kzOnPath: string | undefined;
  /** The proxy that kz itself uses for https, without its credentials. */
  readonly proxy: string | undefined;
  readonly warnings: readonly Advice[];
}

export interface Advice {
  readonly text: string;
  readonly hint: string | undefined;
}

/** `program` is the path by which this kz was started. */
export async function lookAtMachine(env: Variables, program: string): Promise<Machine> {
  const home = env.HOME === undefined || env.HOME === '' ? undefined : env.HOME;
  const kzOnPath = findOnPath('kz', env.PATH);
  const proxy = proxyOf(env);
  const { warnings } = await trustedRoots(env);
  return {
    platform: process.platform,
    arch: process.arch,
    node: process.version,
    kind: kindOf(env),
    home,
    kzOnPath,
    proxy: proxy.name,
    warnings: [
      ...(home === undefined ? [noHome()] : []),
      ...(kzOnPath === undefined ? [notOnPath(env, program)] : []),
      ...(proxy.problem === undefined ? [] : [{ text: proxy.problem, hint: undefined }]),
      ...warnings.map((text) => ({ text, hint: undefined })),
    ],
  };
}

function noHome(): Advice {
  return { text: `HOME is not set; kz takes ${homedir()}`, hint: 'pass HOME on where kz is started: MCP clients have an "env" block' };
}

function notOnPath({ PATH: path = '' }: Variables, program: string): Advice {
  const hint = program === '' ? undefined : `where kz is started, write its full path: ${program}`;
  return { text: path === '' ? 'PATH is not set' : 'kz is not on PATH, so MCP clients and hooks do not find it by name', hint };
}

/** Any public host does: it is not asked. */
const SOMEWHERE = { host: 'example.com', port: 443, tls: true };

function proxyOf(env: Variables): { readonly name?: string | undefined; readonly problem?: string } {
  try {
    return { name: new UpstreamProxies(env).proxyFor(SOMEWHERE)?.name };
  } catch (error) {
    if (error instanceof DialError) return { problem: `${error.detail}: blind mode cannot get out through it` };
    throw error;
  }
}

function kindOf(env: Variables): Machine['kind'] {
  if (process.platform !== 'linux') return undefined;
  if (['/.dockerenv', '/run/.containerenv'].some((path) => existsSync(path)) || env.KUBERNETES_SERVICE_HOST !== undefined)
    return 'container';
  return env.WSL_DISTRO_NAME !== undefined || /microsoft/i.test(kernel()) ? 'wsl' : undefined;
}

function kernel(): string {
  try {
    return readFileSync('/proc/version', 'utf8');
  } catch {
    return '';
  }
}
