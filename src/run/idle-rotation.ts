// `on_rotate` and `refresh` that can never do anything, by what the config says.
import type { Config, Declaration } from '../config/load.ts';
import { placeText, type Locate } from '../config/places.ts';
import type { ProviderName } from '../config/provider-names.ts';

/** Their values can change without `refresh`: leases end, and files are watched. */
const CHANGES_BY_ITSELF: readonly ProviderName[] = ['vault', 'file'];

/** One sentence each, with its place. `isBlind`: the config is for blind runs too, where `refresh` needs nothing else. */
export function idleRotations({ secrets }: Config, isBlind: boolean, locate: Locate): string[] {
  return [...secrets.values()].flatMap((declaration) => {
    const idle = idleRotation(declaration, isBlind);
    return idle === undefined ? [] : [`${placeText(declaration, [idle.key], locate)}: ${idle.text}`];
  });
}

interface Idle {
  readonly key: 'on_rotate' | 'refresh';
  readonly text: string;
}

function idleRotation({ name, provider, refresh, on_rotate: onRotate = 'none', expose }: Declaration, isBlind: boolean): Idle | undefined {
  const rotates = onRotate !== 'none';
  if (!rotates && refresh === undefined) return undefined;
  if (provider === 'env') {
    const key = rotates ? 'on_rotate' : 'refresh';
    return { key, text: `${name} never changes: ${key} has no effect with provider env` };
  }
  if (rotates && refresh === undefined && !CHANGES_BY_ITSELF.includes(provider)) {
    return { key: 'on_rotate', text: `${name} is never read again: on_rotate needs refresh = "15m" with provider ${provider}` };
  }
  // A blind run gives the program that has the value itself nothing new either.
  if (rotates || (isBlind && expose !== true)) return undefined;
  return { key: 'refresh', text: `${name}: refresh has no effect without on_rotate, but for blind runs` };
}
