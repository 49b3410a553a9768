// What a profile decides, told by reading it back.
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Confinement } from '../../src/sandbox/confinement.ts';
import { seatbeltCommand, seatbeltProfile, type SeatbeltOptions } from '../../src/sandbox/seatbelt.ts';
import { access, allows, byContract, formOf, moves, parseProfile, randomNumbers, type Rule } from './seatbelt-reader.ts';

const HOME = '/Users/ada';
const PROJECT = `${HOME}/jobs/app`;
const TEMPORARY = '/private/tmp/kz-run-1';

const NOTHING: Confinement = {
  directory: PROJECT,
  temporary: [],
  emptied: [],
  writable: [],
  guarded: [],
  hidden: [],
  readable: [],
  replaced: [],
  temporaryBytes: 0,
};

const USUAL: Confinement = {
  ...NOTHING,
  temporary: ['/private/tmp'],
  emptied: ['/private/var/run'],
  writable: [PROJECT, TEMPORARY, `${HOME}/.npm`],
  guarded: [`${PROJECT}/.keyzero.toml`, `${PROJECT}/.git/hooks`],
  hidden: [
    { path: `${HOME}/.aws`, kind: 'folder' },
    { path: `${HOME}/.netrc`, kind: 'file' },
    { path: `${PROJECT}/config/.env`, kind: 'file' },
    { path: `${HOME}/.config/keyzero`, kind: 'folder' },
  ],
  readable: [`${HOME}/.config/keyzero/runs/1/ca.pem`],
  replaced: [{ path: `${HOME}/.npmrc`, contents: '' }],
};

const PORTS: SeatbeltOptions = { proxyPort: 41_234, loopbackPorts: [5432], temporary: TEMPORARY };

function parse(confinement: Confinement, options = PORTS): Rule[] {
  return parseProfile(seatbeltProfile(confinement, options));
}

describe('files', () => {
  const profile = parse(USUAL);

  it.each([`${HOME}/readme`, '/usr/lib/dyld', '/private/etc/hosts', HOME, '/'])('can be read and not changed: %s', (path) => {
    expect(access(profile, path)).toBe('read');
  });

  it.each([`${PROJECT}/src/main.ts`, PROJECT, `${HOME}/.npm/_cacache/x`, TEMPORARY, `${TEMPORARY}/new`])('can be changed: %s', (path) => {
    expect(access(profile, path)).toBe('write');
  });

  it.each([`${PROJECT}.old/x`, `${PROJECT}2`, `${HOME}/.npmrc2`, `${HOME}/.awsx/credentials`, `${HOME}/.netrc.bak`])(
    'are not meant when only the name begins alike: %s',
    (path) => {
      expect(access(profile, path)).toBe('read');
    },
  );

  it.each([`${HOME}/.aws`, `${HOME}/.aws/sso/cache/x.json`, `${HOME}/.netrc`, `${PROJECT}/config/.env`, `${HOME}/.npmrc`])(
    'are hidden: %s',
    (path) => {
      expect(access(profile, path)).toBe('none');
      expect(allows(profile, 'file-read-metadata', { path })).toBe(false);
    },
  );

  it.each(['/private/tmp/com.apple.launchd.1/Listeners', '/private/tmp/new', '/private/var/run/docker.sock'])(
    'of others are not there: %s',
    (path) => {
      expect(access(profile, path)).toBe('none');
    },
  );

  it.each([`${PROJECT}/.keyzero.toml`, `${PROJECT}/.git/hooks`, `${PROJECT}/.git/hooks/pre-commit`])('are guarded: %s', (path) => {
    expect(access(profile, path)).toBe('read');
  });

  it('can be resolved below what is hidden, and only them', () => {
    const [folder, certificate] = [`${HOME}/.config/keyzero`, `${HOME}/.config/keyzero/runs/1/ca.pem`];
    expect(access(profile, certificate)).toBe('read');
    for (const path of [folder, `${folder}/runs`, `${folder}/runs/1`, '/private/tmp', '/private/var/run']) {
      expect(allows(profile, 'file-read-metadata', { path })).toBe(true);
      expect(access(profile, path)).toBe('none');
    }
    expect(allows(profile, 'file-read-metadata', { path: `${folder}/runs/2` })).toBe(false);
  });
});

