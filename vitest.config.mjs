import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/live/**', 'node_modules/**'],
    globalSetup: ['test/global-setup.ts'],
    // On a busy machine processes take turns in ways that no test waits for. What needs it is named in the summary, to be mended.
    retry: process.env.CI === undefined ? 0 : 1,
    reporters: ['default', './scripts/summary-reporter.mjs'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
