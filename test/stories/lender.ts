// A Vault whose database engine lends a canary to whoever asks, for as long as the story says, and which can be unplugged. Keeps a record of
// what became of every lease.
import { randomBytes } from 'node:crypto';
import net, { type AddressInfo } from 'node:net';
import { FakeVault, type FakeRequest } from '../fixtures/vault-fake.ts';
import type { Story } from './kz.ts';
import { waitFor } from './processes.ts';

export interface Terms {
  readonly seconds: number;
  readonly renewable?: boolean;
}

export interface Lent {
  readonly id: string;
  readonly role: string;
  readonly username: string;
  readonly password: string;
  /** To whom. */
  readonly token: string;
  readonly renewable: boolean;
  expiresAt: number;
  renewals: number;
  /** By itself, or with the token that it was issued to. */
  revoked: 'itself' | 'with its token' | undefined;
}

interface Reply {
  readonly status: number;
  readonly body?: unknown;
}

export class Lender {
  readonly fake: FakeVault;
  /** In the order in which they were asked for. */
  readonly lent: Lent[] = [];
  /** Comes before the lender; undefined lets a request pass. */
  first: FakeVault['intercept'];
  /** Makes the passwords. */
  values: () => string;
  readonly #story: Story;
  readonly #terms = new Map<string, Terms>();
  readonly #plug: Plug;

  static async start(story: Story): Promise<Lender> {
    const fake = await FakeVault.start();
    story.guard(fake.token);
    await fake.request('POST', 'sys/mounts/database', { type: 'database' });
    await fake.request('POST', 'sys/auth/approle', { type: 'approle' });
    return new Lender(story, fake, await Plug.to(Number(new URL(fake.address).port)));
  }

  private constructor(story: Story, fake: FakeVault, plug: Plug) {
    this.#story = story;
    this.values = () => story.canary();
    this.#plug = plug;
    this.fake = fake;
    fake.intercept = (request) => this.first?.(request) ?? this.#answer(request);
  }

  /** `[providers.vault]`, for a story's config. */
  provider(more = ''): string {
    return `[providers.vault]\naddress = "http://127.0.0.1:${String(this.#plug.port)}"\n${more}\n`;
  }

  /** The environment of somebody who has a token. */
  get env(): Record<string, string> {
    return { VAULT_TOKEN: this.fake.token };
  }

  /** The environment of somebody who logs in with approle. `ttl` is how long that login lives at first. */
  async appRole(ttl: string): Promise<Record<string, string>> {
    await this.fake.request('POST', 'auth/approle/role/ci', { token_policies: 'root', token_ttl: ttl });
    const roleId = await this.fake.request('GET', 'auth/approle/role/ci/role-id');
    const secretId = await this.fake.request('POST', 'auth/approle/role/ci/secret-id', {});
    const [id, secret] = [textAt(roleId.body, 'role_id'), textAt(secretId.body, 'secret_id')];
    this.#story.guard(secret);
    return { VAULT_ROLE_ID: id, VAULT_SECRET_ID: secret };
  }

  /** From now on `database/creds/<role>` is lent on these terms. */
  lends(role: string, terms: Terms): void {
    this.#terms.set(role, terms);
  }

  async issued(count: number): Promise<Lent> {
    await waitFor(`${String(count)} leases`, () => this.lent.length >= count);
    return this.the(count);
  }

  /** Counts from 1. */
  the(count: number): Lent {
    const lent = this.lent[count - 1];
    if (lent === undefined) throw new Error(`there are only ${String(this.lent.length)} leases`);
    return lent;
  }

  async renewed(lent: Lent, times = 1): Promise<void> {
    await waitFor(`${String(times)} renewals of ${lent.id}`, () => lent.renewals >= times);
  }

  /** What was asked of a path that begins so: `PUT sys/leases/renew`. */
  asked(start: string): readonly FakeRequest[] {
    return this.fake.asked.filter(({ method, path }) => `${method} ${path}`.startsWith(start));
  }

