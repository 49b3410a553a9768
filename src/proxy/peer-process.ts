// Whose process is at the other end of a loopback connection: for clients that cannot send the run's credential (Java's). Answers from
// /proc, so on Linux only; whatever cannot be read is a no. Looks into the given processes and nowhere else.
import { readdir, readFile, readlink } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { endianness } from 'node:os';

/** A connection as its accepting side sees it: a net.Socket is one. */
export interface Accepted {
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
}

/**
 * Does one of these processes hold the other end? `tree` gives the child and all below it, and is called after the connection was found.
 * A holder may have been handed the connection by the one that opened it.
 */
export async function peerBelongsTo(connection: Accepted, tree: () => readonly number[]): Promise<boolean> {
  if (process.platform !== 'linux') return false;
  const inode = await inodeOfPeer(connection);
  if (inode === undefined) return false;
  // The newest process and its newest descriptor are the likeliest.
  for (const pid of [...tree()].sort((a, b) => b - a)) {
    if (await holds(pid, `socket:[${inode}]`)) return true;
  }
  return false;
}

const ESTABLISHED = '01';

/** Columns of proc_pid_net(5): sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode. */
const ADDRESSES = 1;
const STATE = 3;
const INODE = 9;

async function inodeOfPeer({ localAddress, localPort, remoteAddress, remotePort }: Accepted): Promise<string | undefined> {
  if (localPort === undefined || remotePort === undefined) return undefined;
  const near = endOf(localAddress, localPort);
  const far = endOf(remoteAddress, remotePort);
  if (near === undefined || far === undefined) return undefined;
  // The peer's own row: its address first. An IPv4 connection of a dual-stack socket is in the second table.
  const looked = await Promise.all([
    rowOf('/proc/self/net/tcp', `${far.ipv4 ?? '-'} ${near.ipv4 ?? '-'}`),
    rowOf('/proc/self/net/tcp6', `${far.ipv6} ${near.ipv6}`),
  ]);
  return looked.find((inode) => inode !== undefined);
}

async function rowOf(table: string, addresses: string): Promise<string | undefined> {
  const text = await readFile(table, 'latin1').catch(() => '');
  const found = text.indexOf(` ${addresses} `);
  if (found < 0) return undefined;
  const start = text.lastIndexOf('\n', found) + 1;
  const columns = text
    .slice(start, start + 256)
    .trim()
    .split(/\s+/);
  const inode = columns[INODE];
  const isIt = columns[STATE] === ESTABLISHED && columns.slice(ADDRESSES, STATE).join(' ') === addresses;
  return isIt && inode !== undefined && /^[1-9]\d*$/.test(inode) ? inode : undefined;
}

/** One end as the kernel prints it: the words of the address in the machine's byte order. Loopback only. */
function endOf(address: string | undefined, port: number): { readonly ipv4: string | undefined; readonly ipv6: string } | undefined {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const text = address?.replace(/^::ffff:/i, '');
  if (text === '::1') return { ipv4: undefined, ipv6: words([0, 0, 0, 1]) + suffix };
  if (text === undefined || !isIPv4(text) || !text.startsWith('127.')) return undefined;
  const word = text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  return { ipv4: words([word]) + suffix, ipv6: words([0, 0, 0xffff, word]) + suffix };
}

function words(list: readonly number[]): string {
  const buffer = Buffer.alloc(4);
  return list
    .map((word) => {
      if (endianness() === 'LE') buffer.writeUInt32LE(word);
      else buffer.writeUInt32BE(word);
      return buffer.toString('hex').toUpperCase();
    })
    .join('');
}

const AT_ONCE = 64;

async function holds(pid: number, link: string): Promise<boolean> {
  const folder = `/proc/${String(pid)}/fd`;
  const names = (await readdir(folder).catch(() => [])).sort((a, b) => Number(b) - Number(a));
  for (let start = 0; start < names.length; start += AT_ONCE) {
    const batch = names.slice(start, start + AT_ONCE).map((name) => readlink(`${folder}/${name}`).catch(() => ''));
    if ((await Promise.all(batch)).includes(link)) return true;
  }
  return false;
}
