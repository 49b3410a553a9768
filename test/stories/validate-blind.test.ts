// `kz validate` and blind mode: what a blind run would refuse, what never takes effect, and where secrets may go.
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

interface Report {
  readonly valid: boolean;
  readonly secrets_scope: readonly unknown[];
  readonly problems: readonly Readonly<Record<string, unknown>>[];
  readonly warnings: readonly string[];
}

async function report(config: string): Promise<Report> {
  story.config(config);
  const { stdout } = await story.kz(['validate', '--json']);
  return JSON.parse(stdout) as Report;
}

/** Without the folder. */
async function warnings(config: string): Promise<string[]> {
  const { valid, warnings: found } = await report(config);
  expect(valid).toBe(true);
  const { code, stderr } = await story.kz(['validate']);
  expect([code, stderr]).toEqual([0, found.map((text) => `kz: warning: ${text}\n`).join('')]);
  return found.map((text) => text.replaceAll(`${story.project}/`, ''));
}

describe('a problem', () => {
  it('is every one that would stop a blind run, each with its place', async () => {
    const file = story.config(`[secrets]
A = { provider = "env", ref = "A", swap = ["path", "header:Host"] }
B = { provider = "env", ref = "B", swap = ["header:Content-Length"] }

[blind]
upstream_ca = "nowhere.pem"

[[blind.connections]]
allow = true
host = "re:(a+)+b"

[[blind.connections]]
allow = true
host = "a.example:443"
port = 444
`);
    const { code, stderr } = await story.kz(['validate']);
    expect(code).toBe(1);
    expect(stderr.split('\n').filter((line) => line.startsWith('kz: error'))).toEqual([
      `kz: error: ${file}:8:9: blind.connections.0 has a host "re:(a+)+b" that takes too long to match`,
      `kz: error: ${file}:12:9: blind.connections.1 has two ports: 444 and 443`,
      expect.stringMatching(/:2:52: A: `header:Host` is a header that is never swapped/) as string,
      expect.stringMatching(/:3:44: B: `header:Content-Length` is a header that is never swapped/) as string,
      `kz: error: ${file}:6:1: cannot use the authorities in \`upstream_ca\` ${story.project}/nowhere.pem: there is no such file`,
    ]);
    const { valid, problems } = JSON.parse((await story.kz(['validate', '--json'])).stdout) as Report;
    expect([valid, problems.map(({ file: at, line }) => [at === file, line])]).toEqual([
      false,
      [8, 12, 2, 3, 6].map((line) => [true, line]),
    ]);
  });

  it('of upstream_ca is shown where it is set', async () => {
    story.config('[blind]\nscope = "infer"\nupstream_ca = "empty.pem"\n[secrets]\n');
    story.write('empty.pem', 'nothing\n');
    story.write('.keyzero.local.toml', '[blind]\nscope = "strict"\n');
    const { code, stderr } = await story.kz(['validate']);
    expect([code, stderr.includes(`.keyzero.toml:3:1: cannot use`)]).toEqual([1, true]);
    story.write('empty.pem', rootCertificates[0] ?? '');
    expect(await story.kz(['validate'])).toMatchObject({ code: 0, stderr: '' });
  });

  it('is none for a direct run', async () => {
    story.config('[[blind.connections]]\nallow = true\nhost = "re:(a+)+b"\n');
    expect(await story.kz(['run', '--', 'true'])).toMatchObject({ code: 0 });
  });
});

