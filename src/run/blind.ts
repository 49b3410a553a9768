// One blind run: the masked tokens, the proxy that knows what they stand for, the files and variables that lead the child to it, and the log.
// Nothing of it outlives `close`.
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { AuditLog } from '../audit/log.ts';
import { runsFolder } from '../audit/runs.ts';
import type { Config } from '../config/load.ts';
import { formatPlace, type Place } from '../core/errors.ts';
import { Opened as OpenedFor } from '../core/opened.ts';
import type { Guard } from '../mask/guard.ts';
import type { Rule } from '../policy/rule.ts';
import { Keeper } from '../providers/renew.ts';
import type { Access } from '../providers/resolve.ts';
import type { Resolution } from '../providers/secrets.ts';
import { Authority } from '../proxy/authority.ts';
import type { Exchange, Session } from '../proxy/exchange.ts';
import { openDoors, type Received } from '../proxy/doors.ts';
import type { Reach } from '../proxy/names.ts';
import { peerBelongsTo } from '../proxy/peer-process.ts';
import { trustedRoots, upstreamAuthorities } from '../proxy/roots.ts';
import { ProxyServer } from '../proxy/server.ts';
import { prepareTrust } from '../proxy/trust.ts';
import { UpstreamProxies } from '../proxy/upstream-proxy.ts';
import { Upstream } from '../proxy/upstream.ts';
import { blindEnvironment, mayBeAddedTo, type Inheritance } from './blind-environment.ts';
import { privateFolder } from './blind-folder.ts';
import { linesOfRules, rulesOf } from './blind-rules.ts';
import { namedLogins } from './logins.ts';
import { blindSecrets, type BlindSecrets, type Notice } from './blind-secrets.ts';
import type { ChildEnvironment } from './environment.ts';
import { LiveSecrets } from './live-secrets.ts';
import { livingProcesses, withDescendants } from './process-tree.ts';
import { rotationEvent, rotationNotice } from './rotation-words.ts';
import { tellStrayErrors } from './stray-errors.ts';

export interface BlindOptions {
  readonly env: NodeJS.ProcessEnv;
  /** With which the secrets were read, and are read again while the program runs. */
  readonly access: Access;
  /** Of kz, for the log. */
  readonly version: string;
  /** The program, without its arguments. */
  readonly command: string;
  /** The file that makes every Node of the child use the proxy. */
  readonly preload: string;
  readonly clean: boolean;
  readonly keep: readonly string[];
  /** The doors through which a sandboxed program comes; undefined when it comes over the machine's loopback. */
  readonly enclosed?: Enclosed | undefined;
  /** Something to tell the user while the program runs. */
  readonly tell: (notice: Notice) => void;
}

/** Closed with how the program ended. */
class Opened extends OpenedFor<string> {}

/** Reading the roots blocks for 20 ms. */
const PREPARE_AFTER_MS = 100;

/** A network of the program's own, as the proxy sees it. */
export interface Enclosed {
  /** Where the proxy listens in there. */
  readonly proxyPort: number;
  readonly reach: Reach;
  /** `localhost` is the program's own, also for those that use the proxy. */
  readonly ownLoopback: boolean;
  readonly doors: Promise<Received>;
  /** The run's folder, which is mounted already. */
  readonly folder: string;
}

export interface BlindRun {
  readonly environment: ChildEnvironment;
  /** The run's own, which the program may read. */
  readonly folder: string;
  /** Of the proxy, as the program sees it. */
  readonly proxyPort: number;
  /** The log's id, for `kz audit --run`. */
  readonly id: string;
  /** `status` is how the program ended, for the log: `exit 0`. */
  close(status: string): Promise<void>;
}

