// A PostgreSQL of its own on a free port of this machine, with everything it writes in a temporary folder. It ends with this process.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface Login {
  readonly username: string;
  readonly password: string;
}

export interface Postgres {
  readonly port: number;
  readonly administrator: Login;
  /** What `psql` prints for a statement; rejects with what it says when it is not let in. */
  query(login: Login, statement: string): Promise<string>;
  stop(): Promise<void>;
}

const PROGRAMS = ['initdb', 'postgres', 'psql'];

/** What keeps tests from using it, in words. */
export function postgresProblem(): string | undefined {
  const missing = PROGRAMS.filter((program) => pathOf(program) === undefined);
  return missing.length === 0 ? undefined : `no ${missing.join(', ')}`;
}

export async function startPostgres(): Promise<Postgres> {
  const folder = mkdtempSync(join(tmpdir(), 'kz-postgres-'));
  const administrator = { username: 'postgres', password: randomBytes(12).toString('hex') };
  const port = await freePort();
  const environment = {
    PATH: process.env.PATH ?? '',
    LC_ALL: 'C',
    INITDB: pathOf('initdb'),
    POSTGRES: pathOf('postgres'),
    FOLDER: folder,
    PORT: String(port),
  };
  writeFileSync(join(folder, 'password'), `${administrator.password}\n`, { mode: 0o600 });
  const user = unprivileged();
  for (const path of [folder, join(folder, 'password')]) if (user !== undefined) chownSync(path, user.uid, user.gid);
  const server = spawn('/bin/sh', ['-c', SCRIPT], { cwd: folder, env: environment, stdio: ['pipe', 'ignore', 'ignore'], ...user });
  const postgres: Postgres = {
    port,
    administrator,
    query: (login, statement) => query(port, login, statement),
    async stop() {
      const ended = once(server, 'exit');
      server.stdin.end();
      if (server.exitCode === null) await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await answer(postgres, () => server.exitCode);
  return postgres;
}

/** Ends the server, and removes what it wrote, when the standard input ends: also when the tests were killed. */
const SCRIPT = `
"$INITDB" --no-sync --username=postgres --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C --pgdata=data || exit 1
"$POSTGRES" -D data -k "$FOLDER" -h 127.0.0.1 -p "$PORT" -c fsync=off &
read -r _
kill -INT $!
wait $!
cd /
rm -rf "$FOLDER"
`;

/** PostgreSQL refuses to run as root. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (option: string) => Number(execFileSync('id', [option, 'nobody'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

async function query(port: number, { username, password }: Login, statement: string): Promise<string> {
  const connection = `host=127.0.0.1 port=${String(port)} user=${username} dbname=postgres`;
  const args = ['--no-psqlrc', '--no-align', '--tuples-only', '-d', connection, '-c', statement];
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C', PGPASSWORD: password, PGCONNECT_TIMEOUT: '10' };
  return (await promisify(execFile)(pathOf('psql') ?? 'psql', args, { env })).stdout.trim();
}

async function answer(postgres: Postgres, exitCode: () => number | null): Promise<void> {
  const end = Date.now() + 60_000;
  while (exitCode() === null && Date.now() < end) {
    const answered = await postgres.query(postgres.administrator, 'select 1').catch(() => '');
    if (answered === '1') return;
    await wait(100);
  }
  await postgres.stop();
  throw new Error('PostgreSQL does not start');
}

/** Debian keeps the programs of each version in a folder that is not in PATH. */
function pathOf(program: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return [...debianFolders(), ...folders].map((folder) => join(folder, program)).find((path) => existsSync(path));
}

function debianFolders(): string[] {
  const root = '/usr/lib/postgresql';
  if (!existsSync(root)) return [];
  const versions = readdirSync(root).sort((a, b) => Number(b) - Number(a));
  return versions.map((version) => join(root, version, 'bin'));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
