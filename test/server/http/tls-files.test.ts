import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { readTls, TlsReloader } from '../../../src/server/http/tls-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'kz-tls-'));

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it('takes nothing over that it was still reading at the end, and says nothing of it', async () => {
  const files = { certFile: join(folder, 'cert.pem'), keyFile: join(folder, 'key.pem') };
  for (const file of Object.values(files)) writeFileSync(file, 'new');
  const ending = new AbortController();
  const events: string[] = [];
  const reloader = new TlsReloader({
    ...{ files, served: { cert: 'old', key: 'old' }, signal: ending.signal },
    adopt: () => events.push('adopted'),
    tell: (_, text) => events.push(text),
  });
  reloader.now();
  ending.abort();
  // The same files, and later.
  for (let time = 0; time < 3; time += 1) await readTls(files);
  expect(events).toEqual([]);
});
