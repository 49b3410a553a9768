// What a sandbox is told of the config and of the environment before it is built.
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import type { Declaration } from '../../src/config/load.ts';
import { withoutAgents } from '../../src/run/isolation-agents.ts';
import { BubblewrapIsolation } from '../../src/run/isolation-bubblewrap.ts';
import type { IsolationRequest } from '../../src/run/isolation.ts';
import { namedPorts, namesLoopback } from '../../src/run/isolation-ports.ts';
import { sandboxTools } from '../../src/sandbox/availability.ts';
import { seccompFilter } from '../../src/sandbox/seccomp.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from '../stories/isolation.ts';
import { isRunning, waitFor } from '../stories/processes.ts';

interface Rule {
  readonly host: string;
  readonly port?: number;
  readonly allow?: boolean;
}

type Named = Parameters<typeof namedPorts>[0];

function named(rules: readonly Rule[], ...hosts: readonly string[][]): Named {
  const config = {
    blind: { connections: rules.map(({ allow = true, ...rule }) => ({ allow, ...rule })) },
    secrets: new Map(hosts.map((each, index) => [`SECRET_${String(index)}`, { hosts: each } as unknown as Declaration])),
  };
  return config;
}

function ports(rules: readonly Rule[], ...hosts: readonly string[][]): number[] {
  return namedPorts(named(rules, ...hosts));
}

describe('the ports that a config names', () => {
  it.each<[string, Rule[], string[][], number[]]>([
    ['no rules at all', [], [], []],
    ['the port of a rule', [{ host: 'db.example', port: 5432 }], [], [5432]],
    ['the port in a host', [{ host: 'db.example:6379' }], [], [6379]],
    ['both, should they differ', [{ host: 'db.example:6379', port: 5432 }], [], [5432, 6379]],
    ['the port of a secret’s host', [], [['api.example', 'api.example:8443'], ['[2001:db8::1]:9000']], [8443, 9000]],
    [
      'each once, in their order',
      [{ host: 'a.example:9000' }, { host: 'b.example', port: 9000 }],
      [['c.example:8000', 'd.example:9000']],
      [9000, 8000],
    ],
    ['not of a rule that denies', [{ host: 'db.example', port: 5432, allow: false }], [], []],
    ['not those of HTTP, which are open anyway', [{ host: 'api.example', port: 443 }, { host: 'a.example:80' }], [['b.example:443']], []],
    ['none of patterns without a port', [{ host: '*' }, { host: '*.example' }, { host: 're:^x\\.example$' }], [['*.example']], []],
  ])('%s', (_, rules, hosts, expected) => {
    expect(ports(rules, ...hosts)).toEqual(expected);
  });

  it('are 64 at most: each is a socket that listens', () => {
    const rules = Array.from({ length: 100 }, (_, index) => ({ host: 'a.example', port: 10_000 + index }));
    expect(ports(rules)).toEqual(rules.slice(0, 64).map(({ port }) => port));
  });

  it('are none without [blind] and without hosts', () => {
    expect(namedPorts({ blind: undefined, secrets: new Map() })).toEqual([]);
    expect(namedPorts({ blind: {}, secrets: new Map([['A', {} as unknown as Declaration]]) })).toEqual([]);
  });
});

describe('this machine is among the hosts', () => {
  it.each(['localhost', 'localhost:8080', 'app.localhost', '127.0.0.1', '127.1.2.3:5432', '[::1]', '[::1]:80'])('with %s', (host) => {
    expect([namesLoopback(named([{ host }])), namesLoopback(named([], ['api.example', host]))]).toEqual([true, true]);
  });

  it.each(['*', 'localhost.example', '10.0.0.1', '[2001:db8::1]', 'api.example:80', 're:localhost'])('and not with %s', (host) => {
    expect([namesLoopback(named([{ host }])), namesLoopback(named([], [host]))]).toEqual([false, false]);
  });

  it('and not with a rule that denies', () => {
    expect(namesLoopback(named([{ host: 'localhost', allow: false }]))).toBe(false);
  });
});

