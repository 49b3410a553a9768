// Being logged in to Vault: one login for all who ask, made when the first one asks, made again when the server no longer knows it, and given
// back at the end together with what was issued to it.
import { inWords } from '../core/duration.ts';
import { KzError } from '../core/errors.ts';
import { at } from './ask-json.ts';
import type { Health, Lease } from './provider.ts';
import { isLoginLease, logIn, LOGIN_LEASE, loginHint, type Login, type LoginContext } from './vault-login.ts';
import type { VaultAnswer, VaultRequest, VaultServer } from './vault-server.ts';
import { wide } from './wide.ts';

/** A login of kz's own lives so long after its last renewal, and with it all that was issued to it: the longest that a crash leaves behind. */
const OWN_LIFE_MS = 600_000;

/** A token that was good is believed to be so long: enough that many denied paths are one question. */
const BELIEVED_MS = 5000;

interface Verdict {
  readonly login: Login;
  readonly askedAt: number;
  readonly isGood: Promise<boolean>;
}

export class VaultSession {
  readonly server: VaultServer;
  readonly #context: LoginContext;
  #running: { readonly login: Promise<Login>; readonly signal: AbortSignal } | undefined;
  #current: Login | undefined;
  #verdict: Verdict | undefined;
  /** The token whose end was asked for: some have none. */
  #learned: string | undefined;
  readonly #issued = new Set<string>();
  #isClosed = false;
  /** Logins of kz's own that another one took the place of. */
  readonly #former: Login[] = [];

  constructor(context: LoginContext) {
    this.server = context.server;
    this.#context = context;
  }

  /** When the current login ends. Undefined before there is one, and for one without an end. */
  get lease(): Lease | undefined {
    return this.#current?.lease;
  }

