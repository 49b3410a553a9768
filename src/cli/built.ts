// What only the build knows.
import { join } from 'node:path';

/** Filled in by the build, from package.json. */
declare const KZ_VERSION: string;
/** Filled in by the build: the libraries of `server-libraries` that it did not have. */
declare const KZ_LACKS: readonly string[];

export const VERSION = KZ_VERSION;

/** Names of packages. Empty in every kz that is published. */
export const LACKS = KZ_LACKS;

/** Where kz's own programs are that run in a sandbox. */
export const PROGRAMS = __dirname;

/** What a blind child's Node loads first: a bundle of its own, beside ours. */
export const PRELOAD = join(__dirname, 'preload.cjs');
