// `kz explain http://…`: without TLS, a token is swapped only where its hosts name the port, or on this machine and private addresses.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

it.each([
  ['"a.example"', 'http://a.example/', false, ['a.example', 'a.example:80']],
  ['"a.example:80"', 'http://a.example/', true, null],
  ['"a.example"', 'https://a.example/', true, null],
  ['"localhost"', 'http://localhost:8080/', true, null],
])('a secret with the hosts %s at %s', async (hosts, url, swapped, needed) => {
  story.config(`[secrets]\nA = { provider = "env", ref = "A", hosts = [${hosts}] }\n`);
  const { stdout } = await story.kz(['explain', '--json', url]);
  expect(JSON.parse(stdout)).toMatchObject({ secrets: [{ name: 'A', swapped, hosts_needed: needed }] });
});

it('a secret that may go anywhere', async () => {
  story.config('[secrets]\nA = { provider = "env", ref = "A" }\n');
  const { stdout } = await story.kz(['explain', '--json', 'http://a.example/'], { env: { A: story.canary() } });
  expect(JSON.parse(stdout)).toMatchObject({ secrets: [{ swapped: false, scope: { from: 'any' }, hosts_needed: ['a.example:80'] }] });
});
