// What listens at a public address of this machine is as near as what listens on loopback.
import { once } from 'node:events';
import net from 'node:net';
import os from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { Dialer, type DialOptions, type Target } from '../../src/proxy/dial.ts';
import { isAmong, ownAddresses as systemAddresses } from '../../src/proxy/own-addresses.ts';
import { UpstreamProxies } from '../../src/proxy/upstream-proxy.ts';

const servers: net.Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** Every address leads to a server of this test, and each dialled one is written down. */
async function recording() {
  const server = net.createServer((socket) => socket.destroy());
  servers.push(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as net.AddressInfo;
  const dialled: string[] = [];
  const open = (address: string): net.Socket => {
    dialled.push(address);
    return net.connect({ host: '127.0.0.1', port });
  };
  return { dialled, open };
}

async function dial(options: Partial<DialOptions>, target: Partial<Target> = {}): Promise<void> {
  const dialer = new Dialer({ ca: [], ...options });
  const socket = await dialer.connect({ host: 'api.test', port: 80, tls: false, namedByRule: false, ...target });
  socket.destroy();
}

const V4 = '93.184.216.34';
const V6 = '2606:2800:220:1::1';
const ELSEWHERE = '93.184.216.35';
const ownAddresses = () => ['127.0.0.1', V4, `${V6}%eth0`, 'fe80::1%eth0'];

describe('the addresses that this machine has', () => {
  it.each([V4, V6, '2606:2800:0220:0001:0:0:0:1', `${V6}%eth1`, `::ffff:${V4}`, '::ffff:5db8:d822'])(
    'are refused like loopback: a name at %s',
    async (address) => {
      const { dialled, open } = await recording();
      const lookup = () => Promise.resolve([address]);
      await expect(dial({ lookup, open, ownAddresses })).rejects.toMatchObject({
        code: 'address-forbidden',
        detail: `api.test is at ${address}, an address of this machine`,
      });
      expect(dialled).toEqual([]);
    },
  );

  it.each([V4, `[${V6}]`, '[::ffff:5db8:d822]'])('are refused as the literal %s, also where a proxy would dial it', async (host) => {
    const { dialled, open } = await recording();
    const proxies = new UpstreamProxies({ http_proxy: 'http://127.0.0.1:3128' });
    for (const options of [{}, { proxies }]) {
      await expect(dial({ open, ownAddresses, ...options }, { host })).rejects.toMatchObject({
        code: 'address-forbidden',
        detail: `${host} is an address of this machine`,
      });
    }
    expect(dialled).toEqual([]);
  });

  it('are dialled for a host that a rule names', async () => {
    const { dialled, open } = await recording();
    await dial({ lookup: () => Promise.resolve([V4]), open, ownAddresses }, { namedByRule: true });
    expect(dialled).toEqual([V4]);
  });

  it('are left out of a mixed answer', async () => {
    const { dialled, open } = await recording();
    const lookup = () => Promise.resolve([V4, ELSEWHERE, V6]);
    await dial({ lookup, open, ownAddresses });
    expect(dialled).toEqual([ELSEWHERE]);
  });

  it('are asked for at each connection', async () => {
    const { dialled, open } = await recording();
    const own: string[] = [];
    const dialer = new Dialer({ ca: [], lookup: () => Promise.resolve([V4]), open, ownAddresses: () => own });
    const target = { host: 'api.test', port: 80, tls: false, namedByRule: false };
    (await dialer.connect(target)).destroy();
    own.push(V4);
    await expect(dialer.connect(target)).rejects.toMatchObject({ code: 'address-forbidden' });
    expect(dialled).toEqual([V4]);
  });

  it('that cannot be listed let nothing through that no rule names', async () => {
    const { dialled, open } = await recording();
    const silent = () => {
      throw Object.assign(new Error('it failed'), { code: 'ERR_SYSTEM_ERROR' });
    };
    const lookup = () => Promise.resolve([V4]);
    await expect(dial({ lookup, open, ownAddresses: silent })).rejects.toMatchObject({
      code: 'unreachable',
      detail: 'the addresses of this machine could not be listed (ERR_SYSTEM_ERROR)',
    });
    expect(dialled).toEqual([]);
  });
});

it('the system knows them', () => {
  const own = systemAddresses();
  expect(own).toContain('127.0.0.1');
  const all = Object.values(os.networkInterfaces()).flatMap((each = []) => each.map(({ address }) => address));
  for (const address of all) expect(isAmong(address, own)).toBe(true);
  expect(isAmong('::ffff:127.0.0.1', own)).toBe(true);
  expect(isAmong(ELSEWHERE, own)).toBe(false);
});
