import { defineConfig } from 'vitest/config';

// Tests against real servers and services, where they are installed; a suite that cannot run says why in its name.
export default defineConfig({
  test: {
    include: ['test/live/**/*.test.ts'],
    // On a busy machine processes take turns in ways that no test waits for. What needs it is named in the summary, to be mended.
    retry: process.env.CI === undefined ? 0 : 1,
    reporters: ['default', './scripts/summary-reporter.mjs'],
    globalSetup: ['test/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
