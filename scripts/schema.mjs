// Writes schema.json, the JSON Schema of `.keyzero.toml`, from the zod schema that kz itself uses, with the descriptions beside it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const folder = await mkdtemp(join(tmpdir(), 'kz-schema-'));
try {
  const entry = join(folder, 'json-schema.mjs');
  await build({
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'warning',
    entryPoints: ['scripts/json-schema.ts'],
    outfile: entry,
  });
  const { jsonSchema } = /** @type {{ jsonSchema: () => unknown }} */ (await import(pathToFileURL(entry).href));
  await writeFile('schema.json', `${JSON.stringify(jsonSchema(), null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
