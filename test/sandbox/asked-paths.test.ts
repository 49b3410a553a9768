// `read`, `write` and `hide` of [blind.sandbox].
import { describe, expect, it } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { ASKED, FakeMachine, hiddenPaths, problem, writableIn } from './fake-machine.ts';

describe('read, write, hide', () => {
  it('`read` of a hidden path lifts it with what is in it, of one inside shows only that', () => {
    const machine = new FakeMachine();
    const hosts = machine.file('home/me/.ssh/known_hosts');
    machine.file('home/me/.aws/credentials');
    const env = { AWS_SHARED_CREDENTIALS_FILE: '~/.aws/credentials' };
    const { confinement } = machine.survey({ env, settings: { ...ASKED, read: [machine.path('home/me/.aws'), hosts] } });
    expect(confinement.hidden).toEqual([{ path: machine.path('home/me/.ssh'), kind: 'folder' }]);
    expect(new Set(confinement.readable)).toEqual(new Set([hosts]));
  });

  it('`read` of what is above something hidden lifts nothing, and of what is writable takes nothing away', () => {
    const machine = new FakeMachine();
    machine.folder('home/me/.config/gcloud');
    const surveyed = machine.survey({
      settings: { ...ASKED, read: [machine.home, machine.path('home/me/.config'), machine.project] },
    });
    expect(surveyed.confinement.hidden).toEqual([{ path: machine.path('home/me/.config/gcloud'), kind: 'folder' }]);
    expect([surveyed.confinement.readable, writableIn(surveyed)]).toEqual([[], [machine.project]]);
  });

  it('`read` below /run and /tmp shows a path, and a socket', async () => {
    const machine = new FakeMachine();
    const read = [machine.file('run/app/data'), machine.file('tmp/data'), await machine.socket('run/docker.sock')];
    machine.socketTable(read[2] ?? '');
    const { confinement } = machine.survey({ settings: { ...ASKED, read } });
    expect(new Set(confinement.readable)).toEqual(new Set(read));
    expect(confinement.hidden).toEqual([]);
  });

  it('`write` makes writable, also what was hidden', () => {
    const machine = new FakeMachine();
    const write = [machine.folder('home/me/.claude'), machine.folder('home/me/.aws/cli/cache'), machine.folder('home/me/.kube')];
    const surveyed = machine.survey({ settings: { ...ASKED, write } });
    expect(new Set(writableIn(surveyed))).toEqual(new Set([machine.project, ...write]));
    expect(surveyed.confinement.hidden).toEqual([{ path: machine.path('home/me/.aws'), kind: 'folder' }]);
  });

  it('`hide` adds, also a whole home, in which the project stays', () => {
    const machine = new FakeMachine();
    const notes = machine.file('home/me/notes.txt');
    expect(machine.survey({ settings: { ...ASKED, hide: [notes] } }).confinement.hidden).toEqual([{ path: notes, kind: 'file' }]);
    const surveyed = machine.survey({ settings: { ...ASKED, hide: [machine.home] } });
    expect([surveyed.confinement.hidden, writableIn(surveyed)]).toEqual([[{ path: machine.home, kind: 'folder' }], [machine.project]]);
  });

  it('is refused where it can mean nothing', () => {
    const machine = new FakeMachine();
    const ask = (settings: Partial<typeof ASKED>): KzError => problem(() => machine.survey({ settings: { ...ASKED, ...settings } }));
    expect(ask({ write: [machine.path('home/me/new dir')] as never })).toMatchObject({
      code: 'config-invalid',
      hint: "run `mkdir -p '~/new dir'`",
    });
    for (const key of ['read', 'write', 'hide']) {
      expect(ask({ [key]: ['/'] }).message).toContain('the whole file system');
      expect(ask({ [key]: [machine.path('proc')] }).code).toBe('config-invalid');
    }
    expect(ask({ read: [machine.home], hide: [machine.home] } as never).message).toContain('names ~ in `hide`'.replace('~', machine.home));
    expect(machine.survey({ settings: { ...ASKED, read: [machine.path('x')], hide: [machine.path('y')] } }).notes).toHaveLength(2);
  });

  it('says when it opens what kz keeps secrets in', () => {
    const machine = new FakeMachine();
    const own = machine.folder('home/me/.config/keyzero');
    expect(machine.survey({ settings: { ...ASKED, read: [own] } }).notes.join()).toContain(
      'can read ~/.config/keyzero, where secrets of yours are',
    );
  });

  it('comes from the config when nothing else is said', () => {
    const machine = new FakeMachine();
    const hide = [machine.file('home/me/notes.txt')];
    expect(hiddenPaths(machine.survey({ config: machine.config({ blind: { sandbox: { hide } } }) }))).toEqual(hide);
  });
});