/** Throws everything that is wrong before anything is started. */
export async function openBlindRun(config: Config, resolution: Resolution, options: BlindOptions): Promise<BlindRun> {
  const rules = await rulesOf(config);
  const secrets = blindSecrets(config, resolution.secrets, rules);
  const roots = await trustedRoots(options.env);
  const upstreamCa = config.blind?.upstream_ca === undefined ? [] : upstreamAuthorities(config.blind.upstream_ca);
  for (const text of roots.warnings) options.tell({ level: 'warning', text });
  for (const notice of secrets.notices) options.tell(notice);
  const opened = new Opened();
  opened.add(tellStrayErrors(options.tell));
  try {
    const folder = options.enclosed?.folder ?? privateFolder();
    // What the program made unremovable stays: that is no reason not to end as the program did.
    opened.add(() => rm(folder, { recursive: true, force: true }).catch(() => undefined));
    const live = new LiveSecrets(secrets, config, rules);
    const { guard } = live;
    const log = openLog(config, secrets, { rules, live, ...options });
    opened.add((status) => {
      log.write({ type: 'run-ended', time: new Date().toISOString(), status, lost: log.lost });
      return log.close();
    });
    const underWay = new Set<Exchange>();
    opened.add(() => allFinished(underWay));
    const upstream = openUpstream([...roots.certificates, ...upstreamCa], options.env, opened);
    const places = await linesOfRules(config);
    const session: Session = {
      rules,
      table: live.table,
      remasker: live.remasker,
      get guard() {
        return live.guard;
      },
      authority: Authority.create(),
      upstream,
      audit: (event) => {
        log.write(event);
      },
      underWay,
      ruleAt: (index) => placeText(places[index]),
      configFile: config.files.at(-1)?.path ?? '.keyzero.toml',
      spoolFolder: folder,
    };
    const { proxyUrl, proxyPort } = await listen(session, opened, options.enclosed);
    const { authority } = session;
    const parent = mayBeAddedTo(options.env, inheritance(config, resolution, { guard, ...options }));
    const ownLoopback = options.enclosed?.ownLoopback === true;
    const trust = { folder, authority, roots: roots.certificates, proxyUrl, parent, preload: options.preload, ownLoopback };
    const variables = await prepareTrust(trust);
    const environment = childEnvironment(config, resolution, { secrets, variables, guard, ...options });
    // Between the program's start and its first request, which should not wait for it; one that is over by then does not need it.
    const later = setTimeout(() => {
      upstream.prepare();
    }, PREPARE_AFTER_MS).unref();
    opened.add(() => {
      clearTimeout(later);
    });
    keepAlive(config, resolution, { live, log, opened, ...options });
    return { environment, folder, proxyPort, id: log.run, close: (status) => opened.close(status) };
  } catch (error) {
    await opened.close('not started');
    throw error;
  }
}

function openUpstream(ca: readonly string[], env: NodeJS.ProcessEnv, opened: Opened): Upstream {
  const upstream = new Upstream({ ca, proxies: new UpstreamProxies(env) });
  opened.add(() => {
    upstream.destroy();
  });
  return upstream;
}

/** Of the event loop; an end takes a few to get about. */
const MOST_TURNS = 50;

/** Once every connection has ended, each of them knows it and writes its line in the log, or has it written: none may come after the last one. */
async function allFinished(underWay: ReadonlySet<Exchange>): Promise<void> {
  for (let count = 0; underWay.size > 0 && count < MOST_TURNS; count += 1) await turn();
  for (const exchange of underWay) exchange.finish(null, { error: 'client-gone' });
}

const WORDS = { adopted: () => 'the next request carries the new value', ending: 'the program keeps the old one' };

interface Kept extends Pick<BlindOptions, 'access' | 'tell'> {
  readonly live: LiveSecrets;
  readonly log: AuditLog;
  readonly opened: Opened;
}

/** The next request carries what a provider has now; the child is not touched. */
function keepAlive(config: Config, { secrets }: Resolution, { access, tell, live, log, opened }: Kept): void {
  const keeper = Keeper.start(secrets, {
    config,
    access,
    consumer: live,
    tell: (event) => {
      tell(rotationNotice(event, WORDS));
      log.write(rotationEvent(event));
    },
  });
  opened.add(() => keeper?.close());
}

