import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadConfig, type Config } from '../../src/config/load.ts';
import { Secret } from '../../src/core/secret.ts';
import { Swap, SwapNotes } from '../../src/mask/swap.ts';
import type { SetSecret } from '../../src/providers/secrets.ts';
import { blindSecrets } from '../../src/run/blind-secrets.ts';
import { LiveSecrets } from '../../src/run/live-secrets.ts';

const OLD = 'CANARY-old-4f1c2e77';
const NEW = 'CANARY-new-9d20aa31';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-live-secrets-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Scene {
  readonly live: LiveSecrets;
  readonly texts: ReadonlyMap<string, string>;
  /** What a header becomes on its way to the host. */
  readonly sent: (text: string, host?: string) => { readonly text: string; readonly notes: SwapNotes };
  readonly value: (name: string, value: string) => SetSecret;
}

async function scene(text: string, values: Record<string, string>): Promise<Scene> {
  writeFileSync(join(folder, '.keyzero.toml'), `[secrets]\n${text}`);
  const config = await loadConfig({ env: { HOME: folder }, cwd: folder });
  const given = Object.entries(values).map(([name, value]) => setSecret(config, name, value));
  const secrets = blindSecrets(config, given, []);
  const live = new LiveSecrets(secrets, config, []);
  return {
    live,
    texts: secrets.texts,
    sent: (header, host = 'api.example.com') => {
      const notes = new SwapNotes();
      return { text: new Swap(live.table, host, 443).header('authorization', header, notes), notes };
    },
    value: (name, value) => setSecret(config, name, value),
  };
}

function setSecret(config: Config, name: string, value: string): SetSecret {
  const declaration = config.secrets.get(name);
  if (declaration === undefined) throw new Error(`${name} is not declared`);
  const { provider, ref, origin } = declaration;
  return { name, state: 'set', secret: new Secret(value), from: 'provider', tookMs: 0, source: { provider, ref, origin } };
}

const ONE = 'A = { provider = "aws", ref = "a", hosts = ["api.example.com"] }';

it('swaps the token that the child has for the new value, also on a connection that is open', async () => {
  const { live, texts, value } = await scene(ONE, { A: OLD });
  const token = texts.get('A') ?? '';
  const connection = new Swap(live.table, 'api.example.com', 443);
  expect(connection.header('authorization', `Bearer ${token}`, new SwapNotes())).toBe(`Bearer ${OLD}`);
  expect(live.adopt([value('A', NEW)])).toEqual([]);
  expect(connection.header('authorization', `Bearer ${token}`, new SwapNotes())).toBe(`Bearer ${NEW}`);
});

it('remasks the old value and the new one with the same token', async () => {
  const { live, texts, value } = await scene(ONE, { A: OLD });
  const token = texts.get('A') ?? '';
  live.adopt([value('A', NEW)]);
  expect(live.remasker.text(`was ${OLD}, is ${NEW}`)).toBe(`was ${token}, is ${token}`);
  expect(live.guard.masked(`${OLD} ${NEW}`)).toBe('[A] [A]');
});

it('remasks the new value also in a response that began before the rotation', async () => {
  const { live, texts, value } = await scene(ONE, { A: OLD });
  const { A: token = '' } = Object.fromEntries(texts);
  const events = live.remasker.stream();
  expect(events.push(Buffer.from(`data: ${OLD} CANARY-\n`)).toString()).toBe(`data: ${token} CANARY-\n`);
  live.adopt([value('A', NEW)]);
  const parts = [events.push(Buffer.from(`data: ${NEW} ${OLD} ${NEW.slice(0, 9)}`)), events.push(Buffer.from(NEW.slice(9))), events.end()];
  expect(Buffer.concat(parts).toString()).toBe(`data: ${token} ${token} ${token}`);
});

it('stops a request that carries an old value to another host', async () => {
  const { live, value } = await scene(ONE, { A: OLD });
  live.adopt([value('A', NEW)]);
  for (const each of [OLD, NEW]) {
    expect(live.guard.trespasser(`x-leak: ${each}`, 'evil.example.net', 443)).toBe('A');
    expect(live.guard.trespasser(`authorization: ${each}`, 'api.example.com', 443)).toBeUndefined();
  }
});

it('follows many rotations and forgets only the oldest values', async () => {
  const { live, texts, value, sent } = await scene(ONE, { A: OLD });
  const token = texts.get('A') ?? '';
  for (let round = 0; round < 30; round++) live.adopt([value('A', `${NEW}-${String(round)}`)]);
  expect(sent(token).text).toBe(`${NEW}-29`);
  expect(live.remasker.text(`${NEW}-29 ${NEW}-20`)).toBe(`${token} ${token}`);
});

it('takes the password of a URL that is otherwise the same, and refuses one that differs elsewhere', async () => {
  const url = 'A = { provider = "aws", ref = "a", type = "url" }';
  const { live, texts, value } = await scene(url, { A: `https://user:${OLD}@db.example.com/app` });
  const token = /kz_masked_[0-9a-f]+/.exec(texts.get('A') ?? '')?.[0] ?? '';
  expect(live.adopt([value('A', `https://user:${NEW}@db.example.com/app`)])).toEqual([]);
  const swap = new Swap(live.table, 'db.example.com', 443);
  expect(swap.header('authorization', token, new SwapNotes())).toBe(NEW);
  const other = live.adopt([value('A', `https://else:${OLD}@db.example.com/app`)]);
  expect(other).toEqual([{ name: 'A', why: expect.stringContaining('differs in what the program can see') as string }]);
  expect(swap.header('authorization', token, new SwapNotes())).toBe(NEW);
});

it('refuses a value that would go to other hosts than the one before', async () => {
  const url = 'A = { provider = "aws", ref = "a", type = "url" }';
  const { live, value } = await scene(url, { A: `https://user:${OLD}@db.example.com/app` });
  const refused = live.adopt([value('A', `https://user:${NEW}@evil.example.net/app`)]);
  expect(refused).toEqual([{ name: 'A', why: expect.stringContaining('other hosts') as string }]);
  expect(JSON.stringify(refused)).not.toContain('CANARY');
});

it('refuses a value that no header can carry, and takes the others of the same read', async () => {
  const { live, texts, value, sent } = await scene(`${ONE}\nB = { provider = "aws", ref = "b", hosts = ["api.example.com"] }`, {
    A: OLD,
    B: 'CANARY-b-11112222',
  });
  const refused = live.adopt([value('A', `${NEW}\r\nx-evil: 1`), value('B', 'CANARY-b-33334444')]);
  expect(refused).toEqual([{ name: 'A', why: expect.stringContaining('more than one line') as string }]);
  expect(sent(texts.get('A') ?? '').text).toBe(OLD);
  expect(sent(texts.get('B') ?? '').text).toBe('CANARY-b-33334444');
});

it('leaves the token of an expired secret, says why, and swaps it again after the next value', async () => {
  const { live, texts, value, sent } = await scene(ONE, { A: OLD });
  const token = texts.get('A') ?? '';
  live.expire(['A']);
  const { text, notes } = sent(token);
  expect(text).toBe(token);
  expect(notes.left).toMatchObject([{ name: 'A', reason: 'expired' }]);
  live.adopt([value('A', OLD)]);
  expect(sent(token).text).toBe(OLD);
});

it('has no use for a new value of an exposed secret', async () => {
  const { live } = await scene('A = { provider = "aws", ref = "a", expose = true, hosts = ["api.example.com"] }', { A: OLD });
  expect(live.uses('A')).toBe(false);
});
