import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import * as z from 'zod/mini';
import { setSecret } from '../../src/config/edit.ts';
import { proposeFromDotenv, starterConfig } from '../../src/config/propose.ts';
import { fileSchema } from '../../src/config/schema.ts';

describe('starterConfig', () => {
  const starter = (...names: string[]) => starterConfig({ names, provider: 'store', project: 'My Shop' });

  it('declares what was found, under the project’s name', () => {
    const text = starter('GITHUB_TOKEN', 'DATABASE_URL', 'GITHUB_TOKEN');
    expect(text.split('\n')[0]).toBe('#:schema ./node_modules/keyzero/schema.json');
    expect(text).toMatch(
      /\n\[secrets\]\nGITHUB_TOKEN = \{ provider = "store", ref = "my-shop\/github-token" \}\nDATABASE_URL = \{ provider = "store", ref = "my-shop\/database-url" \}\n$/,
    );
  });

  it('shows examples when nothing was found, and they are right', () => {
    const text = starterConfig({ names: [], provider: 'keychain', project: '/' });
    expect(parse(text)).toEqual({ secrets: {} });
    const examples = text.split('\n').filter((line) => line.includes('provider ='));
    expect(examples).toEqual([
      '#   GITHUB_TOKEN = { provider = "keychain", ref = "github-token" }',
      '#   DATABASE_URL = { provider = "keychain", ref = "database-url" }',
    ]);
    const real = text + examples.map((line) => line.replace(/^#\s+/, '')).join('\n');
    expect(z.safeParse(fileSchema, parse(real)).success).toBe(true);
  });

  it('is valid, with a ref of its own for every name', () => {
    const names = ['A', 'API_KEY', 'API__KEY', 'api_key', 'Api_Key', '_', '__', '_A', 'token', 'TOKEN'];
    const document = parse(starter(...names));
    expect(z.safeParse(fileSchema, document).success).toBe(true);
    const entries = Object.values((document.secrets ?? {}) as Record<string, { ref: string }>);
    expect(new Set(entries.map((entry) => entry.ref)).size).toBe(names.length);
  });

  it('is a file that setSecret goes on from', () => {
    const text = starter();
    expect(setSecret(text, { name: 'A', entry: { provider: 'env', ref: 'A' } })).toBe(`${text}A = { provider = "env", ref = "A" }\n`);
  });

  it('holds no value of what it was made from', () => {
    const found = proposeFromDotenv('TOKEN=CANARY-1\nURL=https://u:CANARY-2@h', '.env');
    expect(starter(...found.secrets.map(({ name }) => name))).not.toContain('CANARY');
  });
});
