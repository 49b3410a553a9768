// What only the build knows.
import { join } from 'node:path';

/** Filled in by the build, from package.json. */
declare const KZ_VERSION: string;

export const VERSION = KZ_VERSION;

/** What a blind child's Node loads first: a bundle of its own, beside ours. */
export const PRELOAD = join(__dirname, 'preload.cjs');
