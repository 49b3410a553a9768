// `on_rotate` and `refresh` that can never do anything, by what the config says.
import type { Config, Declaration, DocumentDeclaration } from '../config/load.ts';
import { placeText, type Locate } from '../config/places.ts';
import type { ProviderName } from '../config/provider-names.ts';

/** Their values can change without `refresh`: leases end, and files are watched. */
const CHANGES_BY_ITSELF: readonly ProviderName[] = ['vault', 'file'];

/** One sentence each, with its place. `isBlind`: the config is for blind runs too, where `refresh` needs nothing else. */
export function idleRotations({ secrets, documents }: Config, isBlind: boolean, locate: Locate): string[] {
  return [...secrets.values(), ...documents].flatMap((declaration) => {
    const idle = idleRotation(declaration, isBlind);
    return idle === undefined ? [] : [`${placeText(declaration, [idle.key], locate)}: ${idle.text}`];
  });
}

interface Idle {
  readonly key: 'on_rotate' | 'refresh';
  readonly text: string;
}

function idleRotation(declaration: Declaration | DocumentDeclaration, isBlind: boolean): Idle | undefined {
  const { provider, ref, refresh, on_rotate: onRotate = 'none' } = declaration;
  const { name, expose } = 'name' in declaration ? declaration : { name: `the document ${JSON.stringify(ref)}`, expose: false };
  const rotates = onRotate !== 'none';
  const isRead = refresh !== undefined;
  if (!rotates && !isRead) return undefined;
  if (provider === 'env') {
    const key = rotates ? 'on_rotate' : 'refresh';
    return { key, text: `${name} never changes: ${key} has no effect with provider env` };
  }
  if (rotates) {
    if (isRead || CHANGES_BY_ITSELF.includes(provider)) return undefined;
    return { key: 'on_rotate', text: `${name} is never read again: on_rotate needs refresh = "15m" with provider ${provider}` };
  }
  // A blind run gives the program that has the value itself nothing new either.
  if (isBlind && expose !== true) return undefined;
  return { key: 'refresh', text: `${name}: refresh has no effect without on_rotate, but for blind runs` };
}