describe('a warning', () => {
  it('is for what expose = true makes void', async () => {
    expect(
      await warnings(
        '[secrets]\nA = { provider = "env", ref = "A", expose = true, swap = ["path"], shape = "plain", hosts = ["a.example"] }\n' +
          'B = { provider = "env", ref = "B", expose = true }\nC = { provider = "env", ref = "C", expose = false, swap = ["path"] }\n',
      ),
    ).toEqual([
      '.keyzero.toml:2:51: A has expose = true, so the program has its value, and `swap` has no effect',
      '.keyzero.toml:2:68: A has expose = true, so the program has its value, and `shape` has no effect',
      '.keyzero.toml:2:85: A has expose = true, so the program has its value, and `hosts` only stops requests in which kz recognises it',
    ]);
  });

  it('is for hosts that no rule lets anybody reach', async () => {
    const secrets = '[secrets]\nA = { provider = "env", ref = "A", hosts = ["a.example", "b.example", "*.c.example"] }\n';
    const rule = (allow: boolean, host: string) => `[[blind.connections]]\nallow = ${String(allow)}\nhost = "${host}"\n`;
    expect(await warnings(secrets + rule(true, 'a.example') + rule(true, 'x.c.example'))).toEqual([
      '.keyzero.toml:2:58: A may go to "b.example", but nothing can: no rule allows it',
    ]);
    expect(await warnings(secrets + rule(false, 'b.example') + rule(true, '*'))).toEqual([
      '.keyzero.toml:2:58: A may go to "b.example", but nothing can: the rule at .keyzero.toml:3:9 (host = "b.example") denies it',
    ]);
    expect(await warnings(secrets)).toEqual([]);
  });

  it('is for rules behind one that matches all that they would', async () => {
    const config = `[[blind.connections]]
allow = false
host = "*"

[[blind.connections]]
allow = true
host = "a.example"
`;
    expect(await warnings(config)).toEqual([
      'the rule at .keyzero.toml:5:9 (host = "a.example") never applies: the rule at .keyzero.toml:1:9 (host = "*") comes first and matches all that it would',
    ]);
  });

  it('is none for a list without a final deny: what no rule matches is denied', async () => {
    expect(await warnings('[[blind.connections]]\nallow = true\nhost = "a.example"\n')).toEqual([]);
    expect((await story.kz(['validate'])).stdout).toContain('\n1 connection rule: what none matches is denied\n');
  });
});

describe('a warning about the sandbox', () => {
  it('is for paths that are not there', async () => {
    story.write('data', '');
    story.write('linked', '');
    symlinkSync('linked', join(story.project, 'link'));
    const config = '[blind.sandbox]\nread = ["data", "daat"]\nwrite = ["link", "~/nowhere"]\nhide = [\n  "/nowhere",\n]\n';
    expect(await warnings(config)).toEqual([
      '.keyzero.toml:2:17: `read` names daat, which is not there',
      `.keyzero.toml:3:18: \`write\` names ${story.home}/nowhere, which is not there`,
      '.keyzero.toml:5:3: `hide` names /nowhere, which is not there',
    ]);
  });

  it('is for a write that reaches what the outside runs, and for what shows the store', async () => {
    story.write('own.age', '');
    mkdirSync(join(story.home, '.config/keyzero'), { recursive: true });
    writeFileSync(join(story.home, '.config/keyzero/store.age'), '');
    mkdirSync(join(story.home, '.config/other'));
    symlinkSync(story.home, join(story.project, 'link'));
    const files = 'kz’s own files (your secrets, what it trusts)';
    const danger = 'whoever can change what your shell and your tools load at their start is out of the sandbox';
    expect(
      await warnings(
        '[providers.store]\npath = "own.age"\n[blind.sandbox]\nwrite = ["/", "~/", "link", "~/.config", "~/.config/other", "own.age"]\n' +
          'read = ["/", "~/", "~/.config/keyzero/store.age", "own.age"]\nhide = ["~/.config/keyzero"]\n',
      ),
    ).toEqual([
      `.keyzero.toml:5:20: \`read\` names ${story.home}/.config/keyzero/store.age, which is among ${files}`,
      `.keyzero.toml:5:51: \`read\` names own.age, which is among ${files}`,
      `.keyzero.toml:4:10: \`write\` names /, which holds your home folder: ${danger}`,
      `.keyzero.toml:4:15: \`write\` names ${story.home}, your home folder: ${danger}`,
      `.keyzero.toml:4:21: \`write\` names link, your home folder: ${danger}`,
      `.keyzero.toml:4:29: \`write\` names ${story.home}/.config, which holds ${files}`,
      `.keyzero.toml:4:61: \`write\` names own.age, which is among ${files}`,
    ]);
  });

  it('is for everything beside a mode that is off', async () => {
    const lists = 'read = []\nhide = ["nowhere"]\nallow_loopback = [5432]\n';
    expect(await warnings(`[blind.sandbox]\nmode = "off"\n${lists}`)).toEqual([
      '.keyzero.toml:4:1: the sandbox is off, and `hide` has no effect',
      '.keyzero.toml:5:1: the sandbox is off, and `allow_loopback` has no effect',
    ]);
    story.write('.keyzero.local.toml', '[blind]\nsandbox = "off"\n');
    expect(await warnings('[blind.sandbox]\nmode = "strict"\nallow_loopback = [5432]\n')).toEqual([
      '.keyzero.toml:3:1: the sandbox is off, and `allow_loopback` has no effect',
    ]);
    expect(await warnings('[blind]\nsandbox = "auto"\n')).toEqual([]);
  });

  it('is for what the user’s own file does not let a project do, or would not like', async () => {
    const folder = join(story.home, '.config/keyzero');
    const user = join(folder, 'config.toml');
    mkdirSync(join(story.home, 'notes'));
    mkdirSync(folder, { recursive: true });
    writeFileSync(user, '[blind.sandbox]\nmode = "strict"\nhide = ["~/notes"]\n');
    expect(await warnings('[secrets]\n[blind.sandbox]\nmode = "off"\nread = ["~/notes"]\n')).toEqual([
      `.keyzero.toml:3:1: "off" has no effect: ${user} says "strict"; only \`kz run --blind --sandbox=off\` goes against it`,
      `.keyzero.toml:4:9: \`read\` names ${story.home}/notes, which ${user} hides`,
    ]);
    expect(await warnings('[secrets]\n[blind]\nsandbox = "auto"\n')).toEqual([
      `.keyzero.toml:3:1: "auto" has no effect: ${user} says "strict"; only \`kz run --blind --sandbox=auto\` goes against it`,
    ]);
    expect(await warnings('[secrets]\n[blind]\nsandbox = "strict"\n')).toEqual([]);
  });
});

