// From what was logged to the config lines that it needed, as TOML to paste. Pure. It allows what was swapped and reached, exactly; what was
// blocked or left as it was is for a person to decide, so it is there in comments only.
import { tomlKey, tomlString } from '../config/toml-text.ts';
import type { AuditEvent, Exchange, ExchangeWhy, LeftToken, Refused, RefusedWhy } from './event.ts';

/** Undefined when nothing was requested. The text is TOML as a whole; each `[secrets.NAME]` stands for an entry that is there already. */
export function suggestConfig(events: Iterable<AuditEvent>): string | undefined {
  const seen = collect(events);
  if (seen.count === 0) return undefined;
  const blocks = [...secretBlocks(seen), ...ruleBlocks(seen)];
  return blocks.map((lines) => `${lines.join('\n')}\n`).join('\n');
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** Bytes that are not HTTP are carried only where a rule names the port too. */
  readonly raw: boolean;
}

interface Blocked extends Omit<Target, 'tls' | 'port'> {
  /** Null when only a name was looked up. */
  readonly port: number | null;
  readonly why: ExchangeWhy | RefusedWhy;
  readonly at: string | null;
  times: number;
}

interface Seen {
  count: number;
  readonly reached: Map<string, Target>;
  /** By the secret's name. */
  readonly swapped: Map<string, Map<string, Target>>;
  readonly left: Map<string, { readonly token: LeftToken; readonly host: string; times: number }>;
  readonly blocked: Map<string, Blocked>;
}

function collect(events: Iterable<AuditEvent>): Seen {
  const seen: Seen = { count: 0, reached: new Map(), swapped: new Map(), left: new Map(), blocked: new Map() };
  for (const event of events) {
    if (event.type === 'refused') addRefused(seen, event);
    if (event.type !== 'exchange') continue;
    seen.count++;
    if (event.decision === 'blocked') addBlocked(seen, { ...event, raw: event.protocol === 'raw', at: event.rule?.at ?? null });
    // A name that does not resolve is most likely a typo; what `allow_loopback` allows needs no rule.
    else if (event.error !== 'dns' && event.why !== 'allow-loopback') addReached(seen, event);
    for (const token of event.left) addLeft(seen, token, event.host);
  }
  return seen;
}

/** Of these only two are a matter of rules; the others say nothing about the config. */
function addRefused(seen: Seen, { host, port, why }: Refused): void {
  if (host === null || (why !== 'denied-name' && (why !== 'not-http' || port === null))) return;
  seen.count++;
  addBlocked(seen, { host, port, why, raw: why === 'not-http', at: null });
}

function addBlocked(seen: Seen, { host, port, why, raw, at }: Omit<Blocked, 'times'>): void {
  const key = `${why} ${place(host, port)}`;
  const entry = seen.blocked.get(key) ?? { host, port, why, raw, at, times: 0 };
  entry.times++;
  seen.blocked.set(key, entry);
}

function addReached(seen: Seen, { host, port, tls, protocol, swapped }: Exchange): void {
  const target = { host, port, tls, raw: protocol === 'raw' };
  const key = `${protocol === 'raw' ? 'raw ' : ''}${host}:${String(port)}`;
  seen.reached.set(key, target);
  for (const { name } of swapped) {
    const targets = seen.swapped.get(name) ?? new Map<string, Target>();
    seen.swapped.set(name, targets.set(key, target));
  }
}

function addLeft(seen: Seen, token: LeftToken, host: string): void {
  const key = JSON.stringify([token.name, token.where, token.reason, host]);
  const entry = seen.left.get(key) ?? { token, host, times: 0 };
  entry.times++;
  seen.left.set(key, entry);
}

function secretBlocks({ swapped, left }: Seen): string[][] {
  const names = [...new Set([...swapped.keys(), ...[...left.values()].map(({ token }) => token.name)])].sort();
  const blocks = names.map((name) => {
    const header = `[${tomlKey(['secrets', name])}]`;
    const targets = swapped.get(name);
    const hosts =
      targets === undefined
        ? []
        : [
            `hosts = [${scopeOf([...targets.values()])
              .map(tomlString)
              .join(', ')}]`,
          ];
    const comments = [...left.values()].filter(({ token }) => token.name === name).map(leftComment);
    return [hosts.length === 0 ? comment(header) : header, ...hosts, ...comments];
  });
  const [first, ...others] = blocks;
  return first === undefined
    ? []
    : [['# Into the entry of each secret, which is there already; the header a second time is an error:', ...first], ...others];
}

