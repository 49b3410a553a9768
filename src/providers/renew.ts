// Keeps what a run was given alive and current: leases are renewed at half their life and issued again when they cannot be, `refresh` reads
// again, and what a provider can watch is read when it changed. Never stops the program: what cannot be read keeps its last good value.
import { setMaxListeners } from 'node:events';
import { setTimeout as timer } from 'node:timers/promises';
import { declarationFor, type Config } from '../config/load.ts';
import type { ProviderName } from '../config/provider-names.ts';
import { endOfAll } from '../core/abort.ts';
import { parseDuration } from '../core/duration.ts';
import { KzError } from '../core/errors.ts';
import type { Lease, Provider } from './provider.ts';
import { asKzError, isAboutValue, isMadeInVain, refusal, Trouble, withoutName } from './renew-event.ts';
import type { Consumer, KeeperEvent, NotAdopted } from './renew-event.ts';
import { groupBy, namesOf } from './renew-groups.ts';
import type { Access } from './resolve.ts';
import { refOf, resolveSecrets, type Resolved, type SetSecret } from './secrets.ts';

export interface KeeperOptions {
  readonly config: Config;
  readonly access: Access;
  readonly consumer: Consumer;
  readonly tell: (event: KeeperEvent) => void;
  /** Resolves after `ms`, rejects when the signal aborts. For tests; the default never keeps kz alive. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>;
  readonly now?: () => number;
  /** From 0 to 1. */
  readonly random?: () => number;
}

/** Opening a provider only to see whether it can watch would load it. */
const WATCHABLE: readonly ProviderName[] = ['file'];