describe('the variables of a sandboxed program', () => {
  it.each(
    `SSH_AUTH_SOCK SSH_AGENT_PID GPG_AGENT_INFO DBUS_SESSION_BUS_ADDRESS DBUS_SESSION_BUS_PID XDG_RUNTIME_DIR DOCKER_HOST WSL_INTEROP DISPLAY
    WAYLAND_DISPLAY XAUTHORITY TMUX VSCODE_IPC_HOOK_CLI VSCODE_GIT_IPC_HANDLE`.split(/\s+/),
  )('do not lead outside by %s', (name) => {
    expect(withoutAgents({ [name]: '/run/user/1000/x', HOME: '/home/me' })).toEqual({ HOME: '/home/me' });
  });

  it('are the same otherwise, in their order, and the given ones are not changed', () => {
    const given = Object.freeze({ B: '1', SSH_AUTH_SOCK: 'x', A: '', SSH_AUTH_SOCK_BACKUP: 'y', display: 'z', HTTPS_PROXY: 'p' });
    expect(Object.entries(withoutAgents(given))).toEqual([
      ['B', '1'],
      ['A', ''],
      ['SSH_AUTH_SOCK_BACKUP', 'y'],
      ['display', 'z'],
      ['HTTPS_PROXY', 'p'],
    ]);
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`an isolation that is refused${ISOLATION_NOTE}`, () => {
  it.each(['nested', 'single'] as const)('by its settings leaves nothing of what was begun (%s)', async (shape) => {
    const { sh, bwrap, ...tools } = sandboxTools();
    const seccomp = seccompFilter(process.arch);
    if (sh === undefined || bwrap === undefined || seccomp === undefined) throw new Error('this needs bubblewrap');
    const marker = mkdtempSync(join(tmpdir(), 'kz-marker-'));
    cpSync(fileURLToPath(new URL('../../src/stage/', import.meta.url)), marker, { recursive: true });
    const request: IsolationRequest = {
      settings: { mode: 'strict', read: [], write: ['/nowhere/at-all'], hide: [], allowLoopback: [] },
      config: { files: [], secrets: new Map(), documents: [], providers: {} } as unknown as IsolationRequest['config'],
      command: ['true'],
      env: { HOME: '/nowhere', PATH: '/usr/bin:/bin' },
      programs: marker,
      shape,
      connect: () => undefined,
      tell: () => undefined,
    };
    const begin = (): unknown => BubblewrapIsolation.begin(request, { sh, bwrap, seccomp, ...tools });
    expect(begin).toThrow(expect.objectContaining({ code: 'config-invalid' }) as Error);
    await waitFor('its end', () => !isRunning(marker));
    rmSync(marker, { recursive: true });
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`an isolation that cannot start its first program${ISOLATION_NOTE}`, () => {
  it('leaves no folder', () => {
    const { bwrap, ...tools } = sandboxTools();
    const seccomp = seccompFilter(process.arch);
    if (bwrap === undefined || seccomp === undefined) throw new Error('this needs bubblewrap');
    const temporary = mkdtempSync(join(tmpdir(), 'kz-temporary-'));
    vi.stubEnv('TMPDIR', temporary);
    try {
      const request = { command: ['true'], programs: temporary, shape: 'nested', connect: () => undefined } as const;
      const config = { files: [], secrets: new Map(), documents: [], providers: {} } as unknown as IsolationRequest['config'];
      const settings = { mode: 'strict', read: [], write: [], hide: [], allowLoopback: [] } as const;
      const begin = (): unknown =>
        BubblewrapIsolation.begin(
          { ...request, config, settings, env: {}, tell: () => undefined },
          { ...tools, bwrap, seccomp, sh: join(temporary, 'no-shell') },
        );
      expect(begin).toThrow(expect.objectContaining({ code: 'start-failed' }) as Error);
      expect(readdirSync(temporary)).toEqual([]);
    } finally {
      vi.unstubAllEnvs();
      rmSync(temporary, { recursive: true });
    }
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`an isolation that is closed while it is built${ISOLATION_NOTE}`, () => {
  it('makes nothing any more in the project', async () => {
    const { sh, bwrap, ...tools } = sandboxTools();
    const seccomp = seccompFilter(process.arch);
    if (sh === undefined || bwrap === undefined || seccomp === undefined) throw new Error('this needs bubblewrap');
    const project = mkdtempSync(join(tmpdir(), 'kz-project-'));
    writeFileSync(join(project, '.keyzero.toml'), '');
    const before = process.cwd();
    process.chdir(project);
    try {
      const request: IsolationRequest = {
        settings: { mode: 'strict', read: [], write: [], hide: [], allowLoopback: [] },
        config: {
          files: [{ path: join(project, '.keyzero.toml'), how: 'found' }],
          secrets: new Map(),
          documents: [],
          providers: {},
        } as unknown as IsolationRequest['config'],
        command: ['true'],
        env: { HOME: '/nowhere', PATH: '/usr/bin:/bin' },
        programs: fileURLToPath(new URL('../../src/stage/', import.meta.url)),
        shape: 'nested',
        connect: () => undefined,
        tell: () => undefined,
      };
      const isolation = BubblewrapIsolation.begin(request, { sh, bwrap, seccomp, ...tools });
      isolation.close();
      await expect(isolation.settled()).rejects.toThrow();
      expect(readdirSync(project)).toEqual(['.keyzero.toml']);
    } finally {
      process.chdir(before);
      rmSync(project, { recursive: true });
    }
  });
});
