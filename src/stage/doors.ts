// What doors.pl does, for machines without perl: opens the sandbox's doors inside of its network namespace and passes them to kz. Node cannot
// become the next program as perl does, so a shell starts this one and then becomes it: sandbox/node-doors.ts has the line. A program of its
// own: imports nothing of ours, reads no input, and says one line when it fails.
//
// node doors.cjs HOW DOOR... -- ANYTHING...
// HOW   `any=IP` to make every IPv4 address lead here, by the program `ip` at the path IP; `lo` for loopback only
// DOOR  tcp:ADDRESS:PORT, udp:ADDRESS:PORT; port 0 is any
import { execFile } from 'node:child_process';
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { writeFileSync, writeSync } from 'node:fs';
import { createServer, type Server } from 'node:net';

type Handle = Server | Datagrams;

const [how = '', ...words] = process.argv.slice(2);
const doors = words.slice(0, words.indexOf('--'));

// Before anything runs that needs them.
const IP_MS = 5_000;
const LOOK_MS = 200;
const LONGEST_QUEUE = 4096;

main().catch((error: unknown) => {
  fail(error instanceof Error ? error.message : 'unknown error');
});

async function main(): Promise<void> {
  if (process.send === undefined) throw new Error('there is no channel to kz');
  // Node tells neither by an event nor by an error that a channel is gone while a door is on its way.
  setInterval(() => {
    if (!process.connected) fail('kz is gone');
  }, LOOK_MS);
  everyPortIsFree();
  if (how !== 'lo') await everyAddressLeadsHere(how);
  for (const door of doors) await pass({ door }, await open(door));
  // Node holds it back until kz has taken the last door: what kz has not read when this process ends would be lost.
  await pass({ passed: doors.length });
  process.exit(0);
}

/** A program without capabilities may then listen on 80 and 443 too, as kz's doors here do. */
function everyPortIsFree(): void {
  try {
    writeFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', '0');
  } catch {
    // It is read-only in a container, and where this program has no capabilities.
  }
}

function everyAddressLeadsHere(word: string): Promise<void> {
  const ip = /^any=(\/.*)$/.exec(word)?.[1];
  if (ip === undefined) throw new Error('route: without perl it takes `ip`, which is not installed');
  return new Promise((resolve, reject) => {
    const child = execFile(ip, ['route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo'], { timeout: IP_MS }, (error) => {
      if (error === null) resolve();
      else reject(new Error(`route: ${ip}: ${typeof error.code === 'string' ? error.code : 'failed'}`));
    });
    child.stdin?.destroy();
  });
}

function open(door: string): Promise<Handle> {
  const [, kind, address = '', port = ''] = /^(tcp|udp):([\d.]+):(\d+)$/.exec(door) ?? [];
  if (kind === undefined) throw new Error(`${door} is no door`);
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException): void => {
      reject(new Error(`${door}: ${error.code ?? error.message}`));
    };
    if (kind === 'tcp') {
      const server = createServer().once('error', refuse);
      server.listen({ host: address, port: Number(port), backlog: LONGEST_QUEUE }, () => {
        resolve(server);
      });
    } else {
      const socket = createSocket('udp4').once('error', refuse);
      socket.bind(Number(port), address, () => {
        resolve(socket);
      });
    }
  });
}

function pass(message: object, handle?: Handle): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(message, handle, {}, (error) => {
      if (error === null) resolve();
      else reject(new Error(`pass: ${error.message}`));
    });
  });
}

function fail(what: string): never {
  writeSync(2, `kz: cannot open the doors of the sandbox: ${what}\n`);
  process.exit(1);
}