describe('a path', () => {
  it('follows the longest entry above it, whatever the lists', () => {
    const deep = parse({
      ...NOTHING,
      writable: ['/a', '/a/b/c'],
      hidden: [{ path: '/a/b', kind: 'folder' }],
      readable: ['/a/b/c/d'],
      guarded: ['/a/b/e'],
      emptied: ['/a/f'],
      temporary: ['/a/b/c/d/e'],
    });
    const found = ['/a/x', '/a/b/x', '/a/b/c/x', '/a/b/c/d/x', '/a/b/e/x', '/a/f/x', '/a/b/c/d/e/x'].map((path) => access(deep, path));
    expect(found).toEqual(['write', 'none', 'write', 'read', 'read', 'none', 'none']);
  });

  it('follows the later of two lists that both have it', () => {
    const hidden = [{ path: '/a', kind: 'folder' as const }];
    expect(access(parse({ ...NOTHING, temporary: ['/a'], writable: ['/a'] }), '/a/x')).toBe('write');
    expect(access(parse({ ...NOTHING, writable: ['/a'], guarded: ['/a'] }), '/a/x')).toBe('read');
    expect(access(parse({ ...NOTHING, guarded: ['/a'], hidden }), '/a/x')).toBe('none');
    expect(access(parse({ ...NOTHING, hidden, readable: ['/a'] }), '/a/x')).toBe('read');
    expect(access(parse({ ...NOTHING, readable: ['/a'], replaced: [{ path: '/a', contents: '' }] }), '/a')).toBe('none');
  });

  it('is decided as the contract says, in any arrangement', () => {
    const random = randomNumbers(5);
    const path = (): string => `/${Array.from({ length: 1 + random(4) }, () => 'ab'[random(2)]).join('/')}`;
    const paths = (): string[] => Array.from({ length: random(4) }, path);
    for (let round = 0; round < 300; round += 1) {
      const lists = { temporary: paths(), emptied: paths(), writable: paths(), guarded: paths(), hidden: paths(), readable: paths() };
      const profile = parse({ ...NOTHING, ...lists, hidden: lists.hidden.map((each) => ({ path: each, kind: 'folder' })) });
      for (let question = 0; question < 10; question += 1) {
        const asked = `${path()}/x`;
        expect([lists, asked, access(profile, asked)]).toEqual([lists, asked, byContract(lists, asked)]);
      }
    }
  });
});

describe('a move', () => {
  const profile = parse(USUAL);
  const everywhere = parse({ ...USUAL, writable: ['/', ...USUAL.writable] });

  it('is possible within what is writable', () => {
    expect(moves(profile, `${PROJECT}/a`, `${TEMPORARY}/b`)).toBe(true);
    expect(moves(profile, `${PROJECT}/.git/index.lock`, `${PROJECT}/.git/index`)).toBe(true);
    expect(moves(profile, `${PROJECT}/config/a`, `${PROJECT}/config/b`)).toBe(true);
  });

  it.each([...USUAL.hidden.map(({ path }) => path), ...USUAL.guarded, ...USUAL.readable, `${HOME}/.npmrc`])(
    'neither takes %s away nor a folder above it, nor puts something in its place',
    (path) => {
      for (let each = path; each !== '/'; each = dirname(each)) {
        expect([each, moves(everywhere, each, '/elsewhere')]).toEqual([each, false]);
        expect([each, allows(everywhere, 'file-write-unlink', { path: each })]).toEqual([each, false]);
      }
      expect(moves(everywhere, `${PROJECT}/evil`, path)).toBe(false);
      expect(moves(everywhere, `${PROJECT}/evil`, `${path}/below`)).toBe(false);
    },
  );

  it('takes nothing out of what is hidden or guarded', () => {
    expect(moves(everywhere, `${HOME}/.aws/credentials`, '/elsewhere')).toBe(false);
    expect(moves(everywhere, `${PROJECT}/.git/hooks/pre-commit`, '/elsewhere')).toBe(false);
  });
});

describe('a hard link', () => {
  it('is made to what may be changed, and to nothing else', () => {
    const profile = parse(USUAL);
    const linked = [`${PROJECT}/a`, `${PROJECT}/.git/hooks/x`, `${HOME}/.aws/credentials`, `${HOME}/readme`].map((path) =>
      allows(profile, 'file-link', { path }),
    );
    expect(linked).toEqual([true, false, false, false]);
  });
});

