// `kz put` without a terminal: a value from a pipe or a file goes where the config says, and a bad one changes nothing.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story, type Ended } from './kz.ts';
import { inShell } from './shell.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end(['value.txt', 'document.json']);
});

const put = (input: string | Buffer, args: readonly string[] = []): Promise<Ended> => story.kz(['put', 'TOKEN', ...args], { input });

async function value(name = 'TOKEN'): Promise<string> {
  return (await story.kz(['get', name, '-n'], { reveals: true })).stdout;
}

function storeBytes(): Buffer {
  return readFileSync(join(story.home, '.config/keyzero/store.age'));
}

const ONE = '[secrets]\nTOKEN = { provider = "store", ref = "token" }\n';

describe('a value', () => {
  beforeEach(() => {
    story.config(ONE);
  });

  it('from a pipe is stored, where it says first, and read back', async () => {
    const token = story.canary();
    expect(await put(`${token}\n`)).toMatchObject({
      code: 0,
      stdout: '',
      stderr:
        'kz: TOKEN goes to ~/.config/keyzero/store.age, encrypted with ~/.config/keyzero/store.key\nkz: TOKEN=set(31 chars) in store token\n',
    });
    expect(await value()).toBe(token);
    expect(await story.kz(['set', 'TOKEN', '-q'], { input: 'by its other name' })).toMatchObject({ code: 0, stderr: '' });
    expect(await value()).toBe('by its other name');
  });

  it('loses one newline at its end, and nothing else', async () => {
    for (const [typed, stored] of [
      ['x\n', 'x'],
      ['x\r\n', 'x'],
      ['x\n\n', 'x\n'],
      ['  x  ', '  x  '],
      ['\nx', '\nx'],
      ['a\r\nb', 'a\r\nb'],
    ] as const) {
      await put(typed);
      expect(await value()).toBe(stored);
    }
  });

  it('can be a key of many lines', async () => {
    const key = story.guard(`-----BEGIN PRIVATE KEY-----\n${story.canary()}\n${'QUJD'.repeat(16)}\n-----END PRIVATE KEY-----\n`);
    story.config('[secrets]\nTOKEN = { provider = "store", ref = "token", type = "pem" }\n');
    expect(await put(key)).toMatchObject({ code: 0 });
    expect(await value()).toBe(key.trimEnd());
    expect((await put(key.slice(0, 60))).stderr).toContain('TOKEN is not of type pem; nothing was stored');
  });

  it('can come from a file, a FIFO, or a slow pipe', async () => {
    const token = story.canary();
    story.write('value.txt', `${token}\n`);
    expect(await story.kz(['put', 'TOKEN', '--from-file', 'value.txt'])).toMatchObject({ code: 0 });
    expect(await value()).toBe(token);
    const { stderr } = await inShell(
      story,
      'kz put TOKEN -q --from-file <(printf one); kz get TOKEN -n; (printf t; kz --version >/dev/null; printf wo) | kz put TOKEN -q; kz get TOKEN',
    );
    expect(stderr).toBe('');
    expect(await value()).toBe('two');
  });

  it('can be 64 KiB long', async () => {
    const long = 'x'.repeat(65_536);
    expect((await put(long)).stderr).toContain('TOKEN=set(65536 chars)');
    expect(await value()).toBe(long);
  });

  it('does not go on the command line', async () => {
    const { code, stderr } = await story.kz(['put', 'TOKEN', 'typed']);
    expect(code).toBe(2);
    expect(stderr).toContain('a value does not go on the command line');
    expect(await value()).toBe('');
  });
});

describe('nothing is stored, and what was there stays,', () => {
  let before: Buffer;
  let old: string;

  const start = async (config: string): Promise<void> => {
    story.config(ONE);
    old = story.canary('old-');
    await put(old);
    before = storeBytes();
    story.config(config);
  };

  const refuses = async (ended: Promise<Ended>, problem: string): Promise<void> => {
    const { code, stdout, stderr } = await ended;
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(problem);
    expect(storeBytes()).toEqual(before);
    expect(await value()).toBe(old);
  };

  it('when the value is empty', async () => {
    await start(ONE);
    for (const input of ['', '\n', '\r\n'])
      await refuses(put(input), 'kz: error: TOKEN: an empty value is not stored\nkz: hint: to remove it: kz rm TOKEN\n');
    await refuses(story.kz(['put', 'TOKEN']), 'an empty value is not stored');
  });

  it('when it does not have its shape', async () => {
    await start('[secrets]\nTOKEN = { provider = "store", ref = "token", starts_with = "old-", min_length = 8 }\n');
    const value = story.canary();
    await refuses(put(value), 'kz: error: TOKEN does not start with "old-"; nothing was stored\n');
    await refuses(put('new'), 'TOKEN has 3 characters, fewer than min_length = 8, does not start with "old-"; nothing was stored');
  });

  it('when it is not text, too large, or cannot be read', async () => {
    await start(ONE);
    await refuses(put(Buffer.from([0x61, 0xff, 0x62])), 'cannot read the value from standard input: it is not UTF-8 text');
    await refuses(put('a\0b'), 'TOKEN holds a NUL character, which no environment variable can; nothing was stored');
    await refuses(put('x'.repeat(1_048_577)), 'the value from standard input is larger than 1 MiB');
    await refuses(put('x', ['--from-file', 'nowhere']), 'cannot read the value from nowhere: ENOENT');
    mkdirSync(join(story.project, 'folder'));
    await refuses(put('x', ['--from-file', 'folder']), 'cannot read the value from folder: EISDIR');
  });
});

