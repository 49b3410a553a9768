// One server: the bundle and everything that serves it, opened in order and closed in the opposite one.
import { resolve as absolute } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { Decision } from '../audit/decision.ts';
import { formatPlace, KzError } from '../core/errors.ts';
import { Opened } from '../core/opened.ts';
import { identify } from '../providers/file-watch.ts';
import type { ProviderContext } from '../providers/provider.ts';
import { trustedRoots } from '../proxy/roots.ts';
import { UpstreamProxies } from '../proxy/upstream-proxy.ts';
import { Upstream } from '../proxy/upstream.ts';
import { LONGEST_ANSWER_MS } from './backends.ts';
import { compileBundle, type Compiled } from './compile.ts';
import { httpUseCases, mcpUseCases, type FaceParts } from './faces.ts';
import { HealthChecks } from './health.ts';
import type { ServerFailure } from './failure.ts';
import type { Readiness } from './http/http-routes.ts';
import { HttpServer, type TlsIdentity } from './http/http.ts';
import { DEFAULT_LIMITS, Limits } from './limits.ts';
import { cannotListen, formatListen, parseListen, type ListenAddress } from './http/listen.ts';
import { openMcpHttp } from './mcp/mcp-http.ts';
import { serveMcpStdio } from './mcp/mcp-stdio.ts';
import type { McpOptions } from './mcp/mcp.ts';
import { Records } from './records.ts';
import { Reloader } from './reload.ts';
import { checkOwnJwt, serversOwnJwt } from './identity/own-jwt.ts';
import type { Caller } from './identity/verify.ts';
import { Retired } from './retired.ts';
import { Seal } from './tokens/seal.ts';
import { readTls, TlsReloader, writeCertificate, type TlsFiles } from './http/tls-files.ts';
import { LiveService } from './service.ts';
import { ShortLived } from './tokens/short-lived.ts';
import { proxyAuthority } from './tokens/proxy-authority.ts';
import { checkFlags, tokenKeyFile } from './server-flags.ts';
import { loadTokenKeys } from './tokens/token-keys.ts';
import { TokenProxy } from './tokens/token-proxy.ts';
import { UseCases } from './use-cases.ts';

export interface ServerOptions {
  readonly context: ProviderContext;
  /** Of kz. */
  readonly version: string;
  readonly bundle: string;
  /** Undefined: no HTTP. */
  readonly listen: string | undefined;
  /** The pipes of an MCP client; undefined: none. */
  readonly mcp: { readonly stdin: Readable; readonly stdout: Writable } | undefined;
  readonly proxy: string | undefined;
  /** Where to write the certificate of the proxy's authority. */
  readonly proxyCaFile: string | undefined;
  readonly tls: TlsFiles | undefined;
  readonly allowPlaintext: boolean;
  readonly allowedHosts: readonly string[];
  readonly allowedOrigins: readonly string[];
  /** Of callers on standard input who bring none. */
  readonly jwt: { readonly file: string | undefined; readonly audience: string | undefined };
  readonly tokenKeyFile: string | undefined;
  readonly healthCheck: boolean;
  /** What `--audit` says: see server-flags.ts. */
  readonly audit: string | undefined;
  /** Of one caller; 0: as many as it likes. */
  readonly callsPerSecond: number;
  readonly fetchTimeoutMs: number;
  readonly tell: (level: 'notice' | 'warning', text: string) => void;
}

export interface RunningServer {
  /** What to tell whoever started it: one line each. */
  readonly announcements: readonly string[];
  /** Reads the bundle and the TLS files again, and begins a new audit file if the old one was moved away. */
  reload(): void;
  /** Lets what runs come to its end, for some seconds. */
  stop(): void;
  /** Once everything is closed: after `stop`, or when the client on standard input is gone. */
  readonly ended: Promise<void>;
}

