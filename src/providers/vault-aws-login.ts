// The proof of who we are on AWS that Vault's aws login takes: a signed question to STS, which Vault asks in our place. Nothing is sent
// to AWS from here, but by the credential chain when it needs to.
import { createHash, createHmac } from 'node:crypto';
import { orAborted } from '../core/abort.ts';
import { KzError } from '../core/errors.ts';

/** What Vault asks unless its `sts_endpoint` says otherwise. */
const STS = { host: 'sts.amazonaws.com', region: 'us-east-1' };
const QUESTION = 'Action=GetCallerIdentity&Version=2011-06-15';

/** The `iam_…` parts of a login. The server's id keeps the proof from being used at another Vault. Throws `provider-locked`. */
export async function signedIdentity(serverId: string | undefined, who: string, signal: AbortSignal): Promise<Record<string, string>> {
  const { fromNodeProviderChain, SignatureV4 } = await import('./aws-sdk.ts');
  const credentials = fromNodeProviderChain();
  const signer = new SignatureV4({ service: 'sts', region: STS.region, sha256: Sha256, credentials });
  const headers = {
    host: STS.host,
    'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
    'content-length': String(QUESTION.length),
    ...(serverId === undefined ? {} : { 'x-vault-aws-iam-server-id': serverId }),
  };
  const question = { method: 'POST', protocol: 'https:', hostname: STS.host, path: '/', query: {}, headers, body: QUESTION };
  // The chain takes no signal, and asks a metadata server that may never answer.
  const signed = await orAborted(signer.sign(question), signal).catch(() => {
    signal.throwIfAborted();
    // Without the cause: it may quote what a credential process printed.
    throw new KzError('provider-locked', `the aws login to ${who} found no AWS credentials`, { hint: 'run `aws sts get-caller-identity`' });
  });
  return {
    iam_http_request_method: 'POST',
    iam_request_url: toBase64(`https://${STS.host}/`),
    iam_request_body: toBase64(QUESTION),
    iam_request_headers: toBase64(JSON.stringify(signed.headers)),
  };
}

function toBase64(text: string): string {
  return Buffer.from(text).toString('base64');
}

type Bytes = string | ArrayBuffer | ArrayBufferView;

/** The hash that the signer asks for, which has to be a class. */
class Sha256 {
  readonly #hash;

  constructor(secret?: Bytes) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', toBuffer(secret));
  }

  update(data: Bytes): void {
    this.#hash.update(toBuffer(data));
  }

  digest(): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(this.#hash.digest()));
  }

  reset(): void {
    throw new Error('unreachable: the signer makes a new one');
  }
}

function toBuffer(data: Bytes): Buffer {
  if (typeof data === 'string') return Buffer.from(data);
  return data instanceof ArrayBuffer ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
