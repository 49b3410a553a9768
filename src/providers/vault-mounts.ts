// Which engine is behind a path, and what its API calls the path. Each mount is asked about once; a token that can read anything in it may.
import { KzError } from '../core/errors.ts';
import { at } from './ask-json.ts';
import { encodePath, type VaultPath } from './vault-ref.ts';
import type { VaultSession } from './vault-session.ts';

/** `hidden`: the server does not say, because there is none, or this token has no business there. */
export type Engine = 'kv1' | 'kv2' | 'hidden' | 'other';

export interface Mount {
  /** Without a slash at the end. */
  readonly prefix: string;
  readonly engine: Engine;
}

/** Where to ask for what a ref names. */
export interface Place {
  readonly mount: Mount;
  /** As a person writes it: without the data segment of version 2. Errors quote it. */
  readonly label: string;
  /** As the API and policies write it, not encoded. */
  readonly path: string;
  readonly version: number | undefined;
}

export class VaultMounts {
  readonly #session: VaultSession;
  readonly #known = new Map<string, Mount>();
  readonly #asking = new Map<string, Promise<unknown>>();
  /** First segments about which the server would not speak once: others that begin the same do not wait for each other any more. */
  readonly #hidden = new Set<string>();

  constructor(session: VaultSession) {
    this.#session = session;
  }

  async find(wanted: VaultPath, signal: AbortSignal): Promise<Place> {
    return placeIn(await this.#mountOf(wanted.path, signal), wanted);
  }

  /** Where a mount ends is known only afterwards. So of all paths that begin with one segment, one asks and the others look at its answer. */
  async #mountOf(path: string, signal: AbortSignal): Promise<Mount> {
    const [first = ''] = path.split('/');
    for (;;) {
      const known = [...this.#known.values()].find(({ prefix }) => `${path}/`.startsWith(`${prefix}/`));
      if (known !== undefined) return known;
      const running = this.#hidden.has(first) ? undefined : this.#asking.get(first);
      if (running === undefined) break;
      // Whoever asked is told what went wrong; this one then asks for itself.
      await running.catch(() => undefined);
      signal.throwIfAborted();
    }
    const asking = this.#ask(path, signal);
    this.#asking.set(first, asking);
    try {
      const mount = await asking;
      if (mount.engine === 'hidden') this.#hidden.add(first);
      else this.#known.set(mount.prefix, mount);
      return mount;
    } finally {
      if (this.#asking.get(first) === asking) this.#asking.delete(first);
    }
  }

  async #ask(path: string, signal: AbortSignal): Promise<Mount> {
    const { status, body } = await this.#session.ask({ path: `sys/internal/ui/mounts/${encodePath(path)}` }, signal);
    const [prefix, type, version] = [at(body, 'data', 'path'), at(body, 'data', 'type'), at(body, 'data', 'options', 'version')];
    if (status !== 200 || typeof prefix !== 'string') return { prefix: path.split('/')[0] ?? '', engine: 'hidden' };
    const isKv = type === 'kv' || type === 'generic';
    return { prefix: prefix.replace(/\/$/, ''), engine: !isKv ? 'other' : version === '2' ? 'kv2' : 'kv1' };
  }
}

/** Throws `ref-invalid` for what no path of this mount can be. */
export function placeIn(mount: Mount, { path, version }: VaultPath): Place {
  const { prefix, engine } = mount;
  const inside = path.slice(prefix.length + 1);
  if (inside === '') {
    throw new KzError('ref-invalid', `${JSON.stringify(path)} is a mount of vault, and names no path in it`, {
      hint: `write it as \`${path}/path#field\``,
    });
  }
  if (version !== undefined && engine !== 'kv2' && engine !== 'hidden') {
    throw new KzError(
      'ref-invalid',
      `${JSON.stringify(path)} has no versions: ${engine === 'kv1' ? 'its mount is kv version 1' : 'its mount is no kv'}`,
      {
        hint: 'leave out `?version=`',
      },
    );
  }
  if (engine !== 'kv2') return { mount, label: path, path, version };
  const name = inside.replace(/^data\/(?=.)/, '');
  return { mount, label: `${prefix}/${name}`, path: `${prefix}/data/${name}`, version };
}
