// What the server writes down of its work: each decision as a line of the log and as a count.
import { DecisionLog } from '../audit/decision-log.ts';
import type { Decision } from '../audit/decision.ts';
import { KzError } from '../core/errors.ts';
import type { Compiled } from './compile.ts';
import { exchangeLine } from './exchange-line.ts';
import { JWT_FAILURES, type FailureCode } from './failure.ts';
import { Metrics } from './metrics.ts';
import type { ServerOptions } from './serve.ts';
import { auditSink } from './server-flags.ts';
import type { TokenProxyEvent } from './tokens/token-proxy.ts';

/** Why a request was refused without, or in spite of, an answer of the policies. Every other code is in the line of the decision that it was. */
const BESIDE_POLICIES: ReadonlySet<string> = new Set<FailureCode>([
  ...(['token-invalid', 'token-expired', 'jwt-expired', 'request-invalid', 'header-forbidden'] as const),
]);

/** The bundle that serves from now on, or goes on. */
type Serving = Pick<Compiled['bundle'], 'version' | 'sha256'>;

export class Records {
  readonly metrics: Metrics;
  readonly #log: DecisionLog;
  readonly #tell: ServerOptions['tell'];

  /** Throws `write-failed`: a server that cannot be audited does not start. */
  static open(options: ServerOptions, { bundle, version }: Compiled, inFlight: () => number): Records {
    const log = DecisionLog.open({
      sink: auditSink(options),
      started: { version: options.version, bundle: bundle.file, bundle_version: version, bundle_sha256: bundle.sha256 },
      onLost: (code) => {
        options.tell('warning', `the audit log cannot be written (${code}); decisions from now on are not in it`);
      },
    });
    return new Records(log, new Metrics({ version: options.version, inFlight, auditLost: () => log.lost }), options.tell);
  }

  private constructor(log: DecisionLog, metrics: Metrics, tell: ServerOptions['tell']) {
    this.#log = log;
    this.#tell = tell;
    this.metrics = metrics;
    metrics.bundleLoaded(new Date());
  }

  decision(event: Decision): void {
    this.#log.write(event);
    const { face, tool, outcome, policy, code } = event;
    const jwtFailure = JWT_FAILURES.find((each) => each === code);
    if (jwtFailure !== undefined) this.metrics.jwtFailure(jwtFailure);
    this.metrics.decision({ face, tool: tool ?? 'none', outcome, policy: policy ?? undefined });
  }

  /** Each use of a token that came as far as the policies was a decision and has its line: here is everything else. */
  exchange({ event, caller, refs, code }: TokenProxyEvent): void {
    if (refs.length > 0 || (event.type !== 'exchange' && event.type !== 'refused')) return;
    if (code !== undefined && !BESIDE_POLICIES.has(code)) return;
    this.decision(exchangeLine(event, { caller, code }));
  }

  /** `problems`: of a bundle that was not taken over. */
  reloaded({ version: bundle_version, sha256: bundle_sha256 }: Serving, problems: number): void {
    const ok = problems === 0;
    this.#log.write({ type: 'bundle-reloaded', time: new Date().toISOString(), ok, bundle_version, bundle_sha256, problems });
    this.metrics.bundleReload(ok ? 'ok' : 'failed');
    if (ok) this.metrics.bundleLoaded(new Date());
  }

  /** Where whoever rotates logs has moved the file away. */
  reopen(): void {
    try {
      this.#log.reopen();
    } catch (error) {
      const message = error instanceof KzError ? error.message : 'the audit log cannot be opened again';
      this.#tell('warning', `${message}; the log goes on in the file that was open`);
    }
  }

  close(): Promise<void> {
    return this.#log.close();
  }
}
