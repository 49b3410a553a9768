import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { keychainFacts } from '../../src/providers/keychain-facts.ts';

const folder = mkdtempSync(join(tmpdir(), 'kz-facts-'));
const bus = join(folder, 'bus');
writeFileSync(bus, '');

afterAll(() => {
  rmSync(folder, { recursive: true });
});

const look = (env: Record<string, string>, runtime?: string) => keychainFacts({ env, platform: 'linux', runtime });

it('macOS has one', () => {
  expect(keychainFacts({ env: {}, platform: 'darwin', runtime: undefined })).toMatchObject({ backend: 'macos', bus: undefined });
});

it('Linux has one where there is a session bus', () => {
  const address = `unix:path=${bus}`;
  expect(look({ DBUS_SESSION_BUS_ADDRESS: address })).toMatchObject({ backend: 'secret-service', bus: address });
  expect(look({ DBUS_SESSION_BUS_ADDRESS: `${address},guid=a1b2` })).toMatchObject({ backend: 'secret-service' });
  expect(look({ DBUS_SESSION_BUS_ADDRESS: 'unix:abstract=/tmp/dbus-x' })).toMatchObject({ backend: 'secret-service' });
  expect(look({ XDG_RUNTIME_DIR: folder })).toMatchObject({ backend: 'secret-service', bus: address });
  expect(look({}, folder)).toMatchObject({ backend: 'secret-service', bus: address });
});

it('elsewhere it says what that means', () => {
  expect(look({})).toEqual({
    backend: 'none',
    bus: undefined,
    detail: 'no D-Bus session bus: there is no system keychain here; `provider = "store"` needs nothing installed',
  });
  const gone = `unix:path=${folder}/gone`;
  expect(look({ DBUS_SESSION_BUS_ADDRESS: gone })).toMatchObject({ backend: 'none', bus: gone });
  expect(look({ DBUS_SESSION_BUS_ADDRESS: gone }).detail).toContain(`names ${folder}/gone, which is not there`);
});
