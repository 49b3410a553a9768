import { defineConfig } from 'vitest/config';
import { LEFT_OUT } from './test/needs-server.mjs';

// Tests against real servers and services, where they are installed; a suite that cannot run says why in its name.
export default defineConfig({
  test: {
    include: ['test/live/**/*.test.ts'],
    exclude: ['node_modules/**', ...LEFT_OUT],
    reporters: ['default', './scripts/summary-reporter.mjs'],
    globalSetup: ['test/global-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