/** Patterns of `hosts`: a port only where one is needed to say which, or because nothing goes out in the clear without it. */
function scopeOf(targets: readonly Target[]): string[] {
  const [secure, clear] = [targets.filter(({ tls }) => tls), targets.filter(({ tls }) => !tls)];
  const patterns = byHost(secure).map(({ host, port }) => (port === undefined ? host : `${host}:${String(port)}`));
  return [...new Set([...patterns, ...clear.map(({ host, port }) => `${host}:${String(port)}`)])];
}

function leftComment({ token, host, times }: { token: LeftToken; host: string; times: number }): string {
  const { where, allow } = token;
  return comment(`not swapped in ${where} to ${host} (${counted(times)})${allow === '' ? '' : `; what would allow it: ${allow}`}`);
}

function ruleBlocks({ reached, blocked }: Seen): string[][] {
  const rules = byHost([...reached.values()]).map((target) => rule(true, target));
  return [
    ['# In place of all [[blind.connections]] that are there. The first that matches counts.', ...(rules[0] ?? [])],
    ...rules.slice(1),
    ...[...blocked.values()].map(blockedBlock),
    ['# Nothing else.', ...rule(false, { host: '*' })],
  ];
}

/** What another rule would have let through; the rest is no matter of rules. */
const RULE_WOULD_HELP: readonly Blocked['why'][] = ['rule', 'no-match', 'address-forbidden', 'not-http', 'denied-name'];

/** The codes of the log, where they say nothing to a reader. */
const WHY: Readonly<Partial<Record<Blocked['why'], string>>> = {
  'no-match': 'no rule allows it',
  'denied-name': 'no rule allows it',
  'address-forbidden': 'a private address that no rule names',
  'secret-out-of-scope': 'a real value to a host outside its scope',
};

function blockedBlock({ host, port, raw, why, at, times }: Blocked): string[] {
  const reason = `blocked (${counted(times)}): ${place(host, port)}, ${WHY[why] ?? why}${at === null ? '' : ` at ${at}`}`;
  if (!RULE_WOULD_HELP.includes(why)) return [comment(reason)];
  const lines = rule(true, { host, port: port === null || isUsual({ port, raw }) ? undefined : port });
  return [comment(`${reason}; to allow it, uncomment:`), ...lines.map(comment)];
}

function place(host: string, port: number | null): string {
  return port === null ? host : `${host}:${String(port)}`;
}

function rule(allow: boolean, { host, port }: { readonly host: string; readonly port?: number | undefined }): string[] {
  return [
    '[[blind.connections]]',
    `allow = ${String(allow)}`,
    `host = ${tomlString(host)}`,
    ...(port === undefined ? [] : [`port = ${String(port)}`]),
  ];
}

/** Sorted. Without a port when a host was reached at 80 or 443 only; without one, all ports would match. */
function byHost(targets: readonly Target[]): { readonly host: string; readonly port?: number }[] {
  const hosts = [...new Set(targets.map(({ host }) => host))].sort();
  return hosts.flatMap((host) => {
    const own = targets.filter((target) => target.host === host);
    if (own.every(isUsual)) return [{ host }];
    return [...new Set(own.map(({ port }) => port))].sort((a, b) => a - b).map((port) => ({ host, port }));
  });
}

function isUsual({ port, raw }: Pick<Target, 'port' | 'raw'>): boolean {
  return !raw && (port === 80 || port === 443);
}

function counted(times: number): string {
  return times === 1 ? 'once' : `${String(times)} times`;
}

/** What a child chose must not end the comment and become config. */
function comment(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are the ones to find
  return `# ${text.replace(/[\u0000-\u001F\u007F]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)}`;
}
