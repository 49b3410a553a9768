// Who may use the proxy: whoever has the run's credential, and a process of the run that cannot send one.
import { afterEach, expect, it } from 'vitest';
import { peerBelongsTo } from '../../src/proxy/peer-process.ts';
import { Lab } from './lab.ts';

const NO_CREDENTIAL = '';

let lab: Lab | undefined;
afterEach(async () => {
  await lab?.close();
});

it.skipIf(process.platform !== 'linux')('lets in a process of the run that sends no credential', async () => {
  lab = await Lab.start({ isOurs: (client) => peerBelongsTo(client, () => [process.pid]) });
  await expect(lab.connect('api.example.test:443', NO_CREDENTIAL)).resolves.toBeDefined();
  lab.examine(JSON.stringify(lab.events));
});

it('refuses a process of another run that sends none', async () => {
  lab = await Lab.start({ isOurs: (client) => peerBelongsTo(client, () => []) });
  await expect(lab.connect('api.example.test:443', NO_CREDENTIAL)).rejects.toThrow('407');
});

it('refuses a wrong credential, of whatever process', async () => {
  lab = await Lab.start({ isOurs: () => Promise.resolve(true) });
  await expect(lab.connect('api.example.test:443', 'wrong')).rejects.toThrow('407');
});
