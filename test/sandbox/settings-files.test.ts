// Files of settings, with the logins taken out and everything else as it was.
import { rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { canary, FakeMachine, hiddenPaths } from './fake-machine.ts';

const token = canary();

/** `-` in front of what has to go; `a => b` for what changes. */
const CASES: readonly (readonly [string, string])[] = [
  [
    '.npmrc',
    `registry=https://npm.acme.dev/\n-//npm.acme.dev/:_authToken=${token}\n-//a/:_password = "${token}"\n-_auth=${token}\n//b/:_authToken=\${NPM_TOKEN}\nalways-auth=true\n//a/:username=me\nsave-exact=true\n`,
  ],
  [
    '.npmrc',
    `; note\nregistry=https://me:${token}@npm.acme.dev/x => registry=https://npm.acme.dev/x\nproxy=http://me:p@ss${token}@proxy:8080 => proxy=http://proxy:8080\n-key="-----BEGIN PRIVATE KEY-----${token}"\n`,
  ],
  [
    '.yarnrc.yml',
    `npmScopes:\n  acme:\n    npmRegistryServer: "https://npm.acme.dev"\n-    npmAuthToken: "${token}"\n-    npmAuthIdent: "me:${token}"\n`,
  ],
  ['.yarnrc', `registry "https://npm.acme.dev"\n-"//npm.acme.dev/:_authToken" "${token}"\n`],
  [
    '.bunfig.toml',
    `[install]\nregistry = "https://npm.acme.dev"\n[install.scopes]\n-acme = { token = "${token}", url = "https://npm.acme.dev" }\n`,
  ],
  [
    '.config/pip/pip.conf',
    `[global]\nindex-url = https://me:${token}@pypi.acme.dev/simple => index-url = https://pypi.acme.dev/simple\ntimeout = 60\n`,
  ],
  [
    '.pip/pip.conf',
    `[global]\nextra-index-url = https://${token}@pypi.acme.dev/simple => extra-index-url = https://pypi.acme.dev/simple\n`,
  ],
  [
    '.gitconfig',
    `[user]\n\tname = Me\n\temail = me@acme.dev\n\tsigningkey = 0123456789ABCDEF0123\n[credential]\n\thelper = store\n[http "https://git.acme.dev/"]\n-\textraheader = AUTHORIZATION: basic ${token}\n[url "https://${token}@git.acme.dev/"] => [url "https://git.acme.dev/"]\n\tinsteadOf = https://git.acme.dev/\n[github]\n-\ttoken = ${token}\n[url "ssh://git@github.com/"]\n\tinsteadOf = https://github.com/\n`,
  ],
  [
    'jobs/app/.git/config',
    `[core]\n\tbare = false\n[remote "origin"]\n\turl = https://x-access-token:${token}@github.com/a/b.git => \turl = https://github.com/a/b.git\n-\textraHeader = AUTHORIZATION: basic ${token}\n`,
  ],
  ['jobs/app/.npmrc', `engine-strict=true\n-//npm.acme.dev/:_authToken=${token}\n`],
  ['.gradle/gradle.properties', `org.gradle.jvmargs=-Xmx2g\n-repoPassword=${token}\n-signing.password=${token}\n`],
  ['.bundle/config', `BUNDLE_JOBS: "4"\nBUNDLE_BUILD__PG: "--with-x"\n-BUNDLE_GEMS__ACME__DEV: "me:${token}"\n`],
  ['.curlrc', `silent\n-user = "me:${token}"\n-header = "Authorization: Bearer ${token}"\n`],
];

function before(text: string): string {
  return text.replace(/^-/gm, '').replace(/ => .*$/gm, '');
}

function after(text: string): string {
  return text.replace(/^-.*\n/gm, '').replace(/^.* => /gm, '');
}

it.each(CASES)('%s', (path, text) => {
  const machine = new FakeMachine();
  const file = machine.file(`home/me/${path}`, before(text));
  const { replaced } = machine.survey().confinement;
  expect(replaced).toEqual([{ path: file, contents: after(text) }]);
  expect(JSON.stringify(replaced)).not.toContain(token);
  // What is clean stays what it is.
  writeFileSync(file, after(text));
  expect(machine.survey().confinement.replaced).toEqual([]);
});

it('XML loses whole elements', () => {
  const machine = new FakeMachine();
  const settings = machine.file(
    'home/me/.m2/settings.xml',
    `<settings><servers><server><id>a</id><password>${token}</password></server></servers><mirrors/></settings>`,
  );
  const nuget = machine.file(
    'home/me/.nuget/NuGet/NuGet.Config',
    `<configuration><packageSources/><packageSourceCredentials><A>\n<add value="${token}"/></A></packageSourceCredentials></configuration>`,
  );
  const broken = machine.file('home/me/.config/NuGet/NuGet.Config', `<a/><packageSourceCredentials ><add value="${token}"`);
  expect(new Map(machine.survey().confinement.replaced.map(({ path, contents }) => [path, contents]))).toEqual(
    new Map([
      [settings, '<settings><servers><server><id>a</id></server></servers><mirrors/></settings>'],
      [nuget, '<configuration><packageSources/></configuration>'],
      [broken, '<a/>'],
    ]),
  );
});

it('one that a variable names; one that is no text, or too large, is hidden whole', () => {
  const machine = new FakeMachine();
  const named = machine.file('srv/npmrc', `//a/:_authToken=${token}\nx=1\n`);
  const env = { npm_config_userconfig: named };
  expect(machine.survey({ env }).confinement.replaced).toEqual([{ path: named, contents: 'x=1\n' }]);
  writeFileSync(named, Buffer.from([0xff, 0xfe, 0x00]));
  expect(hiddenPaths(machine.survey({ env }))).toEqual([named]);
  writeFileSync(named, `a=1\n`.repeat(100_000));
  expect(hiddenPaths(machine.survey({ env }))).toEqual([named]);
  rmSync(named);
  expect(machine.survey({ env }).confinement).toMatchObject({ hidden: [], replaced: [] });
});

it('a long line takes no time', () => {
  const machine = new FakeMachine();
  const lines = ['a'.repeat(60_000), `x=${'https://'.repeat(8000)}`, `k = {${'token '.repeat(9000)}`, ' '.repeat(50_000)];
  for (const name of ['.npmrc', '.gitconfig', '.curlrc', '.bundle/config']) machine.file(`home/me/${name}`, lines.join('\n'));
  machine.file('home/me/.m2/settings.xml', '<password'.repeat(20_000));
  const started = performance.now();
  machine.survey();
  expect(performance.now() - started).toBeLessThan(2000);
});
