// The bundles in the documentation pass `kz server check`. Those of docs/bundle.md name files and variables; a test of their own reads them.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { collect } from './stories/kz.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

const bundles = readdirSync(join(ROOT, 'docs'))
  .filter((name) => name.endsWith('.md') && name !== 'bundle.md')
  .flatMap((name) => {
    const text = readFileSync(join(ROOT, 'docs', name), 'utf8');
    return [...text.matchAll(/^```yaml\n(version:[\s\S]*?)^```/gm)].map(([, bundle = ''], index) => ({ page: name, index, bundle }));
  });

it('there are some', () => {
  expect(bundles.map(({ page }) => page)).toContain('server.md');
});

it.each(bundles)('docs/$page: bundle $index', async ({ bundle }) => {
  const folder = mkdtempSync(join(tmpdir(), 'kz-docs-'));
  writeFileSync(join(folder, 'bundle.yaml'), bundle);
  const child = spawn(process.execPath, [join(ROOT, 'bin/kz.cjs'), 'server', 'check', '--bundle', 'bundle.yaml'], {
    cwd: folder,
    env: { HOME: folder, PATH: process.env.PATH },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { code, stdout, stderr } = await collect(child);
  rmSync(folder, { recursive: true, force: true });
  expect(stderr).not.toContain('error');
  expect([code, stdout.includes('bundle.yaml: ok')]).toEqual([0, true]);
});
