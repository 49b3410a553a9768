// The kernel's list of Unix sockets, and which of them a program must not reach.
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { socketNames } from '../../src/sandbox/live-sockets.ts';
import { FakeMachine, hiddenPaths } from './fake-machine.ts';

const HEAD = 'Num       RefCount Protocol Flags    Type St Inode Path\n';

describe('socketNames', () => {
  it('reads what the kernel writes', () => {
    const table = `${HEAD}0000000028a6b24c: 00000003 00000000 00000000 0001 03  1197
0000000008a7212d: 00000002 00000000 00010000 0001 01 123456 /run/a.sock
0000000008a7212e: 00000002 00000000 00000000 0002 01 9 /run/log
ffff8f6c: 00000002 00000000 00010000 0001 01 9 /run/32-bit
0000000008a7212f: 00000002 00000000 00010000 0001 01 123457 @/tmp/abstract@@@
0000000008a72130: 00000003 00000000 00000000 0001 03 123458 /run/a.sock
0000000008a72131: 00000002 00000000 00010000 0005 01 123459 dev.sock
`;
    expect(socketNames(table)).toEqual(['/run/a.sock', '/run/log', '/run/32-bit', 'dev.sock']);
  });

  it('keeps spaces and line breaks of names, and needs no last line break', () => {
    const entry = '0000000008a7212d: 00000002 00000000 00010000 0001 01 12';
    expect(socketNames(`${HEAD}${entry} /a b/ c \n${entry} /x\ny\n\nz\n${entry} /end`)).toEqual(['/a b/ c ', '/x\ny\n\nz', '/end']);
    expect(socketNames('')).toEqual([]);
    expect(socketNames('nothing of the kind\n/run/x')).toEqual([]);
  });

  it.skipIf(process.platform !== 'linux')('finds a socket of this very process (Linux)', async () => {
    const path = await new FakeMachine().socket('home/me/real socket.sock');
    expect(socketNames(readFileSync('/proc/net/unix', 'utf8'))).toContain(path);
  });
});

describe('sockets', () => {
  it('are hidden one by one, but not where everything is hidden or empty', async () => {
    const machine = new FakeMachine();
    const mine = [await machine.socket('home/me/.agent x.sock'), await machine.socket('home/me/jobs/app/dev\n1.sock')];
    const others = [
      await machine.socket('run/dbus'),
      await machine.socket('tmp/ssh/agent'),
      await machine.socket('home/me/.gnupg/S.gpg-agent'),
    ];
    machine.socketTable(...mine, ...others, machine.path('gone.sock'), machine.file('home/me/file'), '@abstract', '/dev/log');
    const { hidden } = machine.survey().confinement;
    const expected = [...mine.map((path) => ({ path, kind: 'file' })), { path: machine.path('home/me/.gnupg'), kind: 'folder' }];
    expect(new Set(hidden)).toEqual(new Set(expected));
  });

  it('with relative names are looked for where programs are', async () => {
    const machine = new FakeMachine();
    const mine = [await machine.socket('home/me/jobs/app/rel.sock'), await machine.socket('srv/daemon/other.sock')];
    machine.link('proc/77/cwd', machine.path('srv/daemon'));
    machine.socketTable('rel.sock', 'other.sock');
    expect(new Set(hiddenPaths(machine.survey()))).toEqual(new Set(mine));
  });

  it('that variables name, or mounts are, are hidden though the list has none', async () => {
    const machine = new FakeMachine();
    const names = ['agent', 'bus %1', 'docker', 'tmux', 'my mounted.sock', 'linked'];
    const [agent = '', bus = '', docker = '', tmux = '', mounted = '', linked = ''] = await Promise.all(
      names.map((name) => machine.socket(`srv/${name}`)),
    );
    machine.link('home/me/link', linked);
    machine.file(
      'proc/self/mountinfo',
      `36 35 98:0 /x ${mounted.replaceAll(' ', '\\040')} rw - ext4 /dev/root rw\n36 35 98:0 / /mnt/dead rw - nfs x rw\nbroken\n`,
    );
    const env = {
      SSH_AUTH_SOCK: agent,
      DBUS_SESSION_BUS_ADDRESS: `unix:abstract=/x,guid=1;unix:path=${bus.replace(' ', '%20').replace('%1', '%251')},guid=1`,
      DOCKER_HOST: `unix://${docker}`,
      TMUX: `${tmux},123,0`,
      WSL_INTEROP: machine.path('home/me/link'),
      OTHER: machine.path('nowhere'),
      BAD: '/%zz',
    };
    expect(new Set(hiddenPaths(machine.survey({ env })))).toEqual(new Set([agent, bus, docker, tmux, mounted, linked]));
  });

  it('are one folder where there are many, and there is an end to it, which is told', async () => {
    const machine = new FakeMachine();
    const many = await Promise.all(Array.from({ length: 40 }, (_, index) => machine.socket(`srv/many/${String(index)}`)));
    const inProject = await Promise.all(Array.from({ length: 40 }, (_, index) => machine.socket(`home/me/jobs/app/${String(index)}`)));
    const spread = await Promise.all(Array.from({ length: 520 }, (_, index) => machine.socket(`srv/${String(index)}/s`)));
    machine.socketTable(...many, ...inProject, ...spread);
    const surveyed = machine.survey();
    const paths = hiddenPaths(surveyed);
    expect(surveyed.confinement.hidden).toContainEqual({ path: machine.path('srv/many'), kind: 'folder' });
    expect(inProject.every((path) => paths.includes(path))).toBe(true);
    expect(paths).toHaveLength(501);
    expect(surveyed.notes).toEqual(['60 Unix sockets of this machine are not hidden: there are too many']);
  });

  it('a list of tens of thousands takes no time, and says that it was cut', () => {
    const machine = new FakeMachine();
    machine.socketTable(...Array.from({ length: 40_000 }, (_, index) => `/nowhere/${'x'.repeat(80)}/${String(index)}.sock`));
    const started = performance.now();
    expect(machine.survey().notes).toEqual(['this machine has too many Unix sockets: some of them are not hidden']);
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it('are no reason to fail where there is no such list, or no right to read it', () => {
    const machine = new FakeMachine();
    expect(machine.survey().confinement.hidden).toEqual([]);
    machine.socketTable('/x');
    chmodSync(join(machine.root, 'proc/net/unix'), 0);
    expect(machine.survey().confinement.hidden).toEqual([]);
    machine.folder('proc/net/unix2');
    expect(machine.survey({ platform: 'darwin' }).confinement).toMatchObject({ hidden: [], emptied: [] });
  });
});
