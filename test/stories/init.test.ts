// `kz init`: a starter config from what a project already has. Names are taken, values never.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

/** The files that hold the values from the start. */
const SOURCES = ['.env', '.env.local', '.env.example', 'mcp.json'];

afterEach(() => {
  story.end(SOURCES);
});

function config(): string {
  return readFileSync(join(story.project, '.keyzero.toml'), 'utf8');
}

describe('without anything to go by', () => {
  it('writes a config that is valid and empty', async () => {
    expect(await story.kz(['init'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: `kz: wrote ${story.project}/.keyzero.toml\nkz: next: \`kz add\` declares a secret\n`,
    });
    expect(config()).toMatch(/^#:schema .*schema\.json\n/);
    expect(await story.kz(['validate'])).toMatchObject({ code: 0, stderr: '' });
    expect(await story.kz(['run', '--', 'true'])).toMatchObject({ code: 0, stderr: '' });
  });

  it('does not replace a config, unless told to', async () => {
    const before = '# mine\n[secrets]\n';
    story.config(before);
    expect(await story.kz(['init'])).toMatchObject({
      code: 2,
      stderr: 'kz: error: .keyzero.toml is already there\nkz: hint: add to it with `kz add`, or replace it with --force\n',
    });
    expect(config()).toBe(before);
    expect(await story.kz(['init', '--force', '-q'])).toMatchObject({ code: 0, stderr: '' });
    expect(config()).not.toContain('# mine');
  });

  it('replaces even what is not TOML', async () => {
    story.config('= broken');
    expect(await story.kz(['init', '--force'])).toMatchObject({ code: 0 });
    expect(await story.kz(['validate'])).toMatchObject({ code: 0 });
  });
});

describe('from .env files', () => {
  beforeEach(() => {
    story.write(
      '.env',
      `export GITHUB_TOKEN="ghp_${story.canary()}"\nPORT=3000\nLOG_LEVEL=debug\nDATABASE_URL='postgres://u:${story.canary()}@db/app'\n`,
    );
    story.write(
      '.env.local',
      `STRIPE_SECRET_KEY=${story.canary('sk_live_')}\nMULTI_KEY="-----BEGIN PRIVATE KEY-----\n${story.canary()}\n-----END PRIVATE KEY-----"\n`,
    );
    story.write(
      '.env.example',
      'GITHUB_TOKEN=\nSESSION_SECRET=change-me\nNODE_OPTIONS=--max-old-space-size=4096\nLD_PRELOAD=/lib/secret.so\n',
    );
  });

  it('declares what looks like a secret, and says why', async () => {
    const { code, stdout, stderr } = await story.kz(['init']);
    expect([code, stdout]).toEqual([0, '']);
    for (const [name, source] of [
      ['GITHUB_TOKEN', '.env'],
      ['DATABASE_URL', '.env'],
      ['STRIPE_SECRET_KEY', '.env.local'],
      ['MULTI_KEY', '.env.local'],
      ['SESSION_SECRET', '.env.example'],
    ]) {
      expect(stderr).toMatch(new RegExp(`^kz: ${name ?? ''} in ${source ?? ''} (is named|has a value)`, 'm'));
    }
    expect(stderr).toContain('kz: next: `kz put --missing` stores the values');
    expect((await story.kz(['list', '--names'])).stdout).toBe('GITHUB_TOKEN\nDATABASE_URL\nSTRIPE_SECRET_KEY\nMULTI_KEY\nSESSION_SECRET\n');
    expect(await story.kz(['validate'])).toMatchObject({ code: 0, stderr: '' });
    for (const source of SOURCES.slice(0, 3)) expect(statSync(join(story.project, source)).isFile()).toBe(true);
  });

  it('puts them where it is told', async () => {
    await story.kz(['init', '--provider', 'keychain', '--yes']);
    expect((await story.kz(['list', '--json'])).stdout).not.toContain('"store"');
    expect((await story.kz(['init', '--force', '-p', 'env'])).stderr).toContain(
      '--provider cannot be "env"\nkz: hint: one of store, keychain',
    );
  });

  it('gives each project refs of its own', async () => {
    await story.kz(['init']);
    expect(config()).toContain('GITHUB_TOKEN = { provider = "store", ref = "project/github-token" }\n');
  });
});

describe('from the files of MCP clients', () => {
  it('declares the secrets of the servers, and shows how to start them', async () => {
    const server = {
      command: 'npx',
      args: ['-y', '@modelcontextprotocol/server-github'],
      env: { GITHUB_TOKEN: story.canary('ghp_'), LOG_LEVEL: 'debug' },
    };
    const other = { command: 'node', args: ['server.js', '--api-key', story.canary()], env: { OTHER_API_KEY: story.canary() } };
    const plain = { command: 'node', args: ['plain.js'] };
    const remote = { url: 'https://example.com', headers: { Authorization: `Bearer ${story.canary()}` } };
    story.write('.mcp.json', JSON.stringify({ mcpServers: { github: server, plain, remote } }));
    story.write('.vscode/mcp.json', JSON.stringify({ servers: { other } }));
    const { code, stderr } = await story.kz(['init']);
    expect(code).toBe(0);
    expect(stderr).toContain(
      'kz: to start github with its secrets: {"github":{"command":"kz","args":["run","--only","GITHUB_TOKEN","--","npx","-y","@modelcontextprotocol/server-github"]}}, and keep LOG_LEVEL in its env\n',
    );
    expect(stderr).toContain(
      '"args":["run","--only","OTHER_API_KEY","--","node","server.js","--api-key","[secret]"]}}; what stands for [secret]',
    );
    // Behind `kz run` without --only it would get every secret of the project.
    expect(stderr).not.toContain('to start plain');
    expect((await story.kz(['list', '--names'])).stdout).toBe('GITHUB_TOKEN\nOTHER_API_KEY\n');
  });

  it('says which file it cannot read, and goes on', async () => {
    story.write('.mcp.json', `{ "mcpServers": { "x": { "env": { "TOKEN": "${story.canary()}" } } }, }`);
    story.write('.env', `API_KEY=${story.canary()}\n`);
    const { code, stderr } = await story.kz(['init']);
    expect(code).toBe(0);
    expect(stderr).toContain('kz: .mcp.json is not valid JSON (comments and trailing commas are not read)\n');
    expect((await story.kz(['list', '--names'])).stdout).toBe('API_KEY\n');
  });
});

describe('what is not a file', () => {
  it('is left alone', async () => {
    mkdirSync(join(story.project, '.env'));
    // Somebody waits at the other end of this one, or nobody ever does.
    execFileSync('mkfifo', [join(story.project, '.env.local')]);
    expect(await story.kz(['init'])).toMatchObject({ code: 0 });
    expect(existsSync(join(story.project, '.keyzero.toml'))).toBe(true);
  });
});
