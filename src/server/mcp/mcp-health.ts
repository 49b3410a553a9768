// What `health_check` answers. The checks ask backends and send credentials: whoever asks again within some seconds gets the same answer.
import { orAborted } from '../../core/abort.ts';

export interface HealthReport {
  readonly bundleVersion: string;
  readonly uptimeMs: number;
  readonly backends: readonly { readonly name: string; readonly ok: boolean; readonly detail?: string | undefined }[];
  /** Those that have a `check`. */
  readonly resources: readonly { readonly ref: string; readonly ok: boolean; readonly detail?: string | undefined }[];
}

export type HealthCheck = (signal: AbortSignal) => Promise<HealthReport>;

interface RememberOptions {
  readonly keepMs?: number;
  readonly patienceMs?: number;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

/** One check at a time, for everybody who asks meanwhile: one of them going away does not end it, and a failed one is not kept. */
export function rememberHealth(check: HealthCheck, options: RememberOptions = {}): HealthCheck {
  const { keepMs = 10_000, patienceMs = 20_000, now = () => performance.now() } = options;
  let last: { readonly report: Promise<HealthReport>; readonly since: number } | undefined;
  return (signal) => {
    if (last === undefined || now() - last.since > keepMs) {
      const started = { report: check(AbortSignal.timeout(patienceMs)), since: now() };
      last = started;
      started.report.catch(() => {
        if (last === started) last = undefined;
      });
    }
    return orAborted(last.report, signal);
  };
}
