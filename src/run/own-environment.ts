// kz's own environment holds what its providers log in with, and sometimes values. /proc/PID/environ shows every process of the user what it
// was at the start, whatever became of the variables: that copy is overwritten here. Memory is not cleaned: the variables, and strings made
// of them, stay in the heap for those who may read it (/proc/PID/mem), and the programs that started kz have copies of their own.
import { closeSync, openSync, writeSync } from 'node:fs';
import { statFields } from './process-tree.ts';

/**
 * `process.env` and what children get by default are the same afterwards. False where it cannot be done: elsewhere than on Linux, without
 * /proc, or when kz may not write to its own memory. Never throws. Call it early: no other thread should ask for a variable meanwhile.
 */
export function hideOwnEnvironment(): boolean {
  if (process.platform !== 'linux') return false;
  try {
    return overwrite();
  } catch {
    return false;
  }
}

/** Fields 50 and 51 of proc_pid_stat(5), counted from the third. Not there, or 0, where it is not told. */
const [ENV_START, ENV_END] = [47, 48];

function overwrite(): boolean {
  const fields = statFields('self');
  const [start, end] = [Number(fields[ENV_START]), Number(fields[ENV_END])];
  if (!(start > 0 && end >= start && Number.isSafeInteger(end))) return false;
  const memory = openSync('/proc/self/mem', 'r+');
  try {
    return withoutVariables(() => writeSync(memory, new Uint8Array(end - start), 0, end - start, start) === end - start);
  } finally {
    closeSync(memory);
  }
}

/** The C library points into the block until a variable is set: what is set again lives in the heap. */
function withoutVariables<T>(action: () => T): T {
  const variables = Object.entries(process.env);
  for (const [name] of variables) Reflect.deleteProperty(process.env, name);
  try {
    return action();
  } finally {
    for (const [name, value] of variables) process.env[name] = value;
  }
}
