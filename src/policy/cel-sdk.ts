// What kz uses of the libraries that read and run rules; scripts/build.mjs makes a file of its own of it, which only the server's commands load.
export { Environment } from '@marcbachmann/cel-js';
export type { ASTNode } from '@marcbachmann/cel-js';
export { RE2JS } from 're2js';
