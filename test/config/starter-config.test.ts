import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import * as z from 'zod/mini';
import { setSecret } from '../../src/config/edit.ts';
import { proposeFromDotenv, starterConfig } from '../../src/config/propose.ts';
import { PROVIDER_NAMES } from '../../src/config/provider-names.ts';
import { fileSchema } from '../../src/config/schema.ts';

describe('starterConfig', () => {
  const proposals = (...names: string[]) => ({
    secrets: names.map((name) => ({ name, source: '.env', reason: 'is named like a secret' })),
  });

  it('declares what was found', () => {
    const text = starterConfig(proposals('GITHUB_TOKEN', 'DATABASE_URL', 'GITHUB_TOKEN'), 'store');
    expect(text.split('\n')[0]).toBe('#:schema ./node_modules/keyzero/schema.json');
    expect(text).toMatch(
      /\n\[secrets\]\nGITHUB_TOKEN = \{ provider = "store", ref = "github-token" \}\nDATABASE_URL = \{ provider = "store", ref = "database-url" \}\n$/,
    );
  });

  it('shows examples when nothing was found, and they are right', () => {
    const text = starterConfig(proposals(), 'keychain');
    expect(parse(text)).toEqual({ secrets: {} });
    const examples = text.split('\n').filter((line) => line.includes('provider ='));
    expect(examples).toEqual([
      '#   GITHUB_TOKEN = { provider = "keychain", ref = "github-token" }',
      '#   DATABASE_URL = { provider = "keychain", ref = "database-url" }',
    ]);
    const real = text + examples.map((line) => line.replace(/^#\s+/, '')).join('\n');
    expect(z.safeParse(fileSchema, parse(real)).success).toBe(true);
  });

  it.each(PROVIDER_NAMES)('is valid with %s', (provider) => {
    for (const found of [proposals(), proposals('A', 'API_KEY', 'API__KEY', 'api_key', 'Api_Key', '_', '__', '_A', 'token', 'TOKEN')]) {
      const document = parse(starterConfig(found, provider));
      expect(z.safeParse(fileSchema, document).success).toBe(true);
      const entries = Object.values((document.secrets ?? {}) as Record<string, { ref: string }>);
      expect(new Set(entries.map((entry) => entry.ref)).size).toBe(found.secrets.length);
    }
  });

  it('gives each provider the kind of ref it reads', () => {
    const ref = (provider: (typeof PROVIDER_NAMES)[number]) => /ref = "(.*)"/.exec(starterConfig(proposals('MY_TOKEN'), provider))?.[1];
    expect([ref('store'), ref('keychain'), ref('env'), ref('age')]).toEqual([
      'my-token',
      'my-token',
      'MY_TOKEN',
      'secrets.env.age#MY_TOKEN',
    ]);
  });

  it('is a file that setSecret goes on from', () => {
    const text = starterConfig(proposals(), 'store');
    expect(setSecret(text, { name: 'A', entry: { provider: 'env', ref: 'A' } })).toBe(`${text}A = { provider = "env", ref = "A" }\n`);
  });

  it('holds no value of what it was made from', () => {
    const found = proposeFromDotenv('TOKEN=CANARY-1\nURL=https://u:CANARY-2@h', '.env');
    expect(starterConfig(found, 'store')).not.toContain('CANARY');
  });
});
