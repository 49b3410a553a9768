// What `[blind]` says of the sandbox, with everything that it leaves out. `sandbox` is a word, or a table where there is more to say.
import type { BlindEntry } from './schema.ts';

/** `auto`: isolate where this machine can; `strict`: isolate, or do not start; `off`: do not. */
export const SANDBOX_MODES = ['auto', 'strict', 'off'] as const;

export type SandboxMode = (typeof SANDBOX_MODES)[number];

export interface SandboxSettings {
  readonly mode: SandboxMode;
  /** Paths as the config has them once it is loaded. */
  readonly read: readonly string[];
  readonly write: readonly string[];
  readonly hide: readonly string[];
  /** Ports of this machine's 127.0.0.1, each once. */
  readonly allowLoopback: readonly number[];
}

export function sandboxSettings(blind: Pick<BlindEntry, 'sandbox'> | undefined): SandboxSettings {
  const sandbox = blind?.sandbox;
  const {
    mode = 'auto',
    read = [],
    write = [],
    hide = [],
    allow_loopback: ports = [],
  } = typeof sandbox === 'string' ? { mode: sandbox } : (sandbox ?? {});
  return { mode, read, write, hide, allowLoopback: [...new Set(ports)] };
}
