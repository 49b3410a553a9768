// The proxy's answer to CONNECT, from the bytes that have arrived so far. Only what the end of a handshake needs: this is no HTTP client.

export interface Answer {
  /** 0: this was not HTTP. */
  readonly status: number;
  /** Why the proxy refused, in its own words; one short line, printable. */
  readonly reason: string;
  /** What came behind the answer and belongs to the connection. */
  readonly rest: Buffer;
}

/** Far above what any proxy sends, far below what could hurt. */
const MAX_HEAD = 16_384;
const MAX_REASON = 300;

/** Undefined: more has to arrive first, unless it `ended`. */
export function readAnswer(bytes: Buffer, ended = false): Answer | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end === -1) return ended || bytes.length > MAX_HEAD ? { status: 0, reason: '', rest: bytes } : undefined;
  const head = bytes.toString('latin1', 0, end);
  const rest = bytes.subarray(end + 4);
  const status = Number(/^HTTP\/1\.[01] (\d{3})\b/.exec(head)?.[1] ?? 0);
  if (isSuccess(status)) return { status, reason: '', rest };
  const reason = /^x-kz-error:(.*)$/im.exec(head)?.[1] ?? firstLine(rest, ended || rest.length >= lengthOf(head));
  return reason === undefined ? undefined : { status, reason: printable(reason), rest };
}

export function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

function lengthOf(head: string): number {
  return Number(/^content-length: *(\d+)\s*$/im.exec(head)?.[1] ?? Infinity);
}

function firstLine(body: Buffer, ended: boolean): string | undefined {
  const end = body.indexOf('\n');
  return end === -1 && !ended && body.length < MAX_REASON ? undefined : body.toString('utf8', 0, end === -1 ? MAX_REASON : end);
}

function printable(text: string): string {
  return text
    .replace(/[^\x20-\x7e]/g, ' ')
    .trim()
    .slice(0, MAX_REASON);
}
