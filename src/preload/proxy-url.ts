// Where kz's proxy listens and what lets this run in.

export interface Proxy {
  readonly host: string;
  readonly port: number;
  /** Value of Proxy-Authorization. */
  readonly authorization: string;
}

/** Undefined when `text` is not a complete http URL. */
export function readProxy(text: string): Proxy | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, hostname, port, username, password } = new URL(text);
  if (protocol !== 'http:' || port === '') return undefined;
  const credential = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port),
    authorization: `Basic ${Buffer.from(credential).toString('base64')}`,
  };
}
