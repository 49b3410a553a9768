// The last line of a test run, in one form for people and machines: `tests: 12 passed, 0 failed, 3 skipped`. Above it, what did not run, by name.
import { LEFT_OUT } from '../test/needs-server.mjs';
import { MISSING } from './server-libraries.mjs';

export default class SummaryReporter {
  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly unknown[]} unhandledErrors
   */
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    /** @type {string[]} */
    const skipped = [];
    for (const module of modules) {
      if (module.state() === 'failed' && module.children.size === 0) counts.failed += 1;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed' || state === 'failed') counts[state] += 1;
        else {
          counts.skipped += 1;
          skipped.push(`${module.relativeModuleId}: ${test.fullName}`);
        }
      }
    }
    for (const name of skipped) console.log(`skipped: ${name}`);
    for (const file of LEFT_OUT) console.log(`left out: ${file}`);
    if (LEFT_OUT.length > 0)
      console.log(`left out: ${String(LEFT_OUT.length)} files, because ${MISSING.join(', ')} could not be installed`);
    console.log(`tests: ${String(counts.passed)} passed, ${String(counts.failed)} failed, ${String(counts.skipped)} skipped`);
  }
}
