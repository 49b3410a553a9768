// Writes DER (X.690), as much of it as certificates and a PKCS#12 file need. Reads nothing.

/** One element: tag, definite length, contents. */
export function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of contents) length += part.byteLength;
  return Buffer.concat([header(tag, length), ...contents]);
}

export function sequence(...members: readonly Uint8Array[]): Buffer {
  return element(0x30, ...members);
}

/** SET OF; the caller gives more than one member only in DER's order. */
export function set(...members: readonly Uint8Array[]): Buffer {
  return element(0x31, ...members);
}

/** `[n]` around whole elements (EXPLICIT), or instead of a constructed tag (IMPLICIT). */
export function context(n: number, ...members: readonly Uint8Array[]): Buffer {
  return element(0xa0 | n, ...members);
}

/** `[n]` instead of a primitive tag (IMPLICIT). */
export function contextPrimitive(n: number, contents: Uint8Array): Buffer {
  return element(0x80 | n, contents);
}

export function boolean(value: boolean): Buffer {
  return element(0x01, Buffer.of(value ? 0xff : 0));
}

/** A number, or the big-endian bytes of one; never negative. */
export function integer(value: number | Uint8Array): Buffer {
  const bytes = typeof value === 'number' ? Uint8Array.from(bigEndian(value)) : value;
  const first = bytes.findIndex((byte) => byte !== 0);
  const shortest = first === -1 ? Buffer.of(0) : bytes.subarray(first);
  const sign = (shortest[0] ?? 0) < 0x80 ? [] : [Buffer.of(0)];
  return element(0x02, ...sign, shortest);
}

/** `unused`: how many of the last byte's low bits do not count. */
export function bitString(bytes: Uint8Array, unused = 0): Buffer {
  return element(0x03, Buffer.of(unused), bytes);
}

export function octetString(...contents: readonly Uint8Array[]): Buffer {
  return element(0x04, ...contents);
}

export function nothing(): Buffer {
  return element(0x05);
}

/** `1.2.840.10045.4.3.2` */
export function oid(dotted: string): Buffer {
  const [top = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return element(0x06, Buffer.from([top * 40 + second, ...rest].flatMap(base128)));
}

export function utf8String(text: string): Buffer {
  return element(0x0c, Buffer.from(text, 'utf8'));
}

/** UTF-16, big-endian. */
export function bmpString(text: string): Buffer {
  return element(0x1e, Buffer.from(text, 'utf16le').swap16());
}

/** UTCTime to 2049 and GeneralizedTime from 2050, as RFC 5280 section 4.1.2.5 wants it. */
export function time(date: Date): Buffer {
  const digits = date.toISOString().slice(0, 19).replace(/[-T:]/g, '');
  const year = date.getUTCFullYear();
  if (year >= 1950 && year < 2050) return element(0x17, Buffer.from(`${digits.slice(2)}Z`, 'latin1'));
  return element(0x18, Buffer.from(`${digits}Z`, 'latin1'));
}

/** The text form of a certificate, in lines of 64 as OpenSSL writes them. */
export function certificatePem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

/** Not with Buffer.of, which takes four times as long: a trust store is two thousand elements, and every blind run waits for it. */
function header(tag: number, length: number): Buffer {
  if (length < 0x80) return Buffer.from([tag, length]);
  const bytes = bigEndian(length);
  return Buffer.from([tag, 0x80 | bytes.length, ...bytes]);
}

function bigEndian(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.push(rest % 256);
  return bytes.reverse();
}

function base128(value: number): number[] {
  const bytes = [value % 128];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) bytes.unshift(0x80 | (rest % 128));
  return bytes;
}