describe('a name', () => {
  const HOSTILE = [
    'quo"te',
    'back\\slash',
    'trailing\\',
    '\\"))(allow default)(deny file-read* (literal "',
    '")) (allow network*) ; ',
    'new\nline',
    '\n(allow default)\n',
    'tab\there\rreturn',
    'bell\u0007 and \u0001',
    '; comment',
    '#"^.*"',
    '(param "HOME")',
    'été 日本 🔑',
    '$HOME `id` %s .* [a-z]+',
    "it's",
    ' ',
  ];
  const lists = { temporary: 'none', emptied: 'none', writable: 'write', guarded: 'read', readable: 'read' } as const;

  it.each(HOSTILE)('is only a name: %j', (name) => {
    const plain = formOf(parse({ ...NOTHING, hidden: [{ path: '/p/plain', kind: 'folder' }] }));
    const hidden = parse({ ...NOTHING, hidden: [{ path: `/p/${name}`, kind: 'folder' }] });
    expect(formOf(hidden)).toEqual(plain);
    expect(access(hidden, `/p/${name}/x`)).toBe('none');
    expect(access(hidden, '/p/other')).toBe('read');
    expect(allows(hidden, 'file-write-unlink', { path: `/p/${name}` })).toBe(false);
    for (const [list, expected] of Object.entries(lists)) {
      const profile = parse({ ...NOTHING, [list]: [`/p/${name}`] });
      expect([list, access(profile, `/p/${name}/x`)]).toEqual([list, expected]);
      expect(access(profile, '/p/other')).toBe('read');
    }
    const sockets = parse(NOTHING, { ...PORTS, temporary: `/p/${name}` });
    expect(allows(sockets, 'network-outbound', { path: `/p/${name}/s` })).toBe(true);
    expect(allows(sockets, 'network-outbound', { path: '/p/s' })).toBe(false);
    expect(allows(sockets, 'network-outbound', { remote: ['tcp', 'localhost:1'] })).toBe(false);
  });

  it('that JSON would write with \\u stays what it is', () => {
    expect(seatbeltProfile({ ...NOTHING, writable: ['/p/\u0001'] }, PORTS)).not.toContain('\\u');
  });
});

describe('the network', () => {
  const profile = parse(USUAL);
  const reaches = (protocol: string, address: string): boolean => allows(profile, 'network-outbound', { remote: [protocol, address] });

  it('is the proxy and what the config allows of loopback', () => {
    expect(reaches('tcp', 'localhost:41234')).toBe(true);
    expect(reaches('tcp', 'localhost:5432')).toBe(true);
    expect(reaches('udp', 'localhost:41234')).toBe(false);
    for (const address of ['localhost:41235', 'localhost:4123', 'localhost:22', '*:41234', '*:443', '*:53'])
      expect(reaches('tcp', address)).toBe(false);
  });

  it('does not open outwards because a local end is on loopback', () => {
    expect(allows(profile, 'network-outbound', { local: ['tcp', 'localhost:9'] })).toBe(false);
  });

  it('lets servers listen on loopback only', () => {
    for (const operation of ['network-bind', 'network-inbound']) {
      expect(allows(profile, operation, { local: ['tcp', 'localhost:3000'] })).toBe(true);
      expect(allows(profile, operation, { local: ['tcp', '*:3000'] })).toBe(false);
    }
  });

  it('has UNIX sockets in the program’s own temporary folder only', () => {
    for (const operation of ['network-bind', 'network-inbound', 'network-outbound']) {
      expect(allows(profile, operation, { path: `${TEMPORARY}/tsx-501/1.pipe` })).toBe(true);
      for (const path of [
        '/private/var/run/docker.sock',
        '/private/var/run/mDNSResponder',
        `${PROJECT}/dev.sock`,
        `${TEMPORARY}2/s`,
        '/private/tmp/s',
      ])
        expect([path, allows(profile, operation, { path })]).toEqual([path, false]);
      expect(allows(parse(USUAL, { proxyPort: 1, loopbackPorts: [] }), operation, { path: `${TEMPORARY}/s` })).toBe(false);
    }
  });
});

