// The run's authority joins the lists that programs bring, and nothing else about certificates changes.
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { trustAlso } from '../../src/preload/trust.ts';
import { openWorkbench, type Workbench } from '../fixtures/preload-run.ts';

describe('in a program', () => {
  let bench: Workbench;

  beforeAll(async () => {
    bench = await openWorkbench();
  });
  afterAll(() => bench.close());

  it('joins every form of an own list', async () => {
    const { answer } = await bench.client('own authorities');
    expect(answer).toEqual({ string: true, buffer: true, array: true, context: true, 'imported context': true });
  });

  it('is missed without', async () => {
    const { answer } = await bench.client('own authorities', { KEYZERO_CA: undefined });
    expect(new Set(Object.values(answer as object))).toEqual(new Set(['SELF_SIGNED_CERT_IN_CHAIN']));
  });

  it('survives a program that replaces the default list', async () => {
    expect((await bench.client('replaced default authorities')).answer).toBe(true);
  });

  it('leaves the check of names to the program', async () => {
    expect((await bench.client('own identity check')).answer).toBe('not the one');
    expect((await bench.client('another name')).answer).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  });
});

it('leaves alone who has no list, and what a server asks of its clients', () => {
  const real = tls.createSecureContext;
  const lists: unknown[] = [];
  Object.assign(tls, {
    createSecureContext: (options?: tls.SecureContextOptions) => {
      lists.push(options?.ca);
      return real(options);
    },
  });
  const [own, run] = tls.rootCertificates;
  expect.assert(own !== undefined && run !== undefined);
  trustAlso(run);
  const options = { ca: own };
  tls.createSecureContext(options);
  tls.createSecureContext({});
  tls.createSecureContext();
  const server = tls.createServer({ ca: own, requestCert: true });
  server.addContext('a.test', { ca: [own] });
  tls.createSecureContext({ ca: [own] });
  expect(lists).toEqual([[own, run], undefined, undefined, own, [own], [own, run]]);
  expect(options).toEqual({ ca: own });
});
