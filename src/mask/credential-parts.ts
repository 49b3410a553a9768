// What of a value gives it away by itself: the password in a connection string, the strings of a JSON document that look secret, the lines of
// a private key. For searching; where such a part is in the value does not matter, so spellings that mint.ts could not take apart count too.
import { looksLikeSecretName, looksLikeSecretValue } from '../core/credential-shape.ts';

/** Distinct, in no particular order; without the value itself. */
export function credentialParts(value: string): readonly string[] {
  const parts = [...passwords(value), ...documentParts(value)];
  const lines = [value, ...parts].flatMap(secretLines);
  return [...new Set([...parts, ...lines])].filter((part) => part !== value);
}

/** Each with the password as its first group. */
const CONNECTION_STRINGS: readonly RegExp[] = [
  // A URL, also one whose password holds `/` or `@`: up to the last `@` that a host can follow.
  /^[a-z][a-z0-9+.-]*:\/\/[^:/?#@\s]*:(?!\d{1,5}\/)(\S+)@[\w.,:[\]-]+(?:[/?#]\S*)?$/i,
  // libpq's keywords and values.
  /(?:^|\s)password\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s';]+))/i,
  // ADO.NET, ODBC, JDBC.
  /(?:^|[;?&])\s*(?:password|pwd)\s*=\s*(?:"([^"]*)"|'([^']*)'|\{([^}]*)\}|([^;&"'{]+))/i,
  // Go's MySQL driver.
  /^[^:@/\s]+:(\S+)@(?:tcp6?|unix|udp|cloudsql)\(/,
];

function passwords(value: string): string[] {
  if (value.includes('\n')) return [];
  return CONNECTION_STRINGS.flatMap(
    (shape) =>
      shape
        .exec(value)
        ?.slice(1)
        .filter((group) => typeof group === 'string' && group !== '') ?? [],
  );
}

/** Of a value that is a JSON document: how most programs write it again, and the strings in it that look like secrets. */
function documentParts(value: string): readonly string[] {
  if (!/^[{["]/.test(value)) return [];
  const parts: string[] = [];
  try {
    const document: unknown = JSON.parse(value, (key, part: unknown) => {
      const isSecret = typeof part === 'string' && (key === '' || looksLikeSecretName(key) || looksLikeSecretValue(part));
      if (isSecret) parts.push(part);
      return part;
    });
    return [JSON.stringify(document), ...parts];
  } catch {
    return [];
  }
}

const SHORTEST_LINE = 16;

/**
 * Programs that print a key line by line put something in front of each (`util.inspect`, loggers, `sed`). In many environments a newline of a
 * key is written as `\n`, which the program turns into one. Certificates are no secret, and there may be hundreds in one value.
 */
function secretLines(text: string): readonly string[] {
  const keys = Array.from(text.matchAll(PRIVATE_KEY), ([, lines = '']) => linesOf(lines)).flat();
  const others = text.includes('\n') ? linesOf(text.replace(BLOCK, '')).filter(looksLikeSecretValue) : [];
  return [...keys, ...others];
}

/** PEM, PGP, OpenVPN. */
const PRIVATE_KEY = /-----BEGIN [^-]*(?:PRIVATE|Static) KEY[^-]*-----([^]+?)-----END /gi;

/** Whatever is in it. */
const BLOCK = /-----BEGIN [^]+?-----END [^-]*-----/g;

function linesOf(text: string): readonly string[] {
  const lines = text.split(/\r?\n|\\r|\\n/).map((line) => line.trim());
  return lines.filter((line) => line.length >= SHORTEST_LINE && !line.startsWith('-----'));
}
