// Flags of `kz server start` that would do nothing as they are written: somebody counts on them.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

/** Flags are looked at before the bundle, which is not there. */
const start = ['server', 'start', '--bundle', 'nope.yaml'];

it.each([
  ['--allow-host', 'http://kz.example.com', 'the name alone: kz.example.com'],
  ['--allow-host', '*.example.com', 'the name alone: kz.example.com'],
  ['--allow-origin', 'app.example.com', 'scheme and host: https://app.example.com'],
  ['--allow-origin', 'null', 'scheme and host: https://app.example.com'],
  ['--allow-origin', '*', 'scheme and host: https://app.example.com'],
  ['--allow-origin', 'https://app.example.com/', 'write https://app.example.com'],
  ['--allow-origin', 'https://App.example.com:443', 'write https://app.example.com'],
])('%s %s is refused', async (flag, text, hint) => {
  expect(await story.kz([...start, flag, text])).toMatchObject({
    code: 2,
    stderr: `kz: error: ${flag} cannot be ${JSON.stringify(text)}\nkz: hint: ${hint}\n`,
  });
});

it.each([
  ['--allow-host', 'kz.example.com,kz.internal:8443'],
  ['--allow-origin', 'https://app.example.com,http://localhost:3000,chrome-extension://abcdefgh'],
])('%s %s is taken', async (flag, text) => {
  expect(await story.kz([...start, flag, text])).toMatchObject({
    code: 1,
    stderr: 'kz: error: there is no bundle nope.yaml\nkz: hint: correct --bundle; `kz server init` writes one to start from\n',
  });
});
