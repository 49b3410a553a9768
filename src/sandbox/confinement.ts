// What a confined program may touch. Data only: surroundings.ts looks and decides, a backend turns it into arguments.

/**
 * Every path is absolute and real (no symbolic link on the way), exists, and is the program's as well as kz's. What is in no list can be read
 * and not written. Where lists disagree about a path, the longer path wins; about the same path, the later list.
 *
 * One exception: a `readable` path below a temporary or emptied folder may itself be a link that leads out of it (NixOS' /run/current-system,
 * fnm's folders in /run). In there it is a folder with its target's contents. One that would show something hidden, or replaced, under another
 * name is not used.
 */
export interface Confinement {
  /** Where the program starts. */
  readonly directory: string;
  /** Empty at the start, in memory, writable, gone with the program: `/tmp`. */
  readonly temporary: readonly string[];
  /** Empty and read-only: `/run`, with the sockets of everything that listens there. */
  readonly emptied: readonly string[];
  /** Folders and files that the program may change: the project, package caches. */
  readonly writable: readonly string[];
  /** Within those, and read-only all the same: kz's own config, git's hooks. They cannot be renamed either, nor what is above them. */
  readonly guarded: readonly string[];
  /** Not there for the program: a folder is empty, a file is empty, a socket refuses. */
  readonly hidden: readonly Hidden[];
  /** Readable although something above is hidden, temporary or emptied: the run's certificates, kz's preload, what `read` names. */
  readonly readable: readonly string[];
  /** Files that say something else to the program. No secrets: they become files of the run's folder. */
  readonly replaced: readonly Replaced[];
  /** Most bytes in each of the temporary folders. */
  readonly temporaryBytes: number;
}

export interface Hidden {
  readonly path: string;
  readonly kind: 'folder' | 'file';
}

export interface Replaced {
  readonly path: string;
  readonly contents: string;
}
