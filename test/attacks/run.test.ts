// Published attacks 9, the parent's memory and environment (kube-agents #955 and #1270, llxprt #3573, dot-agent-deck #1129), 15, the authority's key
// on disk (gondolin, microsandbox, onecli), and 20, predictable placeholders: with the built kz, from inside the child.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story, type Ended } from '../stories/kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  // What the provider reads is a secret's own place.
  story.end(['secret.txt']);
});

/** What the child finds around it, as JSON on its standard output, which every story searches for values. */
const LOOK_AROUND = `
const { readdirSync, readFileSync, statSync } = require('node:fs');
const { dirname, join } = require('node:path');
const folder = dirname(process.env.KEYZERO_CA);
const mode = (path) => (statSync(path).mode & 0o777).toString(8);
const files = readdirSync(folder, { recursive: true }).map((name) => join(folder, name));
const read = (path) => { try { return readFileSync(path, 'latin1'); } catch { return ''; } };
const parent = (pid) => /^PPid:\\s+(\\d+)/m.exec(read('/proc/' + pid + '/status'))?.[1] ?? '0';
const processes = [];
for (let pid = String(process.pid); pid !== '0' && pid !== '1' && pid !== process.env.STORY; pid = parent(pid)) {
  processes.push({ pid, environ: read('/proc/' + pid + '/environ'), arguments: read('/proc/' + pid + '/cmdline') });
}
console.log(JSON.stringify({
  token: process.env.TOKEN,
  folder: mode(folder),
  files: files.map((path) => ({ path, mode: mode(path), key: /PRIVATE KEY/.test(read(path)), text: read(path) })),
  environment: process.env,
  arguments: process.argv,
  processes,
}));
`;

interface Found {
  readonly token: string;
  readonly folder: string;
  readonly files: readonly { readonly path: string; readonly mode: string; readonly key: boolean }[];
  readonly environment: Readonly<Record<string, string>>;
  readonly processes: readonly { readonly pid: string; readonly environ: string }[];
}

async function look(): Promise<Found> {
  const ended: Ended = await story.kz(['run', '--blind', '--', 'node', '-e', LOOK_AROUND], { env: { STORY: String(process.pid) } });
  expect(ended.code, ended.stderr).toBe(0);
  return JSON.parse(ended.stdout) as Found;
}

function withSecretInFile(): void {
  story.write('secret.txt', story.canary(), 0o600);
  story.config('[secrets]\nTOKEN = { provider = "file", ref = "./secret.txt", hosts = ["api.example.com"] }\n');
}

describe('from inside the child of kz run --blind', () => {
  it('authority’s key: no file of the run’s folder holds a private key, and nobody else can read any', async () => {
    withSecretInFile();
    const { folder, files } = await look();
    expect(folder).toBe('700');
    expect(files.length).toBeGreaterThan(3);
    expect(files.filter(({ mode }) => mode !== '600')).toEqual([]);
    expect(files.filter(({ key }) => key)).toEqual([]);
  });

  // Every story fails when a value is in the output: the child prints its environment, its files, and all that /proc shows of its parents.
  it('parent’s environment: a value that kz read is in no environment and no argument list, not even kz’s own', async () => {
    withSecretInFile();
    const { environment, token, processes } = await look();
    expect(environment.TOKEN).toBe(token);
    expect(token).toMatch(/^kz_masked_[0-9a-f]{32}$/);
    if (process.platform === 'linux') expect(processes.filter(({ environ }) => environ !== '').length).toBeGreaterThan(1);
  });

  it('parent’s environment: a value that was in it does not reach the child under any name', async () => {
    const value = story.canary();
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "REAL", hosts = ["api.example.com"] }\n');
    const env = {
      REAL: value,
      COPY: value,
      WRAPPED: `x ${Buffer.from(value).toString('base64')}`,
      URL_OF_IT: `https://u:${value}@api.example.com/`,
    };
    const program = 'console.log(JSON.stringify([process.env, process.argv, process.execArgv]))';
    const { stdout, code } = await story.kz(['run', '--blind', '--', 'node', '-e', program], { env });
    expect(code).toBe(0);
    expect(stdout).not.toMatch(/"(?:REAL|COPY|WRAPPED|URL_OF_IT)"/);
  });

  it('predictable placeholders: two runs give different tokens, credentials and folders', async () => {
    withSecretInFile();
    const [first, second] = [await look(), await look()];
    expect(first.token).not.toBe(second.token);
    expect(first.environment.HTTPS_PROXY).not.toBe(second.environment.HTTPS_PROXY);
    const password = (found: Found) => new URL(found.environment.HTTPS_PROXY ?? '').password;
    expect(password(first)).toMatch(/^[\w-]{32}$/);
    expect(password(first)).not.toBe(password(second));
    expect(first.files[0]?.path).not.toBe(second.files[0]?.path);
  });

  it('nothing of a run is left behind it', async () => {
    withSecretInFile();
    const { files } = await look();
    const program = `console.log(${JSON.stringify(files.map(({ path }) => path))}.filter((path) => require('node:fs').existsSync(path)).length)`;
    const { stdout } = await story.kz(['run', '--', 'node', '-e', program]);
    expect(stdout).toBe('0\n');
  });
});
