import { expect, it } from 'vitest';
import { Signals } from '../../src/run/signals.ts';

/** Vitest's process gets the signal, and handles it at a later turn of its event loop, as kz does. */
function receive(): void {
  process.kill(process.pid, 'SIGUSR2');
}

function next(signals: Signals): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    signals.deliverTo(resolve);
  });
}

it('gives a signal to the receiver of the moment at which it is handled, also when another listened as it arrived', async () => {
  const signals = new Signals();
  signals.deliverTo(() => {
    throw new Error('it does not listen any more');
  });
  receive();
  signals.hold();
  expect(await next(signals)).toBe('SIGUSR2');
  signals.close();
});

it('keeps what arrives while nobody receives, in order', async () => {
  const signals = new Signals();
  const held: NodeJS.Signals[] = [];
  process.once('SIGUSR2', () => process.kill(process.pid, 'SIGUSR1'));
  receive();
  await new Promise<void>((resolve) => {
    process.once('SIGUSR1', () => {
      resolve();
    });
  });
  signals.deliverTo((signal) => held.push(signal));
  expect(held).toEqual(['SIGUSR2', 'SIGUSR1']);
  signals.close();
});

it('listens no more once closed', () => {
  const before = process.listenerCount('SIGUSR2');
  const signals = new Signals();
  expect(process.listenerCount('SIGUSR2')).toBe(before + 1);
  signals.close();
  expect(process.listenerCount('SIGUSR2')).toBe(before);
});
