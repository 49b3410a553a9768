// One exchange: a request of the child and what became of it. Holds what the audit line will say, and says it exactly once.
import type { AuditEvent, ExchangeError, ExchangeWhy, LeftToken } from '../audit/event.ts';
import type { Guard } from '../mask/guard.ts';
import type { Remasker } from '../mask/remask.ts';
import type { Scope } from '../mask/scope.ts';
import { Swap, SwapNotes } from '../mask/swap.ts';
import type { TokenTable } from '../mask/table.ts';
import { decide, type Decision } from '../policy/decide.ts';
import type { Rule } from '../policy/rule.ts';
import type { Authority } from './authority.ts';
import type { Target as DialTarget } from './dial.ts';
import type { Prepare, Prepared } from './prepare.ts';
import type { Upstream } from './upstream.ts';

/** Where a request goes: one canonical host, used for the rule, the scope and the dial. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** What all exchanges of a run share. */
export interface Session {
  readonly rules: readonly Rule[];
  readonly table: TokenTable;
  readonly remasker: Remasker;
  readonly guard: Guard;
  readonly authority: Authority;
  readonly upstream: Upstream;
  /** Whose connections to upstreams these are, where there are several clients who must not get each other's answers. */
  readonly owner?: string;
  readonly audit: (event: AuditEvent) => void;
  /** Those without a line yet, where somebody closes the log and wants to know. */
  readonly underWay?: Set<Exchange>;
  /** `.keyzero.toml:12` for a rule's index; null as long as nobody knows. */
  readonly ruleAt: (index: number) => string | null;
  /** The file that a person would edit. */
  readonly configFile: string;
  /** A private folder for bodies that are too large for memory; they hold masked tokens only. */
  readonly spoolFolder: string;
  /** Asked for each request that may go on, where its tokens are not known before. Left out: this session serves all. */
  readonly prepare?: Prepare;
  /** `none`: what is refused is refused without the lines of `.keyzero.toml` that would allow it. */
  readonly remedies?: 'none';
}

export interface Request {
  readonly protocol: 'http/1.1' | 'h2' | 'websocket' | 'raw';
  readonly target: Target;
  /** Empty, as the path is, for bytes that are not HTTP. */
  readonly method: string;
  /** Path and query as the child wrote them. */
  readonly path: string;
  /** What allows it when that is no rule: then none is asked. */
  readonly grant?: 'allow-loopback';
}

/** Of no rule. */
const GRANTED: Decision = { allow: true, rule: undefined, why: 'no-rules' };

let count = 0;

export class Exchange {
  session: Session;
  readonly request: Request;
  readonly decision: Decision;
  /** What is dialled: the request's target, and whether a rule names it. */
  readonly target: DialTarget;
  readonly notes = new SwapNotes();
  swap: Swap;
  /** What `session.prepare` found. */
  prepared: Prepared | undefined;
  /** Names of the secrets whose values were taken out of the response. */
  readonly remasked = new Set<string>();
  bytesUp = 0;
  bytesDown = 0;
  readonly #time = new Date();
  readonly #start = performance.now();
  readonly #underWay: Session['underWay'];
  #done = false;

  constructor(session: Session, request: Request, swap: Swap) {
    this.session = session;
    this.request = request;
    this.swap = swap;
    const { host, port } = request.target;
    const contents = request.protocol === 'raw' ? {} : { method: request.method, path: pathOf(request) };
    this.decision = request.grant === undefined ? decide({ host, port, ...contents }, session.rules) : GRANTED;
    this.target = { ...request.target, namedByRule: this.decision.rule?.namesHost === true, owner: session.owner };
    this.#underWay = session.underWay?.add(this);
  }

  /** From here on another session serves it, with tokens of its own. What was decided stays. */
  adopt(prepared: Prepared): void {
    const { host, port, tls } = this.request.target;
    this.prepared = prepared;
    this.session = prepared.session;
    this.swap = new Swap(prepared.session.table, host, port, tls);
  }

  /** Path and query as they go on, before anything is swapped in them. */
  get path(): string {
    return this.prepared?.path ?? this.request.path;
  }

  /** Writes the audit event; the first call wins. `why` is given for a blocked exchange, `error` for one that failed. */
  finish(status: number | null, end: { readonly why?: ExchangeWhy; readonly error?: ExchangeError } = {}): void {
    if (this.#done) return;
    this.#done = true;
    this.#underWay?.delete(this);
    const { session, request, decision, notes } = this;
    const { host, port, tls } = request.target;
    const isRaw = request.protocol === 'raw';
    session.audit({
      type: 'exchange',
      time: this.#time.toISOString(),
      id: (count += 1),
      ms: Math.round((performance.now() - this.#start) * 10) / 10,
      protocol: request.protocol,
      tls,
      method: isRaw ? null : request.method,
      host,
      port,
      path: isRaw ? null : request.path,
      status,
      decision: end.why === undefined ? 'allowed' : 'blocked',
      rule: decision.rule === undefined ? null : { index: decision.rule.index, at: session.ruleAt(decision.rule.index) },
      why: end.why ?? request.grant ?? decision.why,
      // What was blocked was not sent.
      swapped: end.why === undefined ? notes.swapped.map(({ name, where }) => ({ name, where })) : [],
      left: notes.left.map((left): LeftToken => ({ ...pick(left), allow: this.#wouldAllow(left) })),
      remasked: [...this.remasked],
      bytes_up: this.bytesUp,
      bytes_down: this.bytesDown,
      error: end.error ?? null,
    });
  }

  /** The line of config that would have let the token be swapped, in place of what is there; empty when there is none. */
  #wouldAllow({ name, reason, slot }: Left): string {
    const entry = this.session.table.entries.find((candidate) => candidate.name === name);
    switch (reason) {
      case 'host':
        return hostsLine(entry?.scope, this.request.target);
      case 'slot':
        return slot === '' ? '' : `swap = [${[...(entry?.slots.words ?? []), slot].map((word) => JSON.stringify(word)).join(', ')}]`;
      case 'encoding':
      case 'expired':
        return '';
    }
  }
}

/** The scope with this target added to it. Without TLS the port has to be named. */
export function hostsLine(scope: Scope | undefined, { host, port, tls }: Target): string {
  const added = tls && port === 443 ? host : `${host}:${String(port)}`;
  const before = scope === undefined || scope.from === 'any' ? [] : scope.patterns.filter((pattern) => !pattern.startsWith('re:'));
  return `hosts = [${[...new Set([...before, added])].map((each) => JSON.stringify(each)).join(', ')}]`;
}

function pathOf({ path }: Request): string {
  const query = path.indexOf('?');
  return query === -1 ? path : path.slice(0, query);
}

type Left = SwapNotes['left'][number];

function pick({ name, where, reason }: Left): Pick<Left, 'name' | 'where' | 'reason'> {
  return { name, where, reason };
}