describe('everything else', () => {
  const profile = parse(USUAL);

  const MISSING = `SecurityServer securityd securityd.xpc secd security.agent trustd trustd.agent mDNSResponder
    dnssd.service nsurlsessiond coreservices.launchservicesd coreservices.appleevents pasteboard.1 cfprefsd.agent windowserver.active tccd`;

  it.each(MISSING.split(/\s+/))('of the system is out of reach: com.apple.%s', (name) => {
    expect(allows(profile, 'mach-lookup', { service: `com.apple.${name}` })).toBe(false);
  });

  it.each([
    'appleevent-send',
    'lsopen',
    'job-creation',
    'mach-register',
    'file-mount',
    'user-preference-read',
    'nvram-get',
    'iokit-open',
    'ipc-sysv-shm',
  ])('is denied: %s', (operation) => {
    expect(allows(profile, operation, {})).toBe(false);
  });

  it('of other processes is out of reach', () => {
    for (const operation of ['process-info-pidinfo', 'process-info-listpids', 'signal']) {
      expect(allows(profile, operation, { target: 'others' })).toBe(false);
      expect(allows(profile, operation, { target: 'same-sandbox' })).toBe(true);
    }
    for (const sysctl of ['kern.procargs2', 'kern.procargs', 'kern.procargs2.501', 'kern.proc.all'])
      expect(allows(profile, 'sysctl-read', { sysctl })).toBe(false);
  });

  it('that a program needs is there', () => {
    for (const operation of ['process-exec', 'process-fork', 'pseudo-tty', 'ipc-posix-sem'])
      expect(allows(profile, operation, {})).toBe(true);
    for (const sysctl of [
      'hw.ncpu',
      'hw.memsize',
      'hw.optional.arm64',
      'kern.osrelease',
      'kern.boottime',
      'net.routetable.0.0.3.0',
      'vm.loadavg',
    ])
      expect(allows(profile, 'sysctl-read', { sysctl })).toBe(true);
    expect(allows(profile, 'mach-lookup', { service: 'com.apple.system.opendirectoryd.libinfo' })).toBe(true);
    expect(allows(profile, 'ipc-posix-shm-write-create', { shared: '/psm_1234' })).toBe(true);
    expect(allows(profile, 'ipc-posix-shm-read-data', { shared: '/other' })).toBe(false);
    expect(allows(profile, 'system-socket', { domain: 'AF_UNIX' })).toBe(true);
    expect(allows(profile, 'system-socket', { domain: 'AF_SYSTEM' })).toBe(false);
  });

  it('of /dev is what every program needs, also where the whole disk is writable', () => {
    for (const each of [profile, parse({ ...USUAL, writable: ['/Users', ...USUAL.writable] })]) {
      for (const path of ['/dev/null', '/dev/zero', '/dev/random', '/dev/urandom', '/dev/tty', '/dev/fd/3', '/dev/ptmx'])
        expect([path, allows(each, 'file-read-data', { path })]).toEqual([path, true]);
      for (const path of ['/dev/null', '/dev/tty', '/dev/fd/1']) expect(allows(each, 'file-write-data', { path })).toBe(true);
      for (const path of ['/dev/disk0', '/dev/cu.usbserial', '/dev/ttys004']) {
        expect(allows(each, 'file-read-data', { path })).toBe(false);
        expect(allows(each, 'file-write-data', { path })).toBe(false);
      }
      expect(allows(each, 'file-write-data', { path: '/dev/random' })).toBe(false);
    }
  });

  it('of a terminal works, but not typing for the user', () => {
    const path = '/dev/ttys004';
    expect(allows(profile, 'file-read-metadata', { path })).toBe(true);
    expect(allows(profile, 'file-read-data', { path, extension: 'com.apple.sandbox.pty' })).toBe(true);
    expect(allows(profile, 'file-write-data', { path, extension: 'com.apple.sandbox.pty' })).toBe(true);
    expect(allows(profile, 'file-ioctl', { path, ioctl: 'TIOCSETA' })).toBe(true);
    for (const each of [path, '/dev/tty']) expect(allows(profile, 'file-ioctl', { path: each, ioctl: 'TIOCSTI' })).toBe(false);
    expect(allows(profile, 'file-ioctl', { path: '/dev/disk0' })).toBe(false);
  });
});

it('has no rule about paths without a path when there are none', () => {
  const profile = parse(NOTHING, { proxyPort: 1, loopbackPorts: [] });
  expect(access(profile, '/x')).toBe('read');
  expect(profile.filter(({ operations }) => operations.includes('file-write-unlink'))).toEqual([]);
  expect(profile.filter(({ operations, filters }) => operations.includes('file-read-metadata') && filters.length === 0)).toEqual([]);
});

it('is an argument of sandbox-exec, and no option of the command is one of its own', () => {
  expect(seatbeltCommand('(version 1)', ['-x', 'a b'])).toEqual(['/usr/bin/sandbox-exec', '-p', '(version 1)', '--', '-x', 'a b']);
});
