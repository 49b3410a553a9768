// What the first bytes of a connection are the start of. Decides as soon as it can, and after 24 bytes at the latest.

export type FirstBytes = 'tls' | 'http' | 'http2' | 'other' | 'incomplete';

/**
 * Give it everything that has arrived so far, again whenever more has. Whatever an HTTP server could read as a request line is `http`,
 * also with a method that nobody has heard of: calling it `other` would be a way around the rules on methods and paths.
 */
export function peek(bytes: Uint8Array): FirstBytes {
  if (bytes[0] === TLS_HANDSHAKE) return 'tls';
  const text = Buffer.from(bytes.subarray(0, LONGEST)).toString('latin1');
  if (text.startsWith(HTTP2_PREFACE)) return 'http2';
  if (text.startsWith(SSH_BANNER)) return 'other';
  if (HTTP2_PREFACE.startsWith(text) || SSH_BANNER.startsWith(text)) return 'incomplete';
  if (METHOD_AND_SPACE.test(text)) return 'http';
  return text.length < LONGEST && METHOD_SO_FAR.test(text) ? 'incomplete' : 'other';
}

const LONGEST = 24;
const TLS_HANDSHAKE = 0x16;
/** RFC 9113 3.4: enough of it; no HTTP/1 server accepts this line. */
const HTTP2_PREFACE = 'PRI * HTTP/2.0';
/** RFC 4253 4.2. Its first word has the shape of a method: `SSH-2.0-OpenSSH_9.2p1 Debian-2`. */
const SSH_BANNER = 'SSH-2.0-';
/** A token (RFC 9110 5.6.2). */
const METHOD_AND_SPACE = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+ /;
const METHOD_SO_FAR = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
