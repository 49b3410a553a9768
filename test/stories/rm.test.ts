// `kz rm`: the value, and with --entry what the config says of it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';
import { pathWithKz } from './shell.ts';

let story: Story;

const CONFIG = `# the project's secrets
[secrets]
# issued by the bot team
TOKEN = { provider = "store", ref = "token" } # rotate in May
OTHER = { provider = 'store', ref = 'other' }
FROM_ENV = { provider = "env", ref = "SOURCE" }

[production.secrets]
TOKEN = { provider = "store", ref = "production/token" }
`;

beforeEach(async () => {
  story = new Story();
  story.config(CONFIG);
  for (const name of ['TOKEN', 'OTHER']) await story.kz(['put', name], { input: story.canary() });
});

afterEach(() => {
  story.end();
});

function config(): string {
  return readFileSync(join(story.project, '.keyzero.toml'), 'utf8');
}

async function names(): Promise<string[]> {
  const { stdout } = await story.kz(['status', '--json']);
  const { secrets } = JSON.parse(stdout) as { secrets: { name: string; state: string }[] };
  return secrets.filter(({ state }) => state === 'set').map(({ name }) => name);
}

describe('kz rm', () => {
  it('removes the value and leaves the entry', async () => {
    expect(await story.kz(['rm', 'TOKEN', '--yes'])).toMatchObject({ code: 0, stdout: '', stderr: 'kz: removed TOKEN from store token\n' });
    expect(await names()).toEqual(['OTHER']);
    expect(config()).toBe(CONFIG);
  });

  it('says when there is no value', async () => {
    await story.kz(['rm', 'TOKEN', '-y']);
    expect(await story.kz(['rm', 'TOKEN', '-y'])).toMatchObject({ code: 0, stderr: 'kz: store has no token; no value was removed\n' });
    expect((await story.kz(['rm', 'TOKN', '-y'])).stderr).toContain(
      'TOKN is not declared in the configuration\nkz: hint: did you mean TOKEN?',
    );
  });

  it('removes the entry too, and nothing around it', async () => {
    expect(await story.kz(['rm', 'TOKEN', '--yes', '--entry'])).toMatchObject({
      code: 0,
      stderr: `kz: removed TOKEN from store token\nkz: removed its entry from ${story.project}/.keyzero.toml\n`,
    });
    expect(config()).toBe(CONFIG.replace('TOKEN = { provider = "store", ref = "token" } # rotate in May\n', ''));
  });

  it('removes the entry of the environment that is asked for', async () => {
    await story.kz(['rm', 'TOKEN', '--yes', '--entry', '--env', 'production']);
    expect(config()).toBe(CONFIG.replace('TOKEN = { provider = "store", ref = "production/token" }\n', ''));
    expect(await names()).toEqual(['TOKEN', 'OTHER']);
  });

  it('of what kz cannot write needs --entry', async () => {
    expect(await story.kz(['rm', 'FROM_ENV', '--yes'])).toMatchObject({
      code: 1,
      stderr:
        'kz: error: FROM_ENV comes from env SOURCE, which kz cannot write\nkz: hint: to remove only its entry from the config, add --entry\n',
    });
    expect(await story.kz(['rm', 'FROM_ENV', '--yes', '--entry'])).toMatchObject({
      code: 0,
      stderr: `kz: removed its entry from ${story.project}/.keyzero.toml\n`,
    });
    expect(config()).not.toContain('FROM_ENV');
  });

  it('edits the file that has the entry', async () => {
    const local = story.write(
      '.keyzero.local.toml',
      '[secrets]\nTOKEN = { provider = "store", ref = "mine" }\nMINE = { provider = "store", ref = "mine" }\n',
    );
    await story.kz(['rm', 'TOKEN', '--yes', '--entry']);
    expect(readFileSync(local, 'utf8')).toBe('[secrets]\nMINE = { provider = "store", ref = "mine" }\n');
    expect(config()).toBe(CONFIG);
    expect(await names()).toEqual(['TOKEN', 'OTHER']);
  });

  it('asks, and without a terminal does nothing', async () => {
    expect(await story.kz(['rm', 'TOKEN', '--entry'])).toMatchObject({
      code: 1,
      stderr: 'kz: error: there is no terminal to ask on\nkz: hint: to remove without asking: kz rm TOKEN --yes\n',
    });
    expect(await names()).toEqual(['TOKEN', 'OTHER']);
    expect(config()).toBe(CONFIG);
  });

  it.skipIf(NO_TERMINAL !== undefined)('takes only a yes for one', async () => {
    const ask = async (answer: string): Promise<string> => {
      const terminal = await Terminal.start(story, ['kz', 'rm', 'TOKEN'], { PATH: pathWithKz(story) });
      await terminal.sees('Remove TOKEN from ~/.config/keyzero/store.age, encrypted with ~/.config/keyzero/store.key? [y/N]');
      terminal.type(answer);
      const { code } = await terminal.ended;
      terminal.close();
      return `${String(code)} ${terminal.shown}`;
    };
    expect(await ask('\r')).toMatch(/^130 [^]*kz: error: nothing was removed/);
    expect(await ask('no\r')).toMatch(/^130 /);
    expect(await names()).toEqual(['TOKEN', 'OTHER']);
    expect(await ask('y\r')).toMatch(/^0 [^]*kz: removed TOKEN from store token/);
    expect(await names()).toEqual(['OTHER']);
  });
});
