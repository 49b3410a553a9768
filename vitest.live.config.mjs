import { defineConfig } from 'vitest/config';

// Tests against real servers and services, where they are installed; a suite that cannot run says why in its name.
export default defineConfig({
  test: {
    include: ['test/live/**/*.test.ts'],
    reporters: ['default', './scripts/summary-reporter.mjs'],
    globalSetup: ['test/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
