// `[blind.sandbox]`: how the files' tables become one, and what is said of a wrong one.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Project } from './project.ts';

describe('sandbox', () => {
  it('has one form, with absolute paths', async () => {
    const project = new Project({ '.keyzero.toml': '[secrets]\n[blind]\nsandbox = "off"' });
    expect((await project.load()).blind).toEqual({ sandbox: { mode: 'off' } });
    project.write(
      '.keyzero.toml',
      '[secrets]\n[blind.sandbox]\nread = ["~/data", "a/../b"]\nhide = ["/srv/x"]\nallow_loopback = [5432, 5432]',
    );
    const { blind, sandboxLayers } = await project.load();
    expect(blind?.sandbox).toEqual({
      read: [join(project.home, 'data'), join(project.folder, 'b')],
      hide: ['/srv/x'],
      allow_loopback: [5432],
    });
    expect(sandboxLayers.map(({ origin }) => [origin.file.layer, origin.path])).toEqual([['project', ['blind', 'sandbox']]]);
    project.write('.keyzero.toml', '[secrets]\n[blind]\nscope = "infer"');
    expect(await project.load()).toMatchObject({ blind: { scope: 'infer' }, sandboxLayers: [] });
  });

  it('adds up what files say of the sandbox, each path relative to its file', async () => {
    const project = new Project({
      '~/.config/keyzero/config.toml': '[blind.sandbox]\nmode = "auto"\nhide = ["notes"]\nallow_loopback = [5432]',
      '.keyzero.toml': '[secrets]\n[blind]\nscope = "strict"\nsandbox = { mode = "strict", hide = ["notes"], write = ["out"] }',
      '.keyzero.local.toml': '[blind.sandbox]\nmode = "off"\nhide = []\nallow_loopback = [6379]',
    });
    expect((await project.load()).blind).toEqual({
      scope: 'strict',
      sandbox: {
        mode: 'off',
        hide: [join(project.home, '.config/keyzero/notes'), join(project.folder, 'notes')],
        write: [join(project.folder, 'out')],
        allow_loopback: [5432, 6379],
      },
    });
  });

  it('lets no project weaken a sandbox that the user’s own file calls strict', async () => {
    const project = new Project({
      '~/.config/keyzero/config.toml': '[blind]\nsandbox = "strict"',
      '.keyzero.toml': '[secrets]\n[blind]\nsandbox = "off"',
    });
    expect((await project.load()).blind?.sandbox).toEqual({ mode: 'strict' });
    project.write('.keyzero.toml', '[secrets]\n[blind.sandbox]\nread = ["a"]');
    project.write('.keyzero.local.toml', '[blind.sandbox]\nmode = "auto"');
    expect((await project.load()).blind?.sandbox).toEqual({ mode: 'strict', read: [join(project.folder, 'a')] });
    project.write('~/.config/keyzero/config.toml', '[blind]\nsandbox = "auto"');
    expect((await project.load()).blind?.sandbox).toMatchObject({ mode: 'auto' });
    project.write('.keyzero.toml', '[secrets]\n[blind]\nsandbox = "strict"');
    project.write('.keyzero.local.toml', '[blind]\nsandbox = "off"');
    expect((await project.load()).blind?.sandbox).toEqual({ mode: 'off' });
  });
});

describe('what is wrong in it', () => {
  const cases: [string, string, string[]][] = [
    [
      'an unknown sandbox mode',
      '[secrets]\n[blind]\nsandbox = "strickt"',
      ['.keyzero.toml:3:1 unknown sandbox "strickt" (did you mean "strict"?)'],
    ],
    [
      'an unknown mode in a sandbox table',
      '[secrets]\n[blind.sandbox]\nread = []\nmode = "none"',
      ['.keyzero.toml:4:1 unknown mode "none" (one of auto, strict, off)'],
    ],
    [
      'a sandbox that is neither word nor table',
      '[secrets]\n[blind]\nsandbox = false',
      ['.keyzero.toml:3:1 sandbox false does not have the right form (one of "auto", "strict", "off"; or a table: [blind.sandbox])'],
    ],
    [
      'an unknown sandbox key, alone',
      '[secrets]\n[blind]\nsandbox = { hidden = ["a"] }',
      ['.keyzero.toml:3:13 unknown key "hidden" in blind.sandbox (did you mean "hide"?)'],
    ],
    [
      'a sandbox key that is like no other',
      '[secrets]\n[blind.sandbox]\nnetwork = true',
      ['.keyzero.toml:3:1 unknown key "network" in blind.sandbox (known keys: mode, read, write, hide, allow_loopback)'],
    ],
    [
      'all that is wrong in a sandbox table',
      '[secrets]\n[blind.sandbox]\nread = "data"\nwrite = [""]\nhide = [7]\nallow_loopback = [5432, 70000, 0, 1.5, "5432"]\nraed = []',
      [
        '.keyzero.toml:3:1 read is a string, not a list (read = ["data"])',
        '.keyzero.toml:4:10 write is empty',
        '.keyzero.toml:5:9 hide is a number, not a string',
        '.keyzero.toml:6:25 allow_loopback is too large (at most 65535)',
        '.keyzero.toml:6:32 allow_loopback is too small (at least 1)',
        '.keyzero.toml:6:35 allow_loopback is a number, not a whole number',
        '.keyzero.toml:6:40 allow_loopback is a string, not a number (without quotes: 5432)',
        '.keyzero.toml:7:1 unknown key "raed" in blind.sandbox (did you mean "read"?)',
      ],
    ],
    [
      'a port that stands alone',
      '[secrets]\n[blind.sandbox]\nallow_loopback = 5432',
      ['.keyzero.toml:3:1 allow_loopback is a number, not a list (allow_loopback = [5432])'],
    ],
  ];

  it.each(cases)('names %s with its place', async (_what, text, expected) => {
    expect(await new Project({ '.keyzero.toml': text }).problems()).toEqual(expected);
  });

  it('quotes nothing that may be a secret', async () => {
    const value = `ghp_${'a1B2c3D4e5'.repeat(4).slice(4)}`;
    for (const table of [
      `sandbox = "${value}"`,
      `sandbox = { mode = "${value}" }`,
      `sandbox = ["${value}"]`,
      `sandbox = { read = "${value}" }`,
    ]) {
      const problems = await new Project({ '.keyzero.toml': `[secrets]\n[blind]\n${table}` }).problems();
      expect(problems).toHaveLength(1);
      expect(problems[0]).not.toContain(value);
    }
  });
});
