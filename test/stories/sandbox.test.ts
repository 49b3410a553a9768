// What an ordinary program does works in isolation as it does without: how it starts, what it is given, its files, its children, its loopback.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IsolatedStory, STRICT } from './isolated.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from './isolation.ts';
import { collect, FIXTURES, KZ, NODE, type StartOptions } from './kz.ts';

const SHOW = [NODE, `${FIXTURES}show.mjs`];

interface Shown {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

let story: IsolatedStory;

beforeEach(() => {
  story = new IsolatedStory();
});

afterEach(() => {
  story.end(['outside']);
});

async function show(words: readonly string[], options: StartOptions & { flags?: readonly string[]; plain?: boolean } = {}): Promise<Shown> {
  const { stdout, stderr, code } = await story[options.plain === true ? 'plain' : 'strict']([...SHOW, ...words], options);
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  return JSON.parse(stdout) as Shown;
}

describe.skipIf(NO_ISOLATION !== undefined)(`isolated${ISOLATION_NOTE}`, () => {
  describe('the start of a program', () => {
    it('gives it its arguments as they are', async () => {
      const words = [
        '',
        ' ',
        'a b',
        'two\nlines\n',
        "it's",
        '"$HOME" `x` *',
        'ü€😀',
        '--',
        '-c',
        '--bind',
        '--args',
        '\\',
        '\t',
        '$@',
        '%s',
      ];
      expect((await show(words)).args).toEqual(words);
      expect((await show(['--', '--sandbox', 'off', '--'])).args).toEqual(['--', '--sandbox', 'off', '--']);
    });

    it('is where kz was started, also by a link', async () => {
      mkdirSync(join(story.project, 'sub folder'));
      expect((await show([], { cwd: join(story.project, 'sub folder') })).cwd).toBe(join(story.project, 'sub folder'));
      symlinkSync(story.project, join(story.folder, 'link'));
      const { cwd } = await show([], { cwd: join(story.folder, 'link') });
      expect(cwd).toBe(story.project);
      const { stdout, stderr } = await story.shell('echo new > here && cat .keyzero.toml', { cwd: join(story.folder, 'link') });
      expect({ stderr, isConfig: stdout.includes('TOKEN') }).toEqual({ stderr: '', isConfig: true });
      expect(readFileSync(join(story.project, 'here'), 'utf8')).toBe('new\n');
    });

    it.each([
      ['is not there', './nothing-here', 127],
      ['is on no PATH', 'kz-no-such-program', 127],
      ['is not executable', './text', 126],
      ['is a folder', './folder', 126],
    ])('of which the program %s is told as without isolation', async (_, program, code) => {
      story.write('text', 'text');
      mkdirSync(join(story.project, 'folder'));
      const [isolated, plain] = [await story.strict([program]), await story.plain([program])];
      expect(isolated).toEqual(plain);
      expect(isolated).toMatchObject({ code, stdout: '' });
    });

    it('a script with an interpreter that is not there is told as without isolation', async () => {
      story.write('script', '#!/nowhere/interpreter\n', 0o755);
      expect(await story.strict(['./script'])).toEqual(await story.plain(['./script']));
    });

    it('by a script without a first line, or with options in it, is as ever', async () => {
      story.write('bare', 'echo "bare $1"\n', 0o755);
      story.write('optioned', '#!/bin/sh -e\nfalse\necho not here\n', 0o755);
      expect(await story.strict(['./bare', 'x'])).toMatchObject({ code: 0, stdout: 'bare x\n', stderr: '' });
      expect(await story.strict(['./optioned'])).toMatchObject({ code: 1, stdout: '', stderr: '' });
    });
  });

  describe('the environment', () => {
    /** They lead to somebody outside; or are the way to the proxy, which is another one. */
    const OTHER = /proxy|^JAVA_TOOL_OPTIONS$|^TOKEN$|^KEYZERO_|kz-blind-/i;
    const AGENTS = {
      SSH_AUTH_SOCK: '/tmp/agent',
      DBUS_SESSION_BUS_ADDRESS: 'unix:path=/run/bus',
      DOCKER_HOST: 'unix:///run/d',
      DISPLAY: ':0',
    };
    const EXTRA = {
      EDITOR: 'vi',
      EMPTY: '',
      ODD: 'a\nb --setenv X Y',
      UTF: 'ü€😀',
      'with-dash': '1',
      LONG: 'x'.repeat(100_000),
      LC_ALL: 'C',
    };

    /** Long values as their length: a difference should be readable. bubblewrap sets PWD itself. */
    function same({ env }: Shown): Record<string, string> {
      const kept = Object.entries(env).filter(([name, value]) => !OTHER.test(name) && !value.includes('kz-blind-') && name !== 'PWD');
      return Object.fromEntries(
        kept.map(([name, value]) => [name, value.length > 1000 ? `${String(value.length)} ${value[0] ?? ''}` : value]),
      );
    }

    it.each([[[]], [['--clean-env']], [['--keep-env', 'DEPLOY_TOKEN']]])('is the same as without, with %j', async (flags) => {
      const env = { ...EXTRA, DEPLOY_TOKEN: 'meant-for-the-program' };
      const [isolated, plain] = [await show([], { env, flags }), await show([], { env, flags, plain: true })];
      expect(same(isolated)).toEqual(same(plain));
      expect({ ...isolated.env, PWD: '' }).toEqual(
        Object.fromEntries(Object.keys({ ...plain.env, PWD: '' }).map((name) => [name, expect.any(String)])),
      );
      expect(isolated.env.DEPLOY_TOKEN).toBe(flags.includes('DEPLOY_TOKEN') ? 'meant-for-the-program' : undefined);
    });

    it('does not lead to who listens outside', async () => {
      const { env } = await show([], { env: AGENTS });
      for (const name of Object.keys(AGENTS)) expect(env).not.toHaveProperty(name);
      expect((await show([], { env: AGENTS, plain: true })).env).toMatchObject({ DISPLAY: ':0' });
    });

    it.skipIf(!existsSync('/dev/shm'))('has a folder for temporary files that can be written to, whatever TMPDIR said', async () => {
      const script = 'echo "$TMPDIR"; echo x > "$TMPDIR/x" && echo written';
      // Every sandbox has a /dev of its own, and kz says so.
      const { stdout, stderr } = await story.shell(script, { env: { TMPDIR: '/dev/shm' } });
      expect(stdout).toBe('/tmp\nwritten\n');
      expect(stderr).toMatch(/^kz: sandbox: the program cannot write to TMPDIR, which belongs to the system\n$/);
    });

    it('needs no HOME', async () => {
      const script = `unset HOME; exec '${NODE}' '${KZ}' ${STRICT.join(' ')} -- sh -c 'echo "\${HOME-none}"; echo x > in-project'`;
      const { stdout, code } = await collect(story.startProgram(['sh', '-c', script]));
      expect({ code, stdout }).toEqual({ code: 0, stdout: 'none\n' });
      expect(existsSync(join(story.project, 'in-project'))).toBe(true);
    });
  });

  describe('files', () => {
    it('in the project are written for good; in temporary folders they are gone afterwards', async () => {
      const name = `kz-${randomBytes(8).toString('hex')}`;
      const temporary = ['/tmp', '/var/tmp', story.temporary].map((folder) => join(folder, name));
      const script = `mkdir -p sub; echo kept > sub/file; chmod 751 sub; mv sub moved; ln -s moved link; for file in ${temporary.join(' ')}; do echo x > $file && cat $file; done; cat moved/file`;
      const { stdout, stderr, code } = await story.shell(script);
      expect({ stdout, stderr, code }).toEqual({ stdout: 'x\nx\nx\nkept\n', stderr: '', code: 0 });
      expect(readFileSync(join(story.project, 'link/file'), 'utf8')).toBe('kept\n');
      expect(temporary.filter((file) => existsSync(file))).toEqual([]);
    });

    it('of temporary folders outside are not there', async () => {
      writeFileSync(join(story.temporary, 'outside'), story.canary());
      const { stdout, stderr } = await story.shell('ls -A "$TMPDIR" /var/tmp; test -e "$TMPDIR/outside" || echo gone');
      expect(stderr).toBe('');
      expect(stdout).toContain('gone\n');
      expect(stdout).not.toContain('outside');
    });

    it.each(['/kz-new', '/etc/kz-new', '/usr/kz-new', '/run/kz-new'])('%s cannot be made', async (path) => {
      const { stdout, code } = await story.shell(`echo x 2>&- > ${path} && echo written`);
      expect({ stdout, isThere: existsSync(path), isWell: code === 0 }).toEqual({ stdout: '', isThere: false, isWell: false });
    });

    it('of kz’s config can be read and neither changed nor moved away', async () => {
      const before = readFileSync(join(story.project, '.keyzero.toml'), 'utf8');
      const script =
        'cat .keyzero.toml; exec 2>&-; echo x > .keyzero.toml; rm -f .keyzero.toml; mv .keyzero.toml x; echo y > y && mv y .keyzero.toml; true';
      expect((await story.shell(script)).stdout).toBe(before);
      expect(readFileSync(join(story.project, '.keyzero.toml'), 'utf8')).toBe(before);
    });

    it('keep their owner and their mode', async () => {
      const { stdout } = await story.shell('umask 027; echo x > new; stat -c "%u %g %a" new .; id -u; id -g');
      const [user, group] = [String(process.getuid?.()), String(process.getgid?.())] as const;
      const lines = stdout.split('\n');
      expect(lines[0]).toBe(`${user} ${group} 640`);
      expect(lines.slice(2, 4)).toEqual([user, group]);
    });
  });

  describe('processes', () => {
    it('start others, and those others, and wait for all of them', async () => {
      const program = `import { execFileSync, spawnSync } from 'node:child_process';
        const inner = "require('child_process').execFileSync('sh', ['-c', 'echo deep; exit 0'], { stdio: 'inherit' }); process.exit(5)";
        const { status } = spawnSync('sh', ['-c', '"$0" -e "$1"; echo "inner $?"; exit 6', process.execPath, inner], { stdio: 'inherit' });
        console.log('status', status, execFileSync('cat', { input: 'piped' }).toString());`;
      const { stdout, stderr } = await story.node(program);
      expect({ stdout, stderr }).toEqual({ stdout: 'deep\ninner 5\nstatus 6 piped\n', stderr: '' });
    });

    it('that are started by a script of the project’s own packages have everything too, as with npx', async () => {
      story.write('node_modules/tool/package.json', '{"name":"tool","version":"1.0.0","bin":"tool.js"}');
      story.write(
        'node_modules/tool/tool.js',
        '#!/usr/bin/env node\nconsole.log("tool", process.argv.slice(2), process.env.TOKEN);',
        0o755,
      );
      mkdirSync(join(story.project, 'node_modules/.bin'));
      symlinkSync('../tool/tool.js', join(story.project, 'node_modules/.bin/tool'));
      const script = 'PATH="$PWD/node_modules/.bin:$PATH"; sh -c "tool a; true" && exec tool b';
      expect((await story.shell(script)).stdout).toMatch(/^tool \[ 'a' \] kz_masked_\w+\ntool \[ 'b' \] kz_masked_\w+\n$/);
    });

    it('see no others but their own', async () => {
      const { stdout } = await story.shell(`ls /proc | grep -c "^[0-9]"; cat /proc/[0-9]*/cmdline | tr '\\0' ' '`);
      const [count, ...rest] = stdout.split('\n');
      expect(Number(count)).toBeLessThan(8);
      expect(rest.join('\n')).not.toContain(KZ);
    });
  });

  describe('on loopback', () => {
    it('a program reaches its own server by address, by name, and with clients that know the proxy', async () => {
      const program = `import http from 'node:http'; import net from 'node:net';
        const server = http.createServer((request, response) => response.end('own ' + request.url));
        await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        const { port } = server.address();
        const raw = await new Promise((resolve, reject) => { let text = ''; net.connect(port, '127.0.0.1').on('data', (chunk) => (text += chunk))
          .on('end', () => resolve(text)).on('error', reject).end('GET /raw HTTP/1.0\\r\\n\\r\\n') });
        console.log(raw.split('\\r\\n\\r\\n')[1]);
        for (const name of ['127.0.0.1', 'localhost']) console.log(await (await fetch('http://' + name + ':' + port + '/' + name)).text());
        process.exit();`;
      expect(await story.node(program)).toMatchObject({ code: 0, stderr: '', stdout: 'own /raw\nown /127.0.0.1\nown /localhost\n' });
    });

    it('and over a Unix socket of the project, two of its processes talk', async () => {
      const program = `import net from 'node:net'; import { spawn } from 'node:child_process';
        const client = "require('net').connect('own.sock').on('data', (chunk) => { console.log('heard ' + chunk); process.exit() })";
        const server = net.createServer((socket) => socket.end('hello')).listen('own.sock', () =>
          spawn(process.execPath, ['-e', client], { stdio: 'inherit' }).on('exit', (code) => server.close(() => process.exit(code))));`;
      expect(await story.node(program)).toMatchObject({ code: 0, stderr: '', stdout: 'heard hello\n' });
    });
  });

  describe('what it prints', () => {
    const configure = (more = ''): void => {
      story.config(`[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example"]${more} }\n`);
    };
    const SCRIPT = 'echo "<$TOKEN>"; echo "<$TOKEN>" >&2; echo "$TOKEN" | wc -c; exit 3';

    it('has an exposed secret as its name where it is piped', async () => {
      configure(', expose = true');
      const { stdout, stderr, code } = await story.shell(SCRIPT);
      expect({ stdout, code }).toEqual({ stdout: `<[redacted:TOKEN]>\n${String(story.value.length + 1)}\n`, code: 3 });
      expect(stderr).toBe('kz: TOKEN is exposed: the program gets its real value (expose = true)\n<[redacted:TOKEN]>\n');
    });

    it('is not touched with --no-redact', async () => {
      configure(', expose = true');
      const { stdout } = await story.strict(['sh', '-c', SCRIPT], { flags: ['--no-redact', '-q'], reveals: true });
      expect(stdout).toContain(`<${story.value}>`);
    });

    it('has masked tokens as they are with --redact, and 3 MB come through whole', async () => {
      configure();
      const input = randomBytes(3_000_000);
      const { bytes, code, stderr } = await story.strict(['sh', '-c', 'cat; echo "$TOKEN" >&2'], { flags: ['--redact'], input });
      expect({ code, same: bytes.equals(input) }).toEqual({ code: 0, same: true });
      expect(stderr).toMatch(/^kz_masked_\w+\n$/);
    });
  });
});
