// A token that is cut anywhere between two chunks is swapped as if it were not, and a value that comes back in pieces is masked again.
import { afterEach, describe, expect, it } from 'vitest';
import { onHead, Scene } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const HOSTS = ['api.example.com', 'api.example.com:80'];

interface Upload {
  readonly type: string;
  readonly swap?: readonly string[];
  readonly body: (token: string) => string;
}

const UPLOADS: Readonly<Record<string, Upload>> = {
  JSON: { type: 'application/json', body: (token) => JSON.stringify({ text: token.slice(0, 20), client: [{ api_key: token }], after: 1 }) },
  form: { type: 'application/x-www-form-urlencoded', body: (token) => `a=1&client_secret=${token}&b=${token.slice(0, 9)}` },
  multipart: {
    type: 'multipart/form-data; boundary=xyz',
    body: (token) => `--xyz\r\nContent-Disposition: form-data; name="api_key"\r\n\r\n${token}\r\n--xyz--\r\n`,
  },
  'anything, with the slot `body`': { type: 'text/plain', swap: ['body'], body: (token) => `first ${token} last` },
};

/** Answers each request with `ok` when its body is complete, and gives what came in. */
async function start(swap: readonly string[] | undefined): Promise<{ sent: () => string }> {
  const bodies: string[] = [];
  await scene.start({
    secrets: [{ name: 'TOKEN', hosts: HOSTS, ...(swap === undefined ? {} : { swap }) }],
    serve: (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        bodies.push(Buffer.concat(chunks).toString('latin1'));
        response.end('ok');
      });
    },
  });
  return { sent: () => bodies.at(-1) ?? '' };
}

describe.each(Object.entries(UPLOADS))('a token in an upload of %s', (_name, { type, swap, body }) => {
  it('is found wherever a chunk ends', async () => {
    const { sent } = await start(swap);
    const text = body(scene.lab.token());
    const expected = text.split(scene.lab.token()).join(scene.lab.value());
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    let answers = 0;
    for (let cut = 1; cut < text.length; cut += 1) {
      const head = `POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`;
      const chunks = [text.slice(0, cut), text.slice(cut), ''].map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`);
      child.socket.write(head + chunks.join(''));
      answers += 1;
      await child.until('\r\n\r\nok', answers);
      expect(sent(), `cut at ${String(cut)}`).toBe(expected);
    }
  });

  it('is found in single bytes, with the length announced', async () => {
    const { sent } = await start(swap);
    const text = body(scene.lab.token());
    const expected = text.split(scene.lab.token()).join(scene.lab.value());
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    child.socket.write(
      `POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: ${type}\r\nContent-Length: ${String(text.length)}\r\n\r\n`,
    );
    for (const byte of text) {
      child.socket.write(byte);
      await new Promise(setImmediate);
    }
    await child.until('\r\n\r\nok');
    expect(sent()).toBe(expected);
  });
});

describe('a value in an answer', () => {
  it.each(['chunked', 'with a length', 'in place'])('is found wherever it is cut, %s', async (how) => {
    const parts: { text: string; cut: number } = { text: '', cut: 0 };
    const isLarge = how !== 'chunked';
    const padding = isLarge ? 'x'.repeat(70_000) : '';
    await scene.start({
      secrets: [{ name: 'TOKEN', hosts: HOSTS }],
      raw: (socket) =>
        onHead(socket, () => {
          const { text, cut } = parts;
          const pieces = [text.slice(0, cut), text.slice(cut)];
          const type = how === 'in place' ? 'image/png' : 'text/plain';
          const framed = isLarge ? `Content-Length: ${String(text.length)}` : 'Transfer-Encoding: chunked';
          socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\n${framed}\r\n\r\n`);
          const write = (piece: string): boolean => socket.write(isLarge ? piece : `${piece.length.toString(16)}\r\n${piece}\r\n`);
          write(pieces[0] ?? '');
          setImmediate(() => {
            write(pieces[1] ?? '');
            if (!isLarge) socket.write('0\r\n\r\n');
          });
        }),
    });
    const { lab } = scene;
    parts.text = `before ${lab.value()} after${padding}`;
    const masked = how === 'in place' ? lab.token().slice(0, lab.value().length).padEnd(lab.value().length, '*') : lab.token();
    for (parts.cut = 8; parts.cut < 8 + lab.value().length; parts.cut += 1) {
      const { text } = await scene.ask('http://api.example.com/');
      expect(text.startsWith(`before ${masked} after`), `cut at ${String(parts.cut)}`).toBe(true);
      if (how === 'in place') expect(text).toHaveLength(parts.text.length);
    }
  });
});
