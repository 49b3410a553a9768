// The line that opens the sandbox's doors where there is no perl: a shell in which stage/doors.ts does what doors.pl does, and which then
// becomes the next program, as Node cannot. The program does not get the channel.

export interface NodeDoors {
  /** Absolute paths. */
  readonly sh: string;
  readonly node: string;
  /** The bundle of stage/doors.ts. */
  readonly program: string;
  /** Without it `any` fails. */
  readonly ip: string | undefined;
  /** The descriptor of the channel to kz: 3 to 9, as shells know no others. */
  readonly channel: number;
}

/** In the place of `perl doors.pl HOW`; what follows is the same: `DOOR... -- PROGRAM ARG...`. */
export function nodeDoorsCommand({ sh, node, program, ip, channel }: NodeDoors, how: 'any' | 'lo'): string[] {
  return [sh, '-c', script(channel), 'kz', node, program, how === 'lo' || ip === undefined ? how : `any=${ip}`];
}

/** Node must not touch the program's terminal or input. It exits when kz has taken every door. */
function script(channel: number): string {
  return [
    'node=$1 program=$2',
    'shift 2',
    '"$node" "$program" "$@" </dev/null >&2 || exit',
    'until [ "$1" = -- ]; do shift; done',
    'shift',
    'unset node program NODE_CHANNEL_FD NODE_CHANNEL_SERIALIZATION_MODE',
    `exec ${String(channel)}>&-`,
    'exec "$@"',
  ].join('\n');
}
