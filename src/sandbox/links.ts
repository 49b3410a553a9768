// Links that a sandboxed program could have made, at this start or an earlier one. What is given to a program (`read`, `write`, a cache), and
// what kz reads for the config, is never reached through one: it would be whatever the program likes. What is denied follows every link.
import { accessSync, constants, readlinkSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { systemCode } from '../core/errors.ts';
import { isInside, lookAt } from './machine.ts';

/**
 * The first such link on the way to a path, where it really is. `open` are the real folders that the program may write to. A link of the user's
 * that leads to one of them from elsewhere is none: the program cannot change it.
 */
export function plantedLink(path: string, open: readonly string[]): string | undefined {
  // No link on the way, as nearly always: one question instead of one for each folder.
  if (lookAt(path)?.path === path) return undefined;
  return linksOn(path).find((link) => open.some((folder) => isInside(dirname(link), folder)) && isChangeable(dirname(link)));
}

/** Linux follows no more than these. */
const MOST_LINKS = 40;

function linksOn(path: string): readonly string[] {
  const links: string[] = [];
  const names = path.split('/');
  let folder = '/';
  for (let name = names.shift(); name !== undefined && links.length <= MOST_LINKS; name = names.shift()) {
    const place = join(folder, name);
    const target = name === '' || name === '.' || name === '..' ? undefined : targetOf(place);
    if (target === undefined) {
      folder = place;
      continue;
    }
    links.push(place);
    names.unshift(...target.split('/'));
    if (isAbsolute(target)) folder = '/';
  }
  return links;
}

function targetOf(place: string): string | undefined {
  try {
    return readlinkSync(place);
  } catch {
    return undefined;
  }
}

/** By this user: links in an image, or in what root has installed, are nobody's here. Owners can make what is theirs writable. */
function isChangeable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch (error) {
    return systemCode(error) === 'EACCES' && statSync(folder, { throwIfNoEntry: false })?.uid === process.getuid?.();
  }
}
