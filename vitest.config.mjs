import { defineConfig } from 'vitest/config';
import { LEFT_OUT } from './test/needs-server.mjs';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/live/**', 'node_modules/**', ...LEFT_OUT],
    globalSetup: ['test/global-setup.ts'],
    reporters: ['default', './scripts/summary-reporter.mjs'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
