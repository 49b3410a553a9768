import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../../src/audit/event.ts';
import { suggestConfig } from '../../src/audit/suggest.ts';
import { checkText } from '../../src/config/load.ts';
import { BLOCKED, exchange } from './samples.ts';

function suggested(...events: Partial<Exchange>[]): string {
  return suggestConfig(events.map(exchange)) ?? '';
}

const DENY_ALL = { allow: false, host: '*' };

it('names the hosts of each secret and the connections, exactly, and denies the rest', () => {
  const text = suggested(
    {},
    {},
    { host: 'uploads.github.com' },
    { host: 'packages.example.com', swapped: [] },
    { host: 'api.stripe.com', swapped: [{ name: 'STRIPE_KEY', where: 'header authorization' }] },
  );
  expect(text).toBe(`# Into the entry of each secret, which is there already; the header a second time is an error:
[secrets.GITHUB_TOKEN]
hosts = ["api.github.com", "uploads.github.com"]

[secrets.STRIPE_KEY]
hosts = ["api.stripe.com"]

# In place of all [[blind.connections]] that are there. The first that matches counts.
[[blind.connections]]
allow = true
host = "api.github.com"

[[blind.connections]]
allow = true
host = "api.stripe.com"

[[blind.connections]]
allow = true
host = "packages.example.com"

[[blind.connections]]
allow = true
host = "uploads.github.com"

# Nothing else.
[[blind.connections]]
allow = false
host = "*"
`);
});

it('is a config that kz takes, once the entries are those that are there', async () => {
  const text = suggested({}, { host: '[::1]', port: 8443 }, { host: '127.0.0.1', port: 80 }, BLOCKED);
  const whole = text.replace(/^\[secrets\..*\]$/gm, '$&\nprovider = "env"\nref = "X"');
  await expect(checkText('suggested', whole)).resolves.toBeUndefined();
});

it('has ports where they are not the usual ones', () => {
  const text = suggested(
    { port: 8443 },
    { host: 'b.example', port: 80 },
    { host: 'b.example' },
    { host: 'c.example' },
    { host: 'c.example', port: 9000 },
  );
  expect(parse(text)).toEqual({
    secrets: { GITHUB_TOKEN: { hosts: ['api.github.com:8443', 'b.example', 'c.example:443', 'c.example:9000'] } },
    blind: {
      connections: [
        { allow: true, host: 'api.github.com', port: 8443 },
        { allow: true, host: 'b.example' },
        { allow: true, host: 'c.example', port: 443 },
        { allow: true, host: 'c.example', port: 9000 },
        DENY_ALL,
      ],
    },
  });
});

it('has every port of what is not HTTP, which no rule without one lets through', () => {
  const text = suggested({ protocol: 'raw', method: null, path: null, status: null, swapped: [], host: 'db.example' });
  expect(parse(text)).toMatchObject({ blind: { connections: [{ allow: true, host: 'db.example', port: 443 }, DENY_ALL] } });
});

describe('what did not happen', () => {
  it('is there as comments only: blocked hosts', () => {
    const text = suggested({}, BLOCKED, BLOCKED, { ...BLOCKED, host: 'b.example', port: 81, why: 'host-mismatch', rule: null });
    expect(parse(text)).toMatchObject({ blind: { connections: [{ allow: true, host: 'api.github.com' }, DENY_ALL] } });
    expect(text).toContain(`
# blocked (2 times): evil.example:443, rule at /home/me/app/.keyzero.toml:14; to allow it, uncomment:
# [[blind.connections]]
# allow = true
# host = "evil.example"

# blocked (once): b.example:81, host-mismatch

# Nothing else.
`);
  });

  it('is there as comments only: tokens that were left', () => {
    const left = [{ name: 'GITHUB_TOKEN', where: 'query k', reason: 'slot', allow: 'swap = ["query:k"]' } as const];
    const other = [{ name: 'OTHER', where: 'header authorization', reason: 'host', allow: 'hosts = ["api.github.com"]' } as const];
    const text = suggested({ left }, { left }, { left: other });
    expect(parse(text)).toMatchObject({ secrets: { GITHUB_TOKEN: { hosts: ['api.github.com'] } } });
    expect(text).toContain('\n# not swapped in query k to api.github.com (2 times); what would allow it: swap = ["query:k"]\n');
    expect(text).toContain('\n# [secrets.OTHER]\n# not swapped in header authorization to api.github.com (once);');
  });

  it('has no rule: a name that does not resolve', () => {
    expect(parse(suggested({ host: 'api.githbu.com', error: 'dns', status: null }))).toEqual({ blind: { connections: [DENY_ALL] } });
  });

  it('is there as comments only: bytes that were not HTTP, with their port', () => {
    const refused = { type: 'refused', time: 'now', why: 'not-http', host: 'db.example', port: 443 } as const;
    const text = suggestConfig([refused, { ...refused, why: 'bad-tls' }, { ...refused, host: null }]) ?? '';
    expect(parse(text)).toEqual({ blind: { connections: [DENY_ALL] } });
    expect(text).toContain('# blocked (once): db.example:443, not-http; to allow it, uncomment:\n');
    expect(text).toContain('# host = "db.example"\n# port = 443\n');
  });

  it('is there as comments only: a name that was looked up in the sandbox and denied', () => {
    const refused = { type: 'refused', time: 'now', why: 'denied-name', host: 'evil.example', port: null } as const;
    const text = suggestConfig([refused, { ...refused, why: 'unknown-address' }, { ...refused, host: null }]) ?? '';
    expect(parse(text)).toEqual({ blind: { connections: [DENY_ALL] } });
    expect(text).toContain('# blocked (once): evil.example, no rule allows it; to allow it, uncomment:\n');
    expect(text).not.toContain('port');
  });

  it('has no rule: a port of this machine that allow_loopback allows', () => {
    const text = suggested({ protocol: 'raw', host: '127.0.0.1', port: 5432, why: 'allow-loopback', rule: null, swapped: [] });
    expect(parse(text)).toEqual({ blind: { connections: [DENY_ALL] } });
  });

  it('makes no suggestion when it is everything', () => {
    expect(suggestConfig([])).toBeUndefined();
  });
});

it('lets no text out of its comment or its string', () => {
  const hostile = 'x"\n[[blind.connections]]\nallow = true\r\nhost = "*"\u007f\u0000';
  const left = [{ name: 'GITHUB_TOKEN', where: hostile, reason: 'slot', allow: hostile } as const];
  const text = suggested({ host: hostile, left }, { ...BLOCKED, host: hostile, rule: { index: 0, at: hostile } });
  expect(parse(text)).toEqual({
    secrets: { GITHUB_TOKEN: { hosts: [hostile] } },
    blind: { connections: [{ allow: true, host: hostile }, DENY_ALL] },
  });
});

it('names the port of what got a secret in the clear: without it none would go out', () => {
  const text = suggested(
    { host: 'plain.example', port: 80, tls: false },
    { host: 'api.example' },
    { host: 'localhost', port: 3000, tls: false },
  );
  expect(parse(text)).toMatchObject({ secrets: { GITHUB_TOKEN: { hosts: ['api.example', 'plain.example:80', 'localhost:3000'] } } });
});
