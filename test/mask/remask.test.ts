import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { Remasker, type Masked } from '../../src/mask/remask.ts';

function masked(name: string, value: string, token = `kz_masked_${randomBytes(16).toString('hex')}`): Masked {
  return { name, token, secret: new Secret(value) };
}

function canary(): string {
  return `CANARY-${randomBytes(9).toString('base64')}`;
}

function streamed(remasker: Remasker, text: string, options?: { sameLength?: boolean }): string {
  const stream = remasker.stream(options);
  return Buffer.concat([stream.push(Buffer.from(text)), stream.end()]).toString();
}

describe('text', () => {
  it('puts the token in the place of the value, in every form', () => {
    const value = canary();
    const entry = masked('A', value);
    const remasker = new Remasker([entry]);
    const basic = (password: string) => `Basic ${Buffer.from(`user:x${password}`).toString('base64')}`;
    expect(remasker.text(`Bearer ${value}`)).toBe(`Bearer ${entry.token}`);
    expect(remasker.text(`/?k=${encodeURIComponent(value)}&b=1`)).toBe(`/?k=${entry.token}&b=1`);
    expect(remasker.text(`${value},${value}`)).toBe(`${entry.token},${entry.token}`);
    expect(remasker.text(basic(value))).toBe(basic(entry.token));
  });

  it('returns what holds no value as it is', () => {
    const remasker = new Remasker([masked('A', canary())]);
    for (const text of ['', 'short', 'application/json; charset=utf-8', 'CANARY-CANARY-CANARY']) expect(remasker.text(text)).toBe(text);
  });

  it('takes UTF-8 as the latin1 text that node:http gives', () => {
    const entry = masked('A', 'CANARY-é漢😀');
    const remasker = new Remasker([entry]);
    const header = Buffer.from('ü CANARY-é漢😀 ü').toString('latin1');
    expect(remasker.text(header)).toBe(Buffer.from(`ü ${entry.token} ü`).toString('latin1'));
    expect(remasker.namesIn(header)).toEqual(['A']);
  });
});

describe('several secrets', () => {
  it('lets the longest value win when one is part of another', () => {
    const inner = canary();
    const url = `postgres://admin:${inner}@db/app`;
    for (const order of [
      [masked('IN', inner, 'token-in'), masked('URL', url, 'token-url'), masked('FRONT', `${inner}@db`, 'token-front')],
      [masked('FRONT', `${inner}@db`, 'token-front'), masked('URL', url, 'token-url'), masked('IN', inner, 'token-in')],
    ]) {
      const remasker = new Remasker(order);
      expect(remasker.text(`<${url}> <${inner}@db> <${inner}>`)).toBe('<token-url> <token-front> <token-in>');
      expect(remasker.namesIn(`<${url}>`)).toEqual(['URL']);
      expect(streamed(remasker, `<${url}> <${inner}>`)).toBe('<token-url> <token-in>');
    }
  });

  it('names every secret that has the value, and puts the token of the first', () => {
    const value = canary();
    const remasker = new Remasker([masked('A', value, 'token-a'), masked('B', value, 'token-b')]);
    expect(remasker.text(value)).toBe('token-a');
    expect(remasker.namesIn(Buffer.from(value).toString('hex'))).toEqual(['A', 'B']);
  });

  it('gives a value that is the encoded form of another its own token', () => {
    const value = canary();
    const encoded = Buffer.from(value).toString('hex');
    const remasker = new Remasker([masked('PLAIN', value, 'token-plain'), masked('HEX', encoded, 'token-hex')]);
    expect(remasker.text(`${value} ${encoded}`)).toBe('token-plain token-hex');
  });

  it('names values that overlap, though only the first can be replaced', () => {
    const remasker = new Remasker([masked('A', 'CANARY-1-shared', 'a'), masked('B', 'shared-CANARY-2', 'b')]);
    expect(remasker.namesIn('CANARY-1-shared-CANARY-2')).toEqual(['A', 'B']);
    expect(remasker.text('CANARY-1-shared-CANARY-2')).toBe('a-CANARY-2');
    expect(remasker.namesIn('nothing to see here')).toEqual([]);
  });

  it('counts 100 secrets apart', () => {
    const entries = Array.from({ length: 100 }, (_, index) => masked(`S${String(index)}`, canary()));
    const remasker = new Remasker(entries);
    const values = entries.map(({ secret }) => secret.reveal());
    const tokens = entries.map(({ token }) => token);
    expect(remasker.text(values.join(' '))).toBe(tokens.join(' '));
    expect(remasker.namesIn(values.join(' '))).toEqual(entries.map(({ name }) => name));
    expect(streamed(remasker, JSON.stringify(values))).toBe(JSON.stringify(tokens));
  });
});

