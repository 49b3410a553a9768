// Package caches: which are writable, and what of them is not.
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FakeMachine } from './fake-machine.ts';

describe('package caches', () => {
  it('are writable where they are there, without folders that are on a PATH', () => {
    const machine = new FakeMachine();
    const caches = [
      '.npm',
      '.cache/uv',
      '.cache/pip',
      '.cargo/registry',
      'go/pkg',
      '.cache/go-build',
      '.gradle/caches',
      '.m2/repository',
      '.bun/install/cache',
    ];
    for (const path of [...caches, '.cargo/bin', 'go/bin', '.bun/bin', '.local/share/pnpm', '.config/x']) machine.folder(`home/me/${path}`);
    const { writable } = machine.survey().confinement;
    expect(new Set(writable)).toEqual(new Set([machine.project, ...caches.map((path) => machine.path(`home/me/${path}`))]));
  });

  it('versions of programs in them cannot be changed, new ones be added', () => {
    const machine = new FakeMachine();
    const tools = machine.folder('home/me/.local/share/uv/tools/ruff');
    const browser = machine.folder('home/me/.cache/ms-playwright/chromium-1');
    const { writable, guarded } = machine.survey().confinement;
    expect(guarded).toEqual(expect.arrayContaining([tools, browser]));
    expect(writable).toEqual(
      expect.arrayContaining([machine.path('home/me/.local/share/uv/tools'), machine.path('home/me/.cache/ms-playwright')]),
    );
  });

  it('npm’s and uv’s are made, by the caller, where there is a home to make them in', () => {
    const machine = new FakeMachine();
    for (const name of ['npx', 'uvx']) machine.file(`usr/bin/${name}`, '');
    const env = { PATH: `${machine.path('bin')}:${machine.path('usr/bin')}` };
    const { missing, confinement } = machine.survey({ env });
    expect(missing).toEqual(
      ['.npm', '.cache/uv', '.local/share/uv/tools', '.local/share/uv/python'].map((path) => machine.path(`home/me/${path}`)),
    );
    expect(machine.survey().missing).toEqual([]);
    for (const path of missing) {
      expect(existsSync(path)).toBe(false);
      expect(confinement.writable).toContain(path);
    }
    // As little as one that is there may a missing one be part of what starts programs.
    for (const path of ['.config/systemd/uv', '.local/bin/uv'])
      expect(machine.survey({ env: { ...env, UV_CACHE_DIR: machine.path(`home/me/${path}`) } }).missing).not.toContain(
        machine.path(`home/me/${path}`),
      );
    machine.link('home/me/.npm', '/nowhere/at/all');
    expect(machine.survey({ env }).missing).not.toContain(machine.path('home/me/.npm'));
    expect(machine.survey({ env: { ...env, HOME: machine.path('gone') }, accountHome: machine.path('gone') }).missing).toEqual([]);
  });

  it('follow their variables, but not to a home, the system, something hidden, or what starts shells', () => {
    const machine = new FakeMachine();
    const elsewhere = machine.folder('cache/npm');
    expect(machine.survey({ env: { npm_config_cache: elsewhere } }).confinement.writable).toContain(elsewhere);
    expect(machine.survey({ env: { CARGO_HOME: machine.path('usr/local/cargo') } }).confinement.writable).toEqual(
      machine.survey().confinement.writable,
    );
    machine.folder('usr/local/cargo/registry');
    expect(machine.survey({ env: { CARGO_HOME: machine.path('usr/local/cargo') } }).confinement.writable).toContain(
      machine.path('usr/local/cargo/registry'),
    );
    for (const path of [
      'home/me',
      'home',
      'etc/x',
      'usr/bin',
      'home/me/.ssh',
      'home/me/.ssh/x',
      'home/me/.config',
      'home/me/.local/bin',
      'home/me/.local',
      '.',
    ]) {
      const folder = machine.folder(path);
      const { confinement, missing } = machine.survey({
        env: { PATH: '/usr/bin', npm_config_cache: folder, UV_CACHE_DIR: folder, PIP_CACHE_DIR: folder },
      });
      expect([path, confinement.writable.includes(folder), missing.includes(folder)]).toEqual([path, false, false]);
    }
  });
});