/** For one question to a provider: nobody waits for the answer, and a server that hangs is asked again. */
const PATIENCE_MS = 20_000;
/** For all that is asked when the keeper is closed. */
const LAST_ANSWERS_MS = 250;
const FIRST_RETRY_MS = 2000;
const LONGEST_RETRY_MS = 60_000;
/** A file that is replaced is away for a moment. */
const SECOND_LOOK_MS = 1000;
/** Long enough to cost short runs nothing. */
const FIRST_LOGIN_RENEWAL_MS = 5000;
/** Whatever a server says about its leases, it is not asked more often. */
const SHORTEST_WAIT_MS = 250;
/** A timer of Node's cannot wait longer than 24 days. */
const LONGEST_WAIT_MS = 20 * 86_400_000;

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #current: Map<string, SetSecret>;
  readonly #stop = new AbortController();
  /** Questions to providers, which go on a little longer. */
  readonly #giveUp = new AbortController();
  readonly #expired = new Set<string>();
  /** Name → why its old value stays, as it was told last. */
  readonly #keptBecause = new Map<string, string>();
  /** What is being read of each provider: an older answer must not come after a newer one. */
  readonly #turns = new Map<ProviderName, Promise<unknown>>();

  /** Undefined when nothing of these secrets can change or end. */
  static start(secrets: readonly Resolved[], options: KeeperOptions): Keeper | undefined {
    const given = secrets.filter((each) => each.state === 'set').filter(({ from }) => from === 'provider');
    const keeper = new Keeper(given, options);
    return keeper.#begin() ? keeper : undefined;
  }

  private constructor(given: readonly SetSecret[], options: KeeperOptions) {
    // One for each wait; Node warns of more than ten.
    setMaxListeners(0, this.#stop.signal, this.#giveUp.signal);
    this.#options = options;
    this.#current = new Map(given.map((each) => [each.name, each]));
  }

  /** Nothing is told or changed any more. What is being read may just be issued, and then has to be known so that it is given back: that may come. */
  async close(): Promise<void> {
    this.#stop.abort();
    await endOfAll(this.#turns.values(), LAST_ANSWERS_MS);
    this.#giveUp.abort();
  }

  #begin(): boolean {
    const leased = groupBy([...this.#current.values()], ({ source, lease }) => lease && `${source.provider} ${lease.id}`);
    for (const group of leased.values()) this.#inBackground(this.#keepLease(group));
    const used = [...this.#current.values()].filter(({ name }) => this.#options.consumer.uses(name));
    const refreshed = groupBy(used, ({ name, source }) => declarationFor(this.#options.config, name, source.origin)?.refresh);
    for (const [every, group] of refreshed) this.#inBackground(this.#refresh(namesOf(group), parseDuration(every) ?? LONGEST_WAIT_MS));
    const watched = groupBy(used, ({ source }) => (WATCHABLE.includes(source.provider) ? source.provider : undefined));
    for (const group of watched.values()) this.#inBackground(this.#watch(group));
    const asked = [...leased.values(), ...refreshed.values()].flat();
    for (const name of new Set(asked.map(({ source }) => source.provider))) this.#inBackground(this.#keepLogin(name));
    return leased.size + refreshed.size + watched.size > 0;
  }

  /** Each loop runs until `close`; nothing that goes wrong in one may end the run. */
  #inBackground(work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#options.tell({ type: 'failing', names: [], error: asKzError(error) });
    });
  }

  async #keepLease(group: readonly SetSecret[]): Promise<void> {
    const [first] = group;
    if (first?.lease === undefined) return;
    const names = namesOf(group);
    const provider = await this.#options.access.open(first.source.provider);
    const trouble = new Trouble(names, this.#options.tell);
    let { lease } = first;
    let granted = lease.durationMs;
    let waitMs = this.#halfLife(lease);
    for (;;) {
      await this.#sleep(waitMs);
      const successor = this.#successorOf(lease, names);
      if (successor !== undefined) {
        lease = successor;
        granted = lease.durationMs;
        waitMs = this.#halfLife(lease);
        continue;
      }
      let next = this.#isOver(lease) ? OVER : await this.#prolong(provider, lease, granted);
      if (next.type === 'over') {
        if (!this.#anyUsed(names)) {
          this.#letEnd(lease, names);
          return;
        }
        next = await this.#issueAgain(names);
        if (next.type === 'lives') granted = next.lease.durationMs;
      }
      if (next.type === 'over') return;
      if (next.type === 'lives') {
        trouble.isOver();
        lease = next.lease;
        waitMs = this.#halfLife(lease);
      } else {
        waitMs = this.#failed(next.error, { trouble, lease, names });
      }
    }
  }

  /** How long to wait. */
  #failed(error: KzError, { trouble, lease, names }: { trouble: Trouble; lease: Lease; names: readonly string[] }): number {
    trouble.goesOn(error, lease.expiresAt);
    // From now on it is missed: the delay begins anew.
    if (this.#isOver(lease) && this.#expire(names)) trouble.count = 1;
    return this.#retryAfter(trouble, lease, error);
  }

  /** The lease of the values that `refresh` has read meanwhile. */
  #successorOf({ id }: Lease, names: readonly string[]): Lease | undefined {
    const leases = names.map((name) => this.#current.get(name)?.lease);
    return leases.some((lease) => lease?.id === id) ? undefined : leases.find((lease) => lease !== undefined);
  }

  #letEnd(lease: Lease, names: readonly string[]): void {
    if (this.#isOver(lease)) this.#expire(names);
    else this.#options.tell({ type: 'ending', names, at: lease.expiresAt });
  }

  /** `over` also for one that lives on, but near the longest life that its server gives: it gets a successor while it still does. */
  async #prolong(provider: Provider, lease: Lease, granted: number): Promise<Next> {
    if (!lease.renewable || provider.renew === undefined) return OVER;
    try {
      const renewed = await provider.renew(lease, this.#patience());
      this.#stop.signal.throwIfAborted();
      return renewed.durationMs * 2 < granted ? OVER : { type: 'lives', lease: renewed };
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      return error instanceof KzError && HOPELESS.includes(error.code) ? OVER : { type: 'failed', error: asKzError(error) };
    }
  }

  /** `over` when the value needs no lease any more. */
  async #issueAgain(names: readonly string[]): Promise<Next> {
    const read = await this.#readAgain(names);
    if (read.error !== undefined) return { type: 'failed', error: read.error };
    if (read.lease !== undefined) return { type: 'lives', lease: read.lease };
    const [first] = read.refused ?? [];
    return first === undefined ? OVER : { type: 'failed', error: refusal(first) };
  }

  async #refresh(names: readonly string[], everyMs: number): Promise<void> {
    const trouble = new Trouble(names, this.#options.tell);
    for (;;) {
      await this.#sleep(this.#jittered(everyMs, 0.1));
      const { error } = await this.#readAgain(names);
      if (error === undefined) trouble.isOver();
      else trouble.goesOn(error);
    }
  }

  async #watch(group: readonly SetSecret[]): Promise<void> {
    const [first] = group;
    if (first === undefined) return;
    const provider = await this.#options.access.open(first.source.provider);
    const byRef = groupBy(group, ({ source }) => JSON.stringify(refOf(source.ref, source.origin)));
    const refs = [...byRef.values()].flatMap(([each]) => (each === undefined ? [] : [refOf(each.source.ref, each.source.origin)]));
    provider.watch?.(
      refs,
      (ref) => {
        const names = namesOf(byRef.get(JSON.stringify(ref)) ?? []);
        if (names.length > 0) this.#inBackground(this.#look(names));
      },
      this.#stop.signal,
    );
  }

  async #look(names: readonly string[]): Promise<void> {
    const trouble = new Trouble(names, this.#options.tell);
    const { error } = await this.#readAgain(names, { quietly: true });
    if (error === undefined) return;
    await this.#sleep(SECOND_LOOK_MS);
    const again = await this.#readAgain(names);
    if (again.error !== undefined) trouble.goesOn(again.error);
  }

  /** A login that cannot be renewed is not told: the provider logs in again, or says so when it is next asked. */
  async #keepLogin(name: ProviderName): Promise<void> {
    const provider = await this.#options.access.open(name);
    if (provider.login === undefined || provider.renew === undefined) return;
    let known = provider.login();
    let waitMs = known === undefined ? LONGEST_RETRY_MS : Math.min(FIRST_LOGIN_RENEWAL_MS, this.#halfLife(known));
    for (;;) {
      await this.#sleep(waitMs);
      // Between two logins there is none.
      const lease = provider.login();
      const next = lease === undefined ? OVER : await this.#prolong(provider, lease, 0);
      waitMs = next.type === 'lives' ? this.#halfLife(next.lease) : LONGEST_RETRY_MS;
      const now = provider.login() ?? known;
      if (known?.id === now?.id || (await this.#replaceIssued(name, known))) known = now;
      else waitMs = Math.min(waitMs, LONGEST_RETRY_MS);
    }
  }

  /** What was issued to a login ends with it, whatever its lease says. False when that has to be tried again. */
  async #replaceIssued(name: ProviderName, login: Lease | undefined): Promise<boolean> {
    if (login === undefined) return true;
    const leased = [...this.#current.values()].filter(({ source }) => source.provider === name);
    const groups = [...groupBy(leased, ({ lease }) => lease?.id).values()].map(namesOf);
    for (const names of groups.filter((each) => this.#anyUsed(each))) {
      if ((await this.#readAgain(names)).error !== undefined) return false;
    }
    for (const names of groups.filter((each) => !this.#anyUsed(each))) this.#options.tell({ type: 'ending', names, at: login.expiresAt });
    return true;
  }

  /**
   * Reads these secrets and gives those that are good and new to the consumer. The error is the first one of a provider that could not be
   * asked, or of a value that is not there or not good: then the old one stays.
   */
  async #readAgain(names: readonly string[], { quietly = false } = {}): Promise<Read> {
    const provider = this.#current.get(names[0] ?? '')?.source.provider ?? 'env';
    const turn = (this.#turns.get(provider) ?? Promise.resolve()).then(() => this.#read(this.#withSharers(names), quietly));
    const over = turn.catch(() => undefined);
    this.#turns.set(provider, over);
    return turn;
  }

  /** Values of one lease fit each other, so they are read together. */
  #withSharers(names: readonly string[]): readonly string[] {
    const leases = new Set(names.map((name) => this.#current.get(name)?.lease?.id));
    const sharers = [...this.#current.values()].filter(({ lease }) => lease !== undefined && leases.has(lease.id));
    return [...new Set([...names, ...namesOf(sharers)])];
  }

  async #read(names: readonly string[], quietly: boolean): Promise<Read> {
    // It may have waited for its turn.
    this.#stop.signal.throwIfAborted();
    const { config, access, consumer, tell } = this.#options;
    const results = await this.#resolved(names, { config, access });
    // What was given up because of `close` failed for no other reason, and nobody waits for the rest.
    this.#stop.signal.throwIfAborted();
    if (results instanceof KzError) return { error: results };
    const good = results.filter((each) => each.state === 'set').filter(({ name }) => this.#current.has(name));
    const changed = good.filter(({ name, secret }) => this.#expired.has(name) || this.#current.get(name)?.secret.equals(secret) !== true);
    const refused = changed.length === 0 ? [] : await consumer.adopt(changed);
    const isRefused = ({ name }: SetSecret): boolean => refused.some((each) => each.name === name);
    for (const each of good.filter((one) => !isRefused(one))) {
      this.#current.set(each.name, each);
      this.#keptBecause.delete(each.name);
      this.#expired.delete(each.name);
    }
    const adopted = changed.filter((one) => !isRefused(one));
    if (adopted.length > 0) tell({ type: 'adopted', names: namesOf(adopted) });
    for (const each of refused) this.#tellKept(each);
    const failed = results.filter((each) => each.state === 'failed');
    for (const { name, error } of quietly ? [] : failed.filter(({ error }) => isAboutValue(error))) {
      this.#tellKept({ name, why: withoutName(error.message, name) });
    }
    const leased = good.find((one) => one.lease !== undefined && !isRefused(one));
    return { lease: leased?.lease, error: failed[0]?.error, refused };
  }

  #tellKept({ name, why }: NotAdopted): void {
    if (this.#keptBecause.get(name) === why) return;
    this.#keptBecause.set(name, why);
    this.#options.tell({ type: 'kept', name, why });
  }

  async #resolved(
    names: readonly string[],
    { config, access }: Pick<KeeperOptions, 'config' | 'access'>,
  ): Promise<readonly Resolved[] | KzError> {
    try {
      return (await resolveSecrets(config, { only: names }, access, this.#patience())).secrets;
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      return asKzError(error);
    }
  }

  /** Was it told now? */
  #expire(names: readonly string[]): boolean {
    const good = names.filter((name) => !this.#expired.has(name));
    if (good.length === 0) return false;
    for (const name of good) this.#expired.add(name);
    this.#options.consumer.expire(good);
    this.#options.tell({ type: 'expired', names: good });
    return true;
  }

  #anyUsed(names: readonly string[]): boolean {
    return names.some((name) => this.#options.consumer.uses(name));
  }

  #isOver({ expiresAt }: Lease): boolean {
    return this.#now() >= expiresAt;
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  #patience(): AbortSignal {
    return AbortSignal.any([this.#giveUp.signal, AbortSignal.timeout(PATIENCE_MS)]);
  }

  async #sleep(ms: number): Promise<void> {
    await (this.#options.sleep ?? quietSleep)(Math.min(ms, LONGEST_WAIT_MS), this.#stop.signal);
  }

  #halfLife({ expiresAt, durationMs }: Lease): number {
    const since = this.#now() - (expiresAt - durationMs);
    return Math.max(SHORTEST_WAIT_MS, this.#jittered(durationMs / 2, 0.1) - since);
  }

  /** Doubles; while there is a lease, so that it is asked again before the end, and at the end. */
  #retryAfter({ count }: Trouble, lease: Lease, error: KzError): number {
    const left = lease.expiresAt - this.#now();
    // A timer of Node's may be early by that.
    const toEnd = left > 0 ? left + 1 : Infinity;
    if (isMadeInVain(error)) return Math.min(toEnd, Math.max(LONGEST_RETRY_MS, (left > 0 ? left : lease.durationMs) / 2));
    if (left > 0 && left <= SHORTEST_WAIT_MS) return toEnd;
    const delay = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(count - 1, 10));
    return this.#jittered(Math.min(delay, toEnd / 2), 0.1);
  }

  #jittered(ms: number, part: number): number {
    return ms * (1 + part * (2 * (this.#options.random ?? Math.random)() - 1));
  }
}

type Next =
  { readonly type: 'lives'; readonly lease: Lease } | { readonly type: 'over' } | { readonly type: 'failed'; readonly error: KzError };

const OVER: Next = { type: 'over' };

/** Of renewing: it will not be otherwise next time. */
const HOPELESS: readonly string[] = ['lease-ended', 'provider-denied'];

interface Read {
  /** Of values that were adopted, or did not change. */
  readonly lease?: Lease | undefined;
  readonly refused?: readonly NotAdopted[];
  readonly error?: KzError | undefined;
}

async function quietSleep(ms: number, signal: AbortSignal): Promise<void> {
  await timer(ms, undefined, { signal, ref: false });
}