  /** Nobody can reach it, and connections break. */
  unplug(): Promise<void> {
    return this.#plug.out();
  }

  plugIn(): Promise<void> {
    return this.#plug.in();
  }

  async stop(): Promise<void> {
    await this.#plug.out();
    await this.fake.close();
  }

  #answer({ method, path, headers, body }: FakeRequest): ReturnType<NonNullable<FakeVault['intercept']>> {
    const token = String(headers['x-vault-token']);
    const [, role = ''] = /^database\/creds\/([^/]+)$/.exec(path) ?? [];
    const terms = this.#terms.get(role);
    if (method === 'GET' && terms !== undefined) return this.#lend(role, terms, token);
    if (path === 'auth/token/revoke-self') this.#revokeAll(token);
    return path.startsWith('sys/leases/') ? this.#lease(path, body as { lease_id?: unknown; increment?: unknown }) : undefined;
  }

  #revokeAll(token: string): void {
    for (const each of this.lent) if (each.token === token) each.revoked ??= 'with its token';
  }

  #lease(path: string, { lease_id: id, increment }: { lease_id?: unknown; increment?: unknown }): Reply {
    const lent = this.lent.find((each) => each.id === id);
    if (path === 'sys/leases/renew') return renewal(lent, Number(increment));
    if (path !== 'sys/leases/revoke') return { status: 404 };
    if (lent !== undefined) lent.revoked ??= 'itself';
    return { status: 204 };
  }

  #lend(role: string, { seconds, renewable = true }: Terms, token: string): Reply {
    const id = `database/creds/${role}/${randomBytes(8).toString('hex')}`;
    const username = `v-${randomBytes(4).toString('hex')}`;
    const lent: Lent = {
      id,
      role,
      username,
      password: this.values(),
      token,
      renewable,
      expiresAt: Date.now() + seconds * 1000,
      renewals: 0,
      revoked: undefined,
    };
    this.#story.guard(token);
    this.lent.push(lent);
    const data = { username, password: lent.password };
    return { status: 200, body: { lease_id: id, lease_duration: seconds, renewable, data, warnings: null } };
  }
}

function renewal(lent: Lent | undefined, seconds: number): Reply {
  const refuse = (error: string): Reply => ({ status: 400, body: { errors: [error] } });
  if (lent === undefined || lent.revoked !== undefined || lent.expiresAt <= Date.now()) return refuse('lease not found');
  if (!lent.renewable) return refuse('lease is not renewable');
  lent.renewals += 1;
  lent.expiresAt = Date.now() + seconds * 1000;
  return { status: 200, body: { lease_id: lent.id, lease_duration: seconds, renewable: true, data: null } };
}

function textAt(body: unknown, key: string): string {
  return String((body as { data: Record<string, unknown> }).data[key]);
}

/** A port that leads to another one until somebody takes it away, and then refuses. */
class Plug {
  readonly port: number;
  readonly #target: number;
  readonly #sockets = new Set<net.Socket>();
  #server: net.Server;

  static async to(target: number): Promise<Plug> {
    const plug = new Plug(target, await listening(net.createServer(), 0));
    plug.#server.on('connection', plug.#join);
    return plug;
  }

  private constructor(target: number, server: net.Server) {
    this.#target = target;
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  async out(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async in(): Promise<void> {
    this.#server = await listening(net.createServer(this.#join), this.port);
  }

  readonly #join = (socket: net.Socket): void => {
    const other = net.connect(this.#target, '127.0.0.1');
    for (const [one, another] of [
      [socket, other],
      [other, socket],
    ] as const) {
      this.#sockets.add(one);
      one
        .on('error', () => undefined)
        .once('close', () => {
          this.#sockets.delete(one);
          another.destroy();
        });
    }
    socket.pipe(other).pipe(socket);
  };
}

function listening(server: net.Server, port: number): Promise<net.Server> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, '127.0.0.1', () => {
      resolve(server);
    });
  });
}
