// What must not pass for an absent secret, or be part of a message.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { errorOf, get, google, open, thrown, useGoogle } from '../fixtures/gcp-home.ts';

useGoogle();

let other: Server | undefined;
afterEach(() => {
  other?.close();
  other = undefined;
});

async function answering(status: number, body: string): Promise<string> {
  const server = createServer((_request, response) => response.writeHead(status).end(body));
  other = server;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

const precondition = (message: string): string => JSON.stringify({ error: { code: 400, status: 'FAILED_PRECONDITION', message } });

describe('an optional secret is not absent because of', () => {
  it.each<[string, number, string]>([
    ['a 404 of something else', 404, '<html>Not Found</html>'],
    ['a KMS key that is off', 400, precondition('The Cloud KMS key is not enabled, current state is: DISABLED.')],
    ['a precondition that kz does not know', 400, precondition('something is not ready')],
  ])('%s', async (_what, status, body) => {
    const endpoint = `http://${await answering(status, body)}`;
    const [outcome] = await get(open(google.user, { project: 'app', endpoint }), ['db']);
    expect(errorOf(outcome).code).toBe('provider-failed');
  });
});

it('shows no password of its endpoint', async () => {
  const endpoint = 'http://user:CANARY-password@127.0.0.1:9';
  const error = await thrown(get(open(google.user, { project: 'app', endpoint }), ['db']));
  expect(error).toMatchObject({ code: 'provider-unavailable' });
  expect(error.message).toContain('Secret Manager at http://127.0.0.1:9');
});
