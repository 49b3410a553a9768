// Does a variable look like a credential, by its name or by its value? A guess for proposals and warnings, never a decision about what
// is allowed. What it answers never holds any part of the value.

/** Public prefixes that vendors put in front of their secrets; the third column is the fewest characters that follow (16 if absent). */
const VENDORS: readonly (readonly [prefix: RegExp, what: string, rest?: number])[] = [
  [/^(?:gh[pousr]_|github_pat_)/, 'a GitHub token'],
  [/^gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-/, 'a GitLab token'],
  [/^ATATT|^ATBB/, 'an Atlassian token'],
  [/^sk-ant-/, 'an Anthropic key'],
  [/^(?:sk|tvly|pplx|xai)-|^(?:gsk|r8|hf|lsv2_(?:pt|sk)|pcsk|apify_api)_/, 'a model or search API key'],
  [/^(?:sk|rk)_(?:live|test)_|^whsec_/, 'a Stripe key'],
  [/^xox[a-z]-|^xapp-|^xoxe\./, 'a Slack token'],
  [/^https:\/\/hooks\.slack\.com\/(?:services|workflows|triggers)\//, 'a Slack webhook'],
  [/^https:\/\/(?:ptb\.|canary\.)?discord(?:app)?\.com\/api\/webhooks\//, 'a Discord webhook'],
  [/^(?:AKIA|ASIA)(?=[A-Z0-9]{16}$)/, 'an AWS access key'],
  [/^AIza|^ya29\.|^GOCSPX-/, 'a Google credential'],
  [/^npm_|^pypi-|^rubygems_|^dckr_pat_/, 'a package registry token'],
  [/^ntn_/, 'a Notion token'],
  [/^secret_/, 'a Notion token', 40],
  [/^SG\.|^NRAK-|^PMAK-|^glsa_|^glc_|^sntry[su]_|^phx_/, 'a service token'],
  [/^(?:lin_api|figd|shp(?:at|ss|ca|pa)|sq0(?:atp|csp)|dapi)[_-]?/, 'a service token', 24],
  [/^do[or]_v1_|^dop_v1_|^nfp_|^sbp_|^sb_secret_|^tskey-|^fm2_|^bkua_|^CCIPAT_/, 'a cloud token'],
  [/^hv[sbr]\.|^ops_ey|^dp\.(?:st|pt|ct|sa)\.|\.atlasv1\./, 'a secret manager token'],
  [/^AGE-SECRET-KEY-1/, 'an age identity'],
  [/^\d{8,10}:(?=[\w-]{35}$)/, 'a Telegram bot token'],
];

/** Bundlers put these variables into what browsers download: whatever they hold is published. */
const PUBLISHED = /^(?:NEXT_PUBLIC|NUXT_PUBLIC|EXPO_PUBLIC|PUBLIC|VITE|REACT_APP|VUE_APP|GATSBY|STORYBOOK)_/;

/** Trailing words that say which one, not what. */
const QUALIFIER = /_(?:V?\d+|PROD|PRODUCTION|DEV|DEVELOPMENT|STAGING|TEST|LOCAL|LIVE|SANDBOX|OLD|NEW|BASE64|B64|JSON|PEM|BASE|VALUE)$/;

/** Words that make a number or a switch of whatever stands beside them: `MAX_TOKENS`, `ALLOW_EMPTY_PASSWORD`. */
const MEASURED_OR_SWITCHED = /(?:^|_)(?:MAX|MIN|NUM|PER|LIMIT|BUDGET|ENABLED?|DISABLED?|ALLOW|REQUIRED?|SKIP|USE|SHOW|HIDE)(?:_|$)/;

/** Last words that name something about a secret: `TOKEN_FILE` is a path, `SECRET_NAME` a name, `TOKEN_URL` an address. */
const ABOUT = new RegExp(
  `_(?:${[
    ['FILE', 'FILES', 'PATH', 'PATHS', 'DIR', 'DIRECTORY', 'FOLDER', 'SOCK', 'SOCKET', 'PARALLELISM', 'STORE', 'BACKEND', 'PROVIDER'],
    ['NAME', 'NAMES', 'ID', 'IDS', 'ARN', 'USER', 'USERNAME', 'EMAIL', 'TYPE', 'KIND', 'FORMAT', 'FIELD', 'HEADER', 'PREFIX', 'SUFFIX'],
    ['URL', 'URLS', 'URI', 'URIS', 'HOST', 'HOSTS', 'HOSTNAME', 'PORT', 'ENDPOINT', 'DOMAIN', 'REGION', 'ISSUER', 'AUDIENCE', 'REALM'],
    ['ALGORITHM', 'ALG', 'METHOD', 'MODE', 'STRATEGY', 'POLICY', 'SCOPE', 'SCOPES', 'VERSION', 'LENGTH', 'SIZE', 'COUNT', 'BITS', 'ROUNDS'],
    ['TTL', 'EXPIRY', 'EXPIRES', 'EXPIRATION', 'LIFETIME', 'DURATION', 'TIMEOUT', 'INTERVAL', 'AGE', 'IN', 'AT', 'MS', 'SECONDS'],
    ['MINUTES', 'HOURS', 'DAYS', 'CHECK', 'CHECKS', 'SCANNING', 'ROTATION', 'RESET', 'HINT'],
  ]
    .flat()
    .join('|')})$`,
);

const STRONG = /(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|APIKEY|CREDENTIAL)S?(?:_|$)|(?:^|_)(?:CREDS|MNEMONIC)(?:_|$)/;
const LAST_WORD = /(?:^|_)(?:KEYS?|AUTH|AUTHORIZATION|DSN|JWT|PAT|PRIVATE|WEBHOOKS?)$|_(?:PASS|PWD)$/;
const GLUED_KEY = /(?:ACCESS|ACCOUNT|AUTH|ENCRYPTION|LICENSE|MASTER|PRIVATE|SECRET|SIGNING|SSH)KEYS?$/;
const NO_SECRET_KEY = /(?:^|_)(?:PUBLIC|PUB|PUBLISHABLE|SITE|SORT|PARTITION|FOREIGN|CACHE|SHORTCUT|HOT|IDEMPOTENCY)_?KEYS?$/;
/** Endings that outrank ABOUT: half of a pair, or an address that usually carries its password. */
const SECRET_ENDING = new RegExp(
  [
    '(?:ACCESS_KEY|SECRET)_ID$',
    'WEBHOOKS?_UR[LI]S?$',
    '(?:^|_)CONN(?:ECTION)?_?(?:STRING|STR|URL|URI)S?$',
    '(?:^|_)(?:DATABASE|REDIS|MONGO|AMQP|CLOUDAMQP|RABBITMQ|POSTGRES|PG|MYSQL|MARIADB|MSSQL|CLICKHOUSE|BROKER)\\w*_UR[LI]$',
    'DB_UR[LI]$',
  ].join('|'),
);

/** Well-known variables whose names say otherwise: a path, and the name of a setting (`GIT_CONFIG_KEY_0`, without which git stops). */
const MISNAMED = new Set(['GOOGLE_APPLICATION_CREDENTIALS', 'GIT_CONFIG_KEY']);

export function looksLikeSecretName(name: string): boolean {
  const words = asWords(name);
  if (isPublishedName(name) || MISNAMED.has(words)) return false;
  if (MEASURED_OR_SWITCHED.test(words) || NO_SECRET_KEY.test(words)) return false;
  if (SECRET_ENDING.test(words)) return true;
  if (ABOUT.test(words)) return false;
  return STRONG.test(words) || LAST_WORD.test(words) || GLUED_KEY.test(words);
}

/** The weakest answer of `secretValueShape`: see `explainsRandomValue`. */
export const RANDOM_SHAPE = 'a long random string';

export function looksLikeSecretValue(value: string): boolean {
  return secretValueShape(value) !== undefined;
}

/** A credential shows what it is at its start, and what follows may be anything, of any length. */
const JUDGED_CHARACTERS = 8192;

/** What the value looks like, as the end of a sentence (`a GitHub token`), or undefined. */
export function secretValueShape(value: string): string | undefined {
  const text = value.slice(0, JUDGED_CHARACTERS).trim();
  if (/-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----/.test(text)) return 'a private key';
  const [, scheme, rest] = /^(?:(Bearer|Basic) +)?(\S*)$/i.exec(text) ?? [];
  if (rest !== undefined) {
    if (/^eyJ[\w-]{8,}\.[\w-]{8,}\.[\w.-]*$/.test(rest)) return 'a JSON Web Token';
    const vendor = vendorOf(rest);
    if (vendor !== undefined) return vendor;
    if (scheme !== undefined && rest.length >= 8 && !isReference(rest)) return 'an Authorization header';
    if (looksRandom(rest)) return RANDOM_SHAPE;
  }
  return addressShape(text);
}

/**
 * Does the name say that even a random-looking value is no secret? Published by a bundler, something about a secret (`…_FILE`, `…_ID`),
 * or a fingerprint of public content (`COMMIT_SHA`).
 */
export function explainsRandomValue(name: string): boolean {
  const words = asWords(name);
  if (isPublishedName(name)) return true;
  return ABOUT.test(`_${words}`) || /(?:^|_)(?:SHA\d*|COMMIT|REVISION|DIGEST|CHECKSUM|FINGERPRINT|INTEGRITY|ETAG|BUILD)(?:_|$)/.test(words);
}

/** Does a bundler publish the variable with this name? */
export function isPublishedName(name: string): boolean {
  return PUBLISHED.test(name) && !name.startsWith('PUBLIC_KEY');
}

/** Does the value only point at another variable or wait to be filled in: `${TOKEN}`, `$TOKEN`, `<token>`, `{{ token }}`, `****`? */
export function isReference(value: string): boolean {
  return /^(?:\$\{[^}]*\}|\$[A-Za-z_]\w*|<[^>]*>|\{\{.*\}\}|\{[\w.]+\}|%\w+%|\*+|x+)$/i.test(value);
}

/** Longer ones are judged by their end, which says what they are: QUALIFIER is tried once for each of its words. */
const LONGEST_NAME = 256;

/** `githubToken`, `X-Api-Key` and `API_KEY_2` as upper-case words, without what only says which one. */
function asWords(name: string): string {
  let words = name
    .slice(-LONGEST_NAME)
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/[^A-Za-z0-9]+/g, '_')
    .replace(/^_+|_+$/g, '')
    .toUpperCase();
  while (QUALIFIER.test(words)) words = words.replace(QUALIFIER, '');
  return words;
}