  /**
   * Logs in when nobody has yet. 403 is an answer: it says that a policy denies this. Throws `provider-locked` when it is the token that is
   * refused and no new one can be had.
   */
  async ask(request: VaultRequest, signal: AbortSignal): Promise<VaultAnswer> {
    const login = await this.#loggedIn(signal);
    const answer = await this.server.ask({ ...request, token: login.token }, signal);
    if (answer.status !== 403 || (await this.#isGood(login, answer, signal))) return answer;
    this.#forget(login);
    if (!login.isOurs) throw this.#refused();
    const again = await this.#loggedIn(signal);
    return this.server.ask({ ...request, token: again.token }, signal);
  }

  /** Remembers what has to be given back. */
  issued(lease: string): void {
    this.#issued.add(lease);
  }

  /** Is this what kz is logged in with? */
  isLogin(value: unknown): boolean {
    return value === this.#current?.token;
  }

  /** Finds out when a token of the user's ends. Never fails: a token that may not ask about itself has an end that nobody knows. */
  async learnEnd(signal: AbortSignal): Promise<void> {
    try {
      const login = await this.#loggedIn(signal);
      if (login.isOurs || login.token === this.#learned) return;
      const lease = leaseOfToken((await this.#lookUp(login, signal)).body);
      this.#learned = login.token;
      if (this.#current === login) this.#current = { ...login, lease };
    } catch {
      // Who asks for secrets at the same time is told.
    }
  }

  /**
   * The end of the login, or of something issued to it, put off. A login near its longest life is renewed by another one, whose lease has another
   * id: what was issued to the old one ends with it. Throws `lease-ended`.
   */
  async renew(lease: Lease, signal: AbortSignal): Promise<Lease> {
    if (!lease.renewable) throw ended(lease, 'cannot be renewed', this.server.who);
    if (isLoginLease(lease)) return this.#renewLogin(lease, signal);
    const body = { lease_id: lease.id, increment: seconds(lease.durationMs) };
    const askedAt = Date.now();
    const answer = await this.ask({ method: 'PUT', path: 'sys/leases/renew', body }, signal);
    if (answer.status === 403) {
      throw new KzError('provider-denied', `${this.server.who} denies renewing a lease`, {
        hint: 'its policy needs `update` on "sys/leases/renew"',
      });
    }
    return this.#renewed(lease, { answer, askedAt, granted: answer.body });
  }

  /** In words for a person. Throws `provider-locked` when the token is no good. */
  async describe(signal: AbortSignal): Promise<Health> {
    const login = await this.#loggedIn(signal);
    const answer = await this.#lookUp(login, signal);
    if (answer.status === 200) return { detail: describeToken(answer.body) };
    if (await this.#isGood(login, answer, signal)) return { detail: 'a token that may not ask about itself' };
    this.#forget(login);
    throw this.#refused();
  }

  /** Failures are not told: what is not given back ends by itself. */
  async close(signal: AbortSignal): Promise<void> {
    this.#isClosed = true;
    const login = this.#current ?? (await this.#running?.login.catch(() => undefined));
    await Promise.all([...this.#former.splice(0), ...(login === undefined ? [] : [login])].map((each) => this.#giveBack(each, signal)));
    this.#issued.clear();
    if (login !== undefined) this.#forget(login);
  }

  async #giveBack({ token, isOurs, isBatch }: Login, signal: AbortSignal): Promise<void> {
    const tell = async (path: string, body?: object): Promise<void> => {
      await this.server.ask({ method: 'PUT', path, body, token }, signal).catch(() => undefined);
    };
    // Also revokes all that was issued to it.
    if (isOurs && !isBatch) return tell('auth/token/revoke-self');
    const told = new Set<string>();
    // The newest first: there is little time, and the oldest have ended. What a question that was under way is issued meanwhile comes last.
    for (let rest = [...this.#issued]; rest.length > 0; rest = [...this.#issued].filter((id) => !told.has(id))) {
      for (const id of rest) told.add(id);
      await wide(rest.reverse(), (id) => tell('sys/leases/revoke', { lease_id: id }));
    }
  }

  /** Single flight. A login that another caller gave up is made again for this one. */
  async #loggedIn(signal: AbortSignal): Promise<Login> {
    for (;;) {
      if (this.#current !== undefined) return this.#current;
      // Nobody would give this login back.
      if (this.#isClosed) throw new KzError('provider-failed', `kz has logged out of ${this.server.who}`);
      const running = (this.#running ??= { login: this.#logIn(signal), signal });
      try {
        return await running.login;
      } catch (error) {
        if (signal.aborted || !running.signal.aborted) throw error;
      }
    }
  }

  async #logIn(signal: AbortSignal): Promise<Login> {
    try {
      this.#current = await logIn(this.#context, signal);
      return this.#current;
    } finally {
      this.#running = undefined;
    }
  }

  #forget(login: Login): void {
    if (this.#current?.token === login.token) this.#current = undefined;
  }

  /** After a 403: is it the policy that denies, and not the token that is refused? */
  async #isGood(login: Login, { errors }: VaultAnswer, signal: AbortSignal): Promise<boolean> {
    if (errors.includes(SAYS_GOOD)) return true;
    if (SAYS_BAD.test(errors)) return false;
    const known = this.#verdict;
    if (known?.login.token === login.token && Date.now() - known.askedAt < BELIEVED_MS) return known.isGood;
    const isGood = this.#askWhetherGood(login, signal);
    this.#verdict = { login, askedAt: Date.now(), isGood };
    isGood.catch(() => {
      this.#verdict = undefined;
    });
    return isGood;
  }

  /** The second question is for tokens that may not even ask about themselves: that endpoint needs no policy, only a token. */
  async #askWhetherGood(login: Login, signal: AbortSignal): Promise<boolean> {
    if ((await this.#lookUp(login, signal)).status === 200) return true;
    const { status, errors } = await this.server.ask({ path: 'sys/internal/ui/mounts/cubbyhole/x', token: login.token }, signal);
    if (status >= 500) throw new KzError('provider-failed', `${this.server.who} answered ${String(status)} when asked about the token`);
    return status === 200 || errors.includes(SAYS_GOOD);
  }

  #lookUp({ token }: Login, signal: AbortSignal): Promise<VaultAnswer> {
    return this.server.ask({ path: 'auth/token/lookup-self', token }, signal);
  }

  async #renewLogin(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const login = await this.#loggedIn(signal);
    // A token of the user's must not end earlier because kz has used it.
    const leftMs = lease.expiresAt - Date.now();
    const wantedMs = login.isOurs ? Math.min(login.lifeMs ?? OWN_LIFE_MS, OWN_LIFE_MS) : Math.max(lease.durationMs, leftMs);
    const askedAt = Date.now();
    const request = { method: 'PUT', path: 'auth/token/renew-self', body: { increment: seconds(wantedMs) }, token: login.token } as const;
    const answer = await this.server.ask(request, signal);
    // A policy that denies it leaves a good token, which is still to be given back at the end.
    if (answer.status === 403 && !(await this.#isGood(login, answer, signal))) this.#forget(login);
    const renewed = this.#renewed(lease, { answer, askedAt, granted: at(answer.body, 'auth') });
    if (this.#current?.token === login.token) this.#current = { ...login, lease: renewed };
    const isLast = login.isOurs && renewed.durationMs * 2 < wantedMs;
    return isLast ? ((await this.#logInAnew(login, signal)) ?? renewed) : renewed;
  }

  /** While the old login still lives, and keeps what was issued to it alive. Undefined when it has to do for now. */
  async #logInAnew(login: Login, signal: AbortSignal): Promise<Lease | undefined> {
    try {
      const next = await logIn(this.#context, signal);
      this.#former.push(login);
      this.#current = next;
      return next.lease;
    } catch {
      signal.throwIfAborted();
      return undefined;
    }
  }

  #renewed(lease: Lease, { answer, askedAt, granted }: { answer: VaultAnswer; askedAt: number; granted: unknown }): Lease {
    const { who } = this.server;
    if (answer.status >= 500) throw new KzError('provider-failed', `${who} answered ${String(answer.status)} to the renewal of a lease`);
    if (answer.status >= 400) throw ended(lease, `is not known any more, or cannot be renewed (${String(answer.status)})`, who);
    const duration = at(granted, 'lease_duration');
    if (typeof duration !== 'number' || duration <= 0) throw ended(lease, 'has reached its longest life', who);
    const durationMs = duration * 1000;
    return { id: lease.id, expiresAt: askedAt + durationMs, durationMs, renewable: at(granted, 'renewable') === true };
  }

  #refused(): KzError {
    return new KzError('provider-locked', `${this.server.who} refused the token (403)`, { hint: loginHint(this.#context) });
  }
}

/** What a server says to a token that it knows, and to one that it does not. */
const SAYS_GOOD = 'preflight capability check';
const SAYS_BAD = /invalid token|bad token/;

function ended(lease: Lease, problem: string, who: string): KzError {
  return new KzError('lease-ended', `the ${isLoginLease(lease) ? 'login' : 'lease'} of ${who} ${problem}`);
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}

/** What lookup-self says. `creation_ttl` is how long it got first; a renewal says when it was. */
function leaseOfToken(body: unknown): Lease | undefined {
  const [left, first, renewedAt] = ['ttl', 'creation_ttl', 'last_renewal_time'].map((key) => at(body, 'data', key));
  if (typeof left !== 'number' || left <= 0) return undefined;
  const now = Date.now();
  const whole = typeof renewedAt === 'number' ? now / 1000 + left - renewedAt : first;
  const durationMs = Math.max(left, typeof whole === 'number' ? Math.round(whole) : 0) * 1000;
  return { id: LOGIN_LEASE, expiresAt: now + left * 1000, durationMs, renewable: at(body, 'data', 'renewable') === true };
}

/** `token of approle ci, 59 minutes left`. */
function describeToken(body: unknown): string {
  const names = [at(body, 'data', 'display_name'), at(body, 'data', 'meta', 'role_name')];
  const name = names.filter((each) => typeof each === 'string' && each !== '').join(' ');
  const left = at(body, 'data', 'ttl');
  const end = typeof left === 'number' && left > 0 ? `, ${inWords(left)} left` : ', which has no end';
  // `vault token create` names every token `token`.
  return `${name === '' || name === 'token' ? 'token' : `token of ${name}`}${end}`;
}
