// Counters of the server in Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). No label holds what a
// caller wrote: refs, subjects and paths are in the audit log. Names come from the bundle, and their number is bounded all the same.
import { readdirSync } from 'node:fs';
import { JWT_FAILURES } from './failure.ts';

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export interface MetricsOptions {
  /** Of kz. */
  readonly version: string;
  /** `Limits.inFlight`, asked at each scrape. */
  readonly inFlight: () => number;
  /** `DecisionLog.lost`. */
  readonly auditLost: () => number;
}

export interface DecisionLabels {
  readonly face: string;
  readonly tool: string;
  readonly outcome: string;
  /** Name of the policy that decided, if one was asked. */
  readonly policy?: string | undefined;
}

type Labels = Readonly<Record<string, string>>;

/** Of one counter, in label sets. What comes after is counted under `other`. */
const MOST_SERIES = 1000;

/** In seconds. */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

export class Metrics {
  readonly #options: MetricsOptions;
  readonly #decisions = new Counter('kz_decisions_total', 'Decisions by face, tool, outcome and the policy that decided.');
  readonly #jwtFailures = new Counter(
    'kz_jwt_failures_total',
    'Tokens that were refused, by code.',
    JWT_FAILURES.map((code) => ({ code })),
  );
  readonly #reloads = new Counter('kz_bundle_reloads_total', 'Attempts to load a changed bundle, by result.', [
    { result: 'failed' },
    { result: 'ok' },
  ]);
  readonly #durations = new Map<string, Histogram>();
  #loadedAt = 0;

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  decision({ face, tool, outcome, policy = '' }: DecisionLabels): void {
    this.#decisions.add({ face, tool, outcome, policy }, { face, tool, outcome, policy: 'other' });
  }

  jwtFailure(code: string): void {
    this.#jwtFailures.add({ code });
  }

  /** Of every bundle that serves from now on, the first one too. */
  bundleLoaded(at: Date): void {
    this.#loadedAt = at.getTime() / 1000;
  }

  bundleReload(result: 'ok' | 'failed'): void {
    this.#reloads.add({ result });
  }

  /** `route` is one of the server's own, not the path that was asked for. */
  request(route: string, status: number, seconds: number): void {
    const labels = labelText({ route, status: String(status) });
    let histogram = this.#durations.get(labels);
    if (histogram === undefined) this.#durations.set(labels, (histogram = new Histogram()));
    histogram.observe(seconds);
  }

  /** What `/metrics` answers, ready to send as `METRICS_TYPE`. */
  text(): string {
    const { version, inFlight, auditLost } = this.#options;
    return [
      family('kz_build_info', 'gauge', 'The version of kz.', [`kz_build_info${labelText({ version })} 1`]),
      this.#decisions.text(),
      this.#jwtFailures.text(),
      this.#reloads.text(),
      single('kz_bundle_loaded_timestamp_seconds', 'gauge', 'When the bundle that serves was loaded.', this.#loadedAt),
      single('kz_in_flight', 'gauge', 'Requests that are being worked on.', inFlight()),
      single('kz_audit_lost_total', 'counter', 'Events that could not be written to the audit log.', auditLost()),
      this.#durationText(),
      processText(),
    ].join('');
  }

  #durationText(): string {
    const name = 'kz_request_duration_seconds';
    const lines = [...this.#durations].flatMap(([labels, histogram]) => histogram.lines(name, labels));
    return family(name, 'histogram', 'Time from the head of a request to its answer, by route and status.', lines);
  }
}

class Counter {
  readonly #name: string;
  readonly #description: string;
  readonly #series = new Map<string, number>();

  /** `known`: these are there from the start. Of a series that begins with a one, Prometheus sees no increase. */
  constructor(name: string, description: string, known: readonly Labels[] = []) {
    this.#name = name;
    this.#description = description;
    for (const labels of known) this.#series.set(labelText(labels), 0);
  }

  /** `overflow` is counted instead when there are too many label sets. */
  add(labels: Labels, overflow: Labels = labels): void {
    const key = labelText(labels);
    const isKnown = this.#series.has(key) || this.#series.size < MOST_SERIES;
    const counted = isKnown ? key : labelText(overflow);
    this.#series.set(counted, (this.#series.get(counted) ?? 0) + 1);
  }

  text(): string {
    const lines = [...this.#series].map(([labels, value]) => `${this.#name}${labels} ${String(value)}`);
    return family(this.#name, 'counter', this.#description, lines);
  }
}

class Histogram {
  readonly #counts = BOUNDS.map(() => 0);
  #count = 0;
  #sum = 0;

  observe(seconds: number): void {
    this.#count += 1;
    this.#sum += seconds;
    const index = BOUNDS.findIndex((bound) => seconds <= bound);
    if (index >= 0) this.#counts[index] = (this.#counts[index] ?? 0) + 1;
  }

  /** `labels` is not empty. */
  lines(name: string, labels: string): string[] {
    const inner = labels.slice(1, -1);
    let below = 0;
    const buckets = BOUNDS.map((bound, index) => {
      below += this.#counts[index] ?? 0;
      return `${name}_bucket{${inner},le="${String(bound)}"} ${String(below)}`;
    });
    const count = String(this.#count);
    return [
      ...buckets,
      `${name}_bucket{${inner},le="+Inf"} ${count}`,
      `${name}_sum${labels} ${String(this.#sum)}`,
      `${name}_count${labels} ${count}`,
    ];
  }
}

/** Names and units are those that Prometheus' own client libraries use. */
function processText(): string {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const startedAt = (performance.timeOrigin / 1000).toFixed(3);
  return [
    single('process_cpu_seconds_total', 'counter', 'CPU time, user and system.', (user + system) / 1e6),
    single('process_resident_memory_bytes', 'gauge', 'Resident memory.', rss),
    single('process_start_time_seconds', 'gauge', 'When the process started.', startedAt),
    single('nodejs_heap_size_used_bytes', 'gauge', 'Heap in use.', heapUsed),
    openFilesText(),
  ].join('');
}

/** Linux only. */
function openFilesText(): string {
  try {
    return single('process_open_fds', 'gauge', 'Open file descriptors.', readdirSync('/proc/self/fd').length);
  } catch {
    return '';
  }
}

function single(name: string, type: string, description: string, value: number | string): string {
  return family(name, type, description, [`${name} ${String(value)}`]);
}

function family(name: string, type: string, description: string, lines: readonly string[]): string {
  return [`# HELP ${name} ${description}`, `# TYPE ${name} ${type}`, ...lines, ''].join('\n');
}

function labelText(labels: Labels): string {
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${escapeLabel(value)}"`)
    .join(',')}}`;
}

function escapeLabel(value: string): string {
  return value.replace(/[\\"\n]/g, (unit) => (unit === '\n' ? '\\n' : `\\${unit}`));
}
