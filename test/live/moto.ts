// moto's server, an AWS of its own on a free port of this machine: from scripts/live/moto.mjs, or as it is installed.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { delimiter, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { FOLDER } from '../../scripts/live/moto.mjs';
import type { AwsServer } from '../providers/aws-contract.ts';

/** What keeps tests from using it, in words. */
export function motoProblem(): string | undefined {
  return command() === undefined ? 'no moto_server: node scripts/live/moto.mjs' : undefined;
}

/** Fails when it does not answer within a minute. */
export async function startMoto(): Promise<AwsServer> {
  const [program = '', ...args] = command() ?? [];
  const port = await freePort();
  const server = spawn(program, [...args, '-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore', env: { PATH: process.env.PATH } });
  const endpoint = `http://127.0.0.1:${String(port)}`;
  try {
    await answer(endpoint, server);
  } catch (error) {
    await stop(server);
    throw error;
  }
  return { endpoint, stop: () => stop(server) };
}

function command(): string[] | undefined {
  const python = join(FOLDER, 'bin/python');
  if (existsSync(python)) return [python, '-c', 'from moto.server import main; main()'];
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  const installed = folders.map((folder) => join(folder, 'moto_server')).find((path) => existsSync(path));
  return installed === undefined ? undefined : [installed];
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answer(endpoint: string, server: ChildProcess): Promise<void> {
  const end = Date.now() + 60_000;
  while (Date.now() < end) {
    await wait(100);
    if (server.exitCode !== null) throw new Error(`moto ended with status ${String(server.exitCode)}`);
    const response = await fetch(`${endpoint}/moto-api/data.json`).catch(() => undefined);
    if (response?.ok === true) return;
  }
  throw new Error('moto does not answer');
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill();
  await once(server, 'exit');
}
