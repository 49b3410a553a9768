import { describe, expect, it } from 'vitest';
import { doctorText } from '../../src/cli/doctor-view.ts';
import type { Config } from '../../src/config/load.ts';
import type { Diagnosis, Surroundings } from '../../src/run/doctor.ts';
import type { SandboxAvailability } from '../../src/sandbox/availability.ts';

const CONFIG: Config = {
  files: [],
  searched: [],
  environment: undefined,
  environments: [],
  secrets: new Map(),
  documents: [],
  providers: {},
  blind: undefined,
  blindOrigin: undefined,
  sandboxLayers: [],
};

function text(sandbox: SandboxAvailability, { blind, quiet = false }: { blind?: Config['blind']; quiet?: boolean } = {}): string {
  const diagnosis: Diagnosis & Surroundings = {
    config: { files: [], searched: [], config: { ...CONFIG, blind }, problems: [], warnings: [] },
    providers: [],
    secrets: [],
    leases: [],
    checks: [],
    keychain: { backend: 'none', bus: undefined, detail: 'none' },
    machine: {
      platform: 'linux',
      arch: 'x64',
      node: 'v24.0.0',
      kind: undefined,
      home: '/home/me',
      kzOnPath: undefined,
      proxy: undefined,
      warnings: [],
    },
    runtimes: [],
    sandbox,
  };
  return doctorText(diagnosis, { quiet, verbose: false, version: '0.0.0' });
}

function rows(...given: Parameters<typeof text>): string[] {
  const lines = text(...given).split('\n');
  const start = lines.findIndex((line) => line.includes('sandbox: '));
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('          '));
  return lines.slice(start, end);
}

describe('the sandbox', () => {
  it('that works is in order', () => {
    expect(rows({ level: 'full', isCertain: true, backend: 'bubblewrap', version: '0.8.0' })).toEqual([
      '  ok    sandbox: full (bubblewrap 0.8.0): own network, every client is led through kz',
    ]);
  });

  it('that does less says why, and what helps', () => {
    const less = { backend: 'bubblewrap', version: '0.9.0', why: 'AppArmor is in the way', fix: 'run `sudo this`' } as const;
    expect(rows({ level: 'basic', isCertain: true, ...less })).toEqual([
      '  !     sandbox: basic (bubblewrap 0.9.0): nothing but kz can be reached, by clients that know a proxy',
      '          AppArmor is in the way',
      '          hint: run `sudo this`',
    ]);
    expect(rows({ level: 'full', isCertain: true, ...less })[0]).toMatch(/^ {2}! {5}sandbox: full /);
    expect(rows({ level: 'basic', isCertain: true, backend: 'sandbox-exec' })).toEqual([
      '  !     sandbox: basic (sandbox-exec): nothing but kz can be reached, by clients that know a proxy',
    ]);
  });

  const NONE = {
    level: 'none',
    isCertain: true,
    backend: undefined,
    why: 'bubblewrap is not installed',
    fix: 'run `sudo apt install bubblewrap`',
  } as const;

  it('that is not there is nothing that fails', () => {
    expect(rows(NONE)).toEqual([
      '  -     sandbox: not available: bubblewrap is not installed',
      '          hint: run `sudo apt install bubblewrap`',
    ]);
    expect(text(NONE)).toMatch(/everything that the config needs works\n$/);
    expect(text(NONE, { quiet: true })).toBe('');
  });

  it('that is not there is, when the config insists on it', () => {
    const strict = { blind: { sandbox: 'strict' } } as const;
    expect(rows(NONE, strict)).toEqual([
      '  FAIL  sandbox: not available: bubblewrap is not installed, and the config says "strict"',
      '          hint: run `sudo apt install bubblewrap`',
    ]);
    expect(text(NONE, strict)).toMatch(/\n1 thing does not work\n$/);
    expect(text(NONE, { ...strict, quiet: true })).toContain('FAIL  sandbox: ');
    expect(text({ level: 'basic', isCertain: true, backend: 'bubblewrap' }, strict)).toMatch(/everything that the config needs works\n$/);
  });
});