interface Listening {
  /** With the run's credential. */
  readonly proxyUrl: string;
  readonly proxyPort: number;
}

async function listen(session: Session, opened: Opened, enclosed: Enclosed | undefined): Promise<Listening> {
  const credential = randomBytes(24).toString('base64url');
  const proxyPort =
    enclosed === undefined ? await listenOnLoopback(session, opened, credential) : behind(enclosed, { session, opened, credential });
  return { proxyPort, proxyUrl: `http://kz:${credential}@127.0.0.1:${String(proxyPort)}` };
}

async function listenOnLoopback(session: Session, opened: Opened, credential: string): Promise<number> {
  const proxy = await ProxyServer.listen(session, { credential, isOurs: (connection) => peerBelongsTo(connection, ownDescendants) });
  opened.add(() => proxy.close());
  return proxy.port;
}

function behind({ proxyPort, reach, doors }: Enclosed, { session, opened, credential }: Entering): number {
  const proxy = ProxyServer.behind(session, { credential });
  opened.add(() => proxy.close());
  doors.then(
    (received) => {
      const open = openDoors(session, proxy, received, { reach });
      opened.add(() => {
        open.close();
      });
    },
    // Whoever starts the program hears of it.
    () => undefined,
  );
  return proxyPort;
}

interface Entering {
  readonly session: Session;
  readonly opened: Opened;
  readonly credential: string;
}

interface Given extends Wishes, Pick<BlindOptions, 'env'> {
  readonly secrets: BlindSecrets;
  /** The proxy and what makes the child use it. */
  readonly variables: Readonly<Record<string, string>>;
}

interface Wishes extends Pick<BlindOptions, 'clean' | 'keep'> {
  readonly guard: Guard;
}

function childEnvironment(config: Config, resolution: Resolution, { env, secrets, variables, ...wishes }: Given): ChildEnvironment {
  return blindEnvironment(env, {
    masked: secrets.texts,
    exposed: secrets.exposed,
    session: new Map(Object.entries(variables)),
    ...inheritance(config, resolution, wishes),
  });
}

function inheritance(config: Config, { names }: Resolution, { clean, keep, guard }: Wishes): Inheritance {
  return {
    declared: names,
    clean: clean || config.blind?.clean_env === true,
    keep: [...keep, ...(config.blind?.keep_env ?? [])],
    credentials: [...namedLogins(config), ...envRefs(config)],
    holdsSecret: (text) => guard.holds(text),
  };
}

function envRefs({ secrets }: Config): string[] {
  return [...secrets.values()].filter(({ provider }) => provider === 'env').map(({ ref }) => ref);
}

function placeText(place: Place | undefined): string | null {
  return place === undefined ? null : formatPlace({ file: place.file, ...(place.line === undefined ? {} : { line: place.line }) });
}

interface LogFacts extends Pick<BlindOptions, 'env' | 'version' | 'command' | 'tell'> {
  readonly rules: readonly Rule[];
  readonly live: LiveSecrets;
}

function openLog(config: Config, secrets: BlindSecrets, { env, version, command, tell, rules, live }: LogFacts): AuditLog {
  return AuditLog.open({
    folder: runsFolder(env),
    started: {
      version,
      command,
      config: config.files.map(({ path }) => path),
      secrets: secrets.guarded.map(({ name, scope }) => ({
        name,
        scope: scope.patterns,
        scope_from: scope.from,
        exposed: secrets.exposed.has(name),
      })),
      rules: rules.length,
    },
    remask: (text) => live.guard.masked(text),
    onLost: (code) => {
      tell({ level: 'warning', text: `the audit log cannot be written (${code}); requests from now on are not in it` });
    },
  });
}

function ownDescendants(): readonly number[] {
  const living = livingProcesses();
  const roots = living.filter(({ pid }) => pid === process.pid);
  return withDescendants(roots, living).flatMap(({ pid }) => (pid === process.pid ? [] : [pid]));
}
