// From where a declaration comes from to its place in the file, for whoever reports something about it.
import { formatPlace, type Place } from '../core/errors.ts';
import type { Declaration, DocumentDeclaration, Origin, SourceFile } from './load.ts';

export type Locate = (origin: Origin) => Place;

/** Each file is parsed once more, when somebody asks for a place in it. */
export async function lazyLocator(): Promise<Locate> {
  const { locator } = await import('./locate.ts');
  const locators = new Map<SourceFile, ReturnType<typeof locator>>();
  return ({ file, path }) => {
    const locate = locators.get(file) ?? locator(file.text);
    locators.set(file, locate);
    return { file: file.path, ...locate(path) };
  };
}

export function placeIn({ origin }: Declaration | DocumentDeclaration, path: Origin['path'], locate: Locate): Place {
  return locate({ ...origin, path: [...origin.path, ...path] });
}

/** `.keyzero.toml:3:5`. */
export function placeText(declaration: Declaration | DocumentDeclaration, path: Origin['path'], locate: Locate): string {
  return formatPlace(placeIn(declaration, path, locate));
}