function vendorOf(text: string): string | undefined {
  for (const [prefix, what, length = 16] of VENDORS) {
    const found = prefix.exec(text);
    if (found === null) continue;
    const rest = text.slice(found.index + found[0].length);
    // `sk-xxxxxxxxxxxxxxxx` and `sk-your-key-goes-here` are placeholders.
    const isVaried = new Set(rest).size >= 6 && (/\d/.test(rest) || (/[a-z]/.test(rest) && /[A-Z]/.test(rest)));
    if (rest.length >= length && isVaried && /^[\w.~+/=:-]+$/.test(rest)) return what;
  }
  return undefined;
}

const URL_USER = /^[a-z][a-z0-9+.-]*:\/\/([^\s:@/?#]+)@/i;
// A host with a port is not a user with a password: `https://registry:5000/@scope/name`.
const URL_PASSWORD = /^[a-z][a-z0-9+.-]*:\/\/[^\s:@/?#]*:(?!\d{1,5}[/?#])([^\s@]+)@/i;
const URL_PARAMETER = /[?&](?:token|access_token|api_?key|key|sig|signature|secret|password)=([^&\s]{8,})/gi;
const CONNECTION_PART = /(?:^|[;\s])(?:password|pwd|accountkey|sharedaccesskey|sharedaccesssignature) ?= ?([^\s;]{4,})/i;

function addressShape(text: string): string | undefined {
  if (holdsValue(URL_PASSWORD, text)) return 'a URL with a password';
  const user = URL_USER.exec(text)?.[1];
  const isKey = user !== undefined && (vendorOf(user) !== undefined || looksRandom(user));
  if (isKey || hasSecretParameter(text)) return 'a URL with a key';
  return holdsValue(CONNECTION_PART, text) ? 'a connection string with a password' : undefined;
}

/** In two steps: looking for both at once takes time that grows with the square of the text. */
function hasSecretParameter(text: string): boolean {
  const scheme = text.indexOf('://');
  return scheme !== -1 && [...text.slice(scheme).matchAll(URL_PARAMETER)].some(([, value = '']) => !isReference(value));
}

function holdsValue(pattern: RegExp, text: string): boolean {
  const value = pattern.exec(text)?.[1];
  return value !== undefined && !isReference(value);
}

/** Long, of one word, and mixed as words with numbers are not: `eu-west-1-cluster-02` changes between letter and digit only at a dash. */
function looksRandom(text: string): boolean {
  if (!/^[\w+/=~-]{32,}$/.test(text) || isPath(text) || /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return false;
  const changes = text.match(/[A-Za-z](?=\d)|\d(?=[A-Za-z])/g)?.length ?? 0;
  const leastBits = /^[0-9a-f]+$/i.test(text) ? 3 : 3.5;
  return changes >= 4 && bitsPerCharacter(text) >= leastBits;
}

/** Base64 may start with a slash too, but has fewer of them. */
function isPath(text: string): boolean {
  return /^[~.]?\//.test(text) && text.split('/').length > 1 + text.length / 20;
}

/** Shannon's entropy of the text's own character frequencies. */
function bitsPerCharacter(text: string): number {
  const counts = new Map<string, number>();
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length);
  return bits;
}
