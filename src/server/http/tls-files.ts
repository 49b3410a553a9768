// The certificate that the server shows, and the one that it writes down for the clients of its proxy.
import { readFile, writeFile } from 'node:fs/promises';
import { KzError, systemCode } from '../../core/errors.ts';
import type { TlsIdentity } from './http.ts';

export type { TlsIdentity } from './http.ts';

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** Throws `config-unreadable`. Whether they are what they should be is found out by who serves with them. */
export async function readTls({ certFile, keyFile }: TlsFiles): Promise<TlsIdentity> {
  return { cert: await readPem(certFile, '--tls-cert'), key: await readPem(keyFile, '--tls-key') };
}

/** Everybody may read it: it is public. */
export async function writeCertificate(path: string, pem: string): Promise<void> {
  try {
    await writeFile(path, pem, { mode: 0o644 });
  } catch (error) {
    throw new KzError('write-failed', `cannot write ${path}, which --proxy-ca-file names (${systemCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  }
}

async function readPem(path: string, flag: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new KzError('config-unreadable', `cannot read ${path}, which ${flag} names (${systemCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  }
}