/** Throws everything that is wrong before anything is served. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const opened = new Opened();
  try {
    const server = await Server.open(options, opened);
    return server;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

class Server implements RunningServer {
  readonly announcements: string[] = [];
  readonly ended: Promise<void>;
  readonly #options: ServerOptions;
  readonly #opened: Opened;
  readonly #stopping = new AbortController();
  readonly #records: Records;
  readonly #limits: Limits;
  readonly #service: LiveService;
  readonly #upstream: Upstream;
  readonly #retired = new Retired();
  readonly #checks = new HealthChecks();
  readonly #reloader: Reloader;
  readonly #startedAt = performance.now();
  #compiled: Compiled;
  #tls: TlsReloader | undefined;
  #proxy: TokenProxy | undefined;
  #end: () => void = () => undefined;

  static async open(options: ServerOptions, opened: Opened): Promise<Server> {
    checkFlags(options);
    // Before it is read: what it becomes from then on is a change.
    const known = await identify(absolute(options.bundle));
    const compiled = await compileBundle(options.bundle, options);
    const tls = options.tls === undefined ? undefined : await readTls(options.tls);
    const keyFile = tokenKeyFile(options.tokenKeyFile, options.context.env);
    const seal = keyFile === undefined ? Seal.random() : Seal.open(await loadTokenKeys(keyFile));
    const shortLived = await ShortLived.fromEnvironment(options.context.env);
    const roots = await trustedRoots(options.context.env);
    for (const text of roots.warnings) options.tell('warning', text);
    const upstream = new Upstream({ ca: roots.certificates, proxies: new UpstreamProxies(options.context.env) });
    opened.add(() => {
      upstream.destroy();
    });
    const server = new Server(options, { opened, known, compiled, upstream });
    await server.#openFaces({ tls, seal, shortLived });
    return server;
  }

  private constructor(options: ServerOptions, { opened, known, compiled, upstream }: Parts) {
    this.#options = options;
    this.#opened = opened;
    this.#compiled = compiled;
    this.#upstream = upstream;
    this.#limits = new Limits({
      ...DEFAULT_LIMITS,
      rate: options.callsPerSecond,
      burst: 2 * options.callsPerSecond,
    });
    this.#records = Records.open(options, compiled, () => this.#limits.inFlight);
    opened.add(() => this.#records.close());
    this.#service = new LiveService(compiled, {
      audit: (event) => {
        this.#records.decision(event);
      },
      tell: (text) => {
        options.tell('warning', text);
      },
      limits: this.#limits,
    });
    opened.add(() => this.#retired.close(this.#compiled.backends));
    opened.add(() => this.#checks.close());
    opened.add(() => {
      this.#stopping.abort();
    });
    this.#reloader = new Reloader(compiled.bundle.file, {
      ...{ context: options.context, tell: options.tell, known, signal: this.#stopping.signal },
      adopt: (next) => {
        this.#adopt(next);
      },
      refuse: (error) => {
        this.#refuse(error);
      },
    });
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  reload(): void {
    this.#reloader.now();
    this.#tls?.now();
    this.#records.reopen();
  }

  stop(): void {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    if (this.#options.mcp === undefined) void this.#proxy?.drain();
    // What cannot be closed ends with the process.
    this.#opened.close().then(this.#end, this.#end);
  }

  async #openFaces({ tls, seal, shortLived }: FaceNeeds): Promise<void> {
    const options = this.#options;
    const { fetchTimeoutMs, version } = options;
    const useCases = new UseCases({ service: this.#service, seal, shortLived, upstream: this.#upstream, fetchTimeoutMs });
    const parts: FaceParts = { service: this.#service, useCases, proxyUrl: () => this.#proxyUrl(), isSealShared: seal.isShared };
    const health = options.healthCheck ? (signal: AbortSignal) => this.#health(signal) : undefined;
    const mcp: McpOptions = { version, useCases: mcpUseCases(parts, health), onInternal: this.#internal };
    if (options.proxy !== undefined) await this.#openProxy(parseListen(options.proxy), { seal, shortLived });
    if (options.listen !== undefined) await this.#openHttp(parseListen(options.listen), { tls, parts, mcp });
    if (options.mcp !== undefined) this.#openStdio(options.mcp, mcp);
  }

  async #openProxy(listen: ListenAddress, { seal, shortLived }: Pick<FaceNeeds, 'seal' | 'shortLived'>): Promise<void> {
    const { context, proxyCaFile } = this.#options;
    const authority = await proxyAuthority(context.env);
    this.#proxy = await TokenProxy.listen({
      ...{ service: this.#service, seal, shortLived, upstream: this.#upstream, authority },
      listen: { host: listen.host ?? '0.0.0.0', port: listen.port },
      audit: (event) => {
        this.#records.exchange(event);
      },
    }).catch((error: unknown) => {
      throw cannotListen(listen, '--proxy', error);
    });
    const proxy = this.#proxy;
    this.#opened.add(async () => {
      // Its requests run too. An MCP client that ends its server has nobody left who waits, and kills what takes long.
      if (this.#options.mcp === undefined) await proxy.drain();
      await proxy.close();
    });
    if (proxyCaFile !== undefined) await writeCertificate(proxyCaFile, authority.certificate);
    this.announcements.push(`proxy: ${this.#proxyUrl() ?? ''}`);
  }

  async #openHttp(listen: ListenAddress, { tls, parts, mcp }: HttpNeeds): Promise<void> {
    const mcpHttp = await openMcpHttp(mcp);
    const { allowedHosts, allowedOrigins } = this.#options;
    const http = await HttpServer.listen({
      ...{ service: this.#service, listen, tls, allowedHosts, allowedOrigins, limits: this.#limits, metrics: this.#records.metrics },
      ...httpUseCases(parts),
      whose: (jwt, signal) => this.#whose(jwt, signal),
      ready: () => this.#ready(),
      mcp: (request, response) => void mcpHttp.handle(request, response),
      onInternal: this.#internal,
    });
    this.#watchTls(http, tls);
    this.#opened.add(async () => {
      // Its calls run too, and are waited for.
      await Promise.all([http.drain(), mcpHttp.drain()]);
      await mcpHttp.close();
      await http.close();
    });
    this.announcements.push(`listening on ${http.url} (MCP at ${http.url}/mcp)`);
  }

  #watchTls(http: HttpServer, served: TlsIdentity | undefined): void {
    const { tls: files, tell } = this.#options;
    if (files === undefined || served === undefined) return;
    const { signal } = this.#stopping;
    const adopt = (identity: TlsIdentity): void => {
      http.reloadTls(identity);
    };
    this.#tls = new TlsReloader({ files, served, adopt, tell, signal });
  }

  #whose(jwt: string, signal: AbortSignal): Promise<Caller | undefined> {
    return this.#service.served.verifier.verify(jwt, signal).catch(() => undefined);
  }

  #openStdio(streams: NonNullable<ServerOptions['mcp']>, mcp: McpOptions): void {
    const { jwt, context, tell } = this.#options;
    const { signal } = this.#stopping;
    const refused = (failure: ServerFailure): void => {
      this.#service.refused('mcp', failure);
    };
    const ownJwt = serversOwnJwt({ jwt, context, tell, refused });
    void checkOwnJwt({ jwt, context, tell }, signal);
    const over = serveMcpStdio({ ...mcp, ownJwt }, streams, signal).catch(this.#internal);
    this.#opened.add(() => over);
    void over.then(() => {
      this.stop();
    });
  }

  #proxyUrl(): string | undefined {
    const { proxy } = this.#options;
    if (proxy === undefined || this.#proxy === undefined) return undefined;
    return `http://${formatListen({ host: parseListen(proxy).host, port: this.#proxy.port })}`;
  }

  #adopt(next: Compiled): void {
    const old = this.#compiled;
    this.#compiled = next;
    this.#service.replace(next);
    this.#records.reloaded(next.bundle, 0);
    this.#options.tell('notice', `serving ${next.bundle.file} anew`);
    // Calls that have begun may still ask the old backends, and use what these lent from then on.
    this.#retired.add(old.backends, LONGEST_ANSWER_MS + this.#options.fetchTimeoutMs);
  }

  #refuse(error: KzError): void {
    const problems = error.code === 'several' ? error.problems : [error];
    this.#records.reloaded(this.#compiled.bundle, problems.length);
    for (const problem of problems) this.#options.tell('warning', wordsOf(problem));
    this.#options.tell('warning', 'the bundle was not taken over; the old one serves on');
  }

  async #ready(): Promise<Readiness> {
    const found = await this.#service.served.verifier.check(AbortSignal.timeout(READY_TIMEOUT_MS));
    const problems = [...found].flatMap(([issuer, problem]) => (problem === undefined ? [] : [`issuer ${issuer}: its keys cannot be had`]));
    // One issuer that is down is down for every server: whoever took them all away would take the callers of the other issuers with it.
    return { ok: problems.length === 0 || problems.length < found.size, problems };
  }

  #health(signal: AbortSignal): ReturnType<HealthChecks['run']> {
    const tell = (text: string): void => {
      this.#options.tell('warning', text);
    };
    const audit = (event: Decision): void => {
      this.#records.decision(event);
    };
    return this.#checks.run({ served: this.#service.served, upstream: this.#upstream, startedAt: this.#startedAt, audit, tell }, signal);
  }

  readonly #internal = (error: unknown): void => {
    this.#options.tell('warning', `unexpected ${error instanceof Error ? error.constructor.name : typeof error}; this is a bug in kz`);
  };
}

interface Parts {
  readonly opened: Opened;
  /** Of the bundle's file, before it was read. */
  readonly known: string;
  readonly compiled: Compiled;
  readonly upstream: Upstream;
}

interface FaceNeeds {
  readonly tls: TlsIdentity | undefined;
  readonly seal: Seal;
  readonly shortLived: ShortLived | undefined;
}

interface HttpNeeds {
  readonly tls: TlsIdentity | undefined;
  readonly parts: FaceParts;
  readonly mcp: McpOptions;
}

/** Probes wait for a few seconds only. */
const READY_TIMEOUT_MS = 2000;

function wordsOf(problem: KzError): string {
  return `${problem.at === undefined ? '' : `${formatPlace(problem.at)}: `}${problem.message}`;
}