describe('what is not searched for', () => {
  it('values under 8 bytes', () => {
    expect(Remasker.tooShort(new Secret('1234567'))).toBe(true);
    expect(Remasker.tooShort(new Secret('12345678'))).toBe(false);
    expect(Remasker.tooShort(new Secret('éééé'))).toBe(false);
    const remasker = new Remasker([masked('A', '1234567')]);
    expect(remasker.isEmpty).toBe(true);
    expect(remasker.text('1234567 31323334353637')).toBe('1234567 31323334353637');
    expect(remasker.namesIn('1234567')).toEqual([]);
  });

  it('values that are part of any token', () => {
    const entry = masked('A', canary());
    const remasker = new Remasker([
      entry,
      masked('B', 'kz_masked_'),
      masked('C', entry.token.slice(-12)),
      masked('D', 'sk_live_', `sk_live_${entry.token}`),
    ]);
    expect(remasker.text(`${entry.token} sk_live_${entry.token}`)).toBe(`${entry.token} sk_live_${entry.token}`);
    expect(remasker.namesIn(entry.token)).toEqual([]);
    expect(remasker.text(entry.secret.reveal())).toBe(entry.token);
  });

  it('nothing at all when there are no secrets', () => {
    const remasker = new Remasker([]);
    const chunk = Buffer.from('anything at all');
    expect(remasker.isEmpty).toBe(true);
    expect(remasker.text('anything at all')).toBe('anything at all');
    expect(remasker.stream().push(chunk)).toBe(chunk);
  });
});

describe('stream', () => {
  const pem = `-----BEGIN KEY-----\n${Array.from({ length: 20 }, () => randomBytes(48).toString('base64')).join('\n')}\n-----END KEY-----\n`;

  it('finds a multi-line value raw, in JSON, in base64 and percent-encoded, across chunks', () => {
    const entry = masked('PEM', pem);
    const remasker = new Remasker([entry]);
    const body = JSON.stringify({ raw: pem, b64: Buffer.from(pem).toString('base64'), uri: encodeURIComponent(pem) });
    for (const size of [1, 7, 100, 1e6]) {
      const stream = remasker.stream();
      const out: Buffer[] = [];
      for (let at = 0; at < body.length; at += size) out.push(stream.push(Buffer.from(body.slice(at, at + size))));
      out.push(stream.end());
      expect(JSON.parse(Buffer.concat(out).toString())).toEqual({ raw: entry.token, b64: expect.any(String) as string, uri: entry.token });
      expect(Buffer.concat(out).includes(Buffer.from(pem).toString('base64').slice(8, 40))).toBe(false);
      expect([...stream.found]).toEqual(['PEM']);
    }
  });

  it('keeps the length when asked to', () => {
    const value = canary();
    const text = JSON.stringify({ value, pem, hex: Buffer.from(value).toString('hex') });
    const out = streamed(new Remasker([masked('A', value), masked('PEM', pem)]), text, { sameLength: true });
    expect(out).toHaveLength(text.length);
    expect(out).not.toContain(value);
    expect(out).toContain('*'.repeat(100));
  });
});