describe('kz refuses to write', () => {
  it('what a provider only reads', async () => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\n');
    expect(await put('x')).toMatchObject({
      code: 1,
      stderr:
        'kz: error: TOKEN comes from env SOURCE, which kz cannot write\nkz: hint: change it at its source (a variable of kz’s own environment)\n',
    });
  });

  it('a part of a document', async () => {
    for (const extra of ['json_key = "a"', 'template = "{a}"']) {
      story.config(`[secrets]\nTOKEN = { provider = "store", ref = "token", ${extra} }\n`);
      const { code, stderr } = await put('x');
      expect(code).toBe(1);
      expect(stderr).toContain('TOKEN is made from a document (store token), which kz does not change');
    }
    story.config('[[secrets_from]]\nprovider = "file"\nref = "document.json"\nkeys = ["TOKEN"]\n');
    expect(await put('x')).toMatchObject({
      code: 1,
      stderr:
        'kz: error: TOKEN is one key of a document (file document.json), which kz does not change\nkz: hint: change the document with its own tool\n',
    });
  });

  it('what is not declared', async () => {
    story.config(ONE);
    expect((await story.kz(['put', 'TOKN'], { input: 'x' })).stderr).toContain(
      'TOKN is not declared in the configuration\nkz: hint: did you mean TOKEN?',
    );
  });
});

describe('encoding = "base64"', () => {
  it('stores the encoded form and gives the value back', async () => {
    story.config(
      '[secrets]\nTOKEN = { provider = "store", ref = "token", encoding = "base64", max_length = 40 }\nRAW = { provider = "store", ref = "token" }\n',
    );
    const token = story.canary('🔑');
    await put(token);
    expect(await value()).toBe(token);
    expect(await value('RAW')).toBe(Buffer.from(token).toString('base64'));
  });
});

describe('an environment', () => {
  it('has its own value', async () => {
    story.config(`${ONE}[production.secrets]\nTOKEN = { provider = "store", ref = "production/token" }\n`);
    await put('for development');
    await put('for production', ['--env', 'production']);
    expect(await value()).toBe('for development');
    expect((await story.kz(['get', 'TOKEN', '--env', 'production'])).stdout).toBe('for production\n');
  });
});

describe('kz put --missing', () => {
  it('needs a terminal, and says for what', async () => {
    story.config(`${ONE}OTHER = { provider = "store", ref = "other" }\nSPARE = { provider = "store", ref = "spare", required = false }\n`);
    expect(await story.kz(['put', '--missing'])).toMatchObject({
      code: 1,
      stderr: 'kz: error: there is no terminal to ask on; missing: TOKEN, OTHER\nkz: hint: pipe them one at a time: kz put TOKEN < FILE\n',
    });
  });

  it('needs none when there is nothing to ask', async () => {
    story.config(ONE);
    await put('x');
    expect(await story.kz(['put', '--missing'])).toMatchObject({ code: 0, stderr: 'kz: every required secret has a value\n' });
  });

  it('tells what is missing where kz cannot write', async () => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\nLATER = { provider = "keyzero", ref = "github/pat" }\n');
    const { code, stderr } = await story.kz(['put', '--missing']);
    expect(code).toBe(1);
    expect(stderr).toContain('TOKEN is missing (provider: env, ref: SOURCE)\nkz: hint: set SOURCE in the environment that starts kz\n');
    expect(stderr).toContain('LATER: the kz server has no address');
    expect(stderr).not.toContain('no terminal');
  });

  it('takes neither a name nor a file', async () => {
    story.config(ONE);
    for (const args of [
      ['TOKEN', '--missing'],
      ['--missing', '--from-file', 'value.txt'],
    ]) {
      expect((await story.kz(['put', ...args])).code).toBe(2);
    }
  });
});