describe('where a secret may go', () => {
  const CONFIG = `[secrets]
HOSTS = { provider = "exec", ref = "touch was-run", hosts = ["a.example", "*.b.example"] }
VENDOR = { provider = "exec", ref = "touch was-run", starts_with = "sk-ant-" }
URL = { provider = "exec", ref = "touch was-run", starts_with = "https://hooks.example.com/" }
HALF = { provider = "exec", ref = "touch was-run", starts_with = "https://hooks.example.com" }
TEMPLATE = { provider = "exec", ref = "touch was-run", template = "postgres://{user}:{password}@db.example.com:5432/app" }
ANY = { provider = "exec", ref = "touch was-run", template = "https://{host}/{token}" }
OPEN = { provider = "exec", ref = "touch was-run", expose = true }

[[secrets_from]]
provider = "exec"
ref = "touch was-run"
keys = ["OPEN", "IN_DOCUMENT"]
`;

  it('is shown as far as it is known without asking a provider', async () => {
    expect((await report(CONFIG)).secrets_scope).toEqual([
      { name: 'HOSTS', from: 'hosts', hosts: ['a.example', '*.b.example'], exposed: false },
      { name: 'VENDOR', from: 'starts_with', hosts: ['api.anthropic.com'], exposed: false },
      { name: 'URL', from: 'starts_with', hosts: ['hooks.example.com'], exposed: false },
      { name: 'HALF', from: 'value', hosts: [], exposed: false },
      { name: 'TEMPLATE', from: 'template', hosts: ['db.example.com:5432'], exposed: false },
      { name: 'ANY', from: 'value', hosts: [], exposed: false },
      { name: 'OPEN', from: 'value', hosts: [], exposed: true },
      { name: 'IN_DOCUMENT', from: 'value', hosts: [], exposed: false },
    ]);
    const { code, stdout, stderr } = await story.kz(['validate']);
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^kz: warning: \S+ TEMPLATE is for a database, .*\n$/)]);
    expect(stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      [`${story.project}/.keyzero.toml: ok`],
      ['declares 7 secrets and 1 document'],
      ['no connection rules: all hosts are allowed'],
      [''],
      ['SECRET', 'MAY GO TO'],
      ['HOSTS', 'a.example, *.b.example', 'its hosts'],
      ['VENDOR', 'api.anthropic.com', 'from its starts_with'],
      ['URL', 'hooks.example.com', 'from its starts_with'],
      ['HALF', '-', 'depends on the value and the rules; ask `kz explain URL`'],
      ['TEMPLATE', 'db.example.com:5432', 'from its template'],
      ['ANY', '-', 'depends on the value and the rules; ask `kz explain URL`'],
      ['OPEN', '-', 'depends on the value and the rules; ask `kz explain URL`; exposed: the program has the value'],
      ['IN_DOCUMENT', '-', 'depends on the value and the rules; ask `kz explain URL`'],
      [''],
    ]);
    expect(existsSync(join(story.project, 'was-run'))).toBe(false);
  });

  it('is left out for people whose config says nothing about blind mode', async () => {
    const { secrets_scope: scopes } = await report('[secrets]\nA = { provider = "env", ref = "A" }\n');
    expect(scopes).toHaveLength(1);
    expect((await story.kz(['validate'])).stdout).toBe(`${story.project}/.keyzero.toml: ok\ndeclares 1 secret\n`);
  });
});
