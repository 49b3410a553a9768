// What the kernel will say is mounted at a path, once it is: to look whether what was mounted is what was meant.
import { readFileSync } from 'node:fs';
import type { Mounted } from './bubblewrap.ts';

/** Mount point and root, as proc_pid_mountinfo(5) has them. */
export interface ExpectedMount {
  readonly path: string;
  readonly root: string;
}

/** Without those that cannot be told. `mountinfo` is that of a process outside. */
export function expectedMounts(mounted: readonly Mounted[], mountinfo = readMountinfo()): readonly ExpectedMount[] {
  const table = parse(mountinfo);
  return mounted.flatMap(({ path, source }) => {
    const root = source === undefined ? '/' : rootOf(source, table);
    return root === undefined ? [] : [{ path, root }];
  });
}

function readMountinfo(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}

interface Mount {
  readonly id: string;
  readonly parent: string;
  readonly point: string;
  readonly root: string;
}

function parse(text: string): readonly Mount[] {
  return text.split('\n').flatMap((line) => {
    const [id, parent, , root, point] = line.split(' ').map(unescaped);
    return id === undefined || parent === undefined || root === undefined || point === undefined ? [] : [{ id, parent, root, point }];
  });
}

/** From the root down. Of two below the same one, the upper is what is seen: the other was there before and is covered. */
function rootOf(path: string, table: readonly Mount[]): string | undefined {
  const above = table.filter(({ point }) => point === '/' || path === point || path.startsWith(`${point}/`));
  let mount = above.find(({ parent, point }) => point === '/' && !table.some(({ id }) => id === parent));
  for (let next = mount; next !== undefined; next = childOf(next, above)) mount = next;
  if (mount === undefined) return undefined;
  const rest = path.slice(mount.point === '/' ? 1 : mount.point.length + 1);
  if (rest === '') return mount.root;
  return `${mount.root === '/' ? '' : mount.root}/${rest}`;
}

function childOf({ id }: Mount, above: readonly Mount[]): Mount | undefined {
  return above.filter((each) => each.parent === id && each.id !== id).sort((a, b) => a.point.length - b.point.length)[0];
}

/** Space, tab, line feed and backslash are written as octal numbers; others as they are. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
