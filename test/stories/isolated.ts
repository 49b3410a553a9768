// A story whose programs run blind and in isolation, with one secret that may go to api.example.
import { ownTemporary, READS_FIXTURES } from './isolation.ts';
import { NODE, Story, type Ended, type StartOptions } from './kz.ts';
import { Running } from './processes.ts';

export const STRICT = ['run', '--blind', '--sandbox', 'strict'] as const;

export class IsolatedStory extends Story {
  readonly value: string;
  readonly temporary: string;

  constructor() {
    super();
    this.value = this.canary();
    this.temporary = ownTemporary(this);
    this.blind(READS_FIXTURES);
  }

  /** Writes the config: the secret, and what there is to say of blind mode. */
  blind(text: string): string {
    return this.config(`${text}\n[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example"] }\n`);
  }

  override environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
    return super.environment({ SOURCE: this.value, TMPDIR: this.temporary, ...extra });
  }

  /** In isolation; flags of kz may come before the command. */
  strict(command: readonly string[], options: StartOptions & { readonly flags?: readonly string[] } = {}): Promise<Ended> {
    return this.kz([...STRICT, ...(options.flags ?? []), '--', ...command], options);
  }

  /** The same without, to compare with. */
  plain(command: readonly string[], options: StartOptions & { readonly flags?: readonly string[] } = {}): Promise<Ended> {
    return this.kz(['run', '--blind', '--sandbox', 'off', ...(options.flags ?? []), '--', ...command], options);
  }

  shell(script: string, options: StartOptions = {}): Promise<Ended> {
    return this.strict(['sh', '-c', script], options);
  }

  /** A program of Node's, as a module. */
  node(program: string, options: StartOptions = {}): Promise<Ended> {
    return this.strict([NODE, '--input-type=module', '-e', program], options);
  }

  /** The same without what leads Node to the proxy: a client that knows of none. */
  unaware(program: string, options: StartOptions = {}): Promise<Ended> {
    const without = ['NODE_OPTIONS', 'HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy'];
    return this.strict(['env', ...without.flatMap((name) => ['-u', name]), NODE, '--input-type=module', '-e', program], options);
  }

  running(command: readonly string[], options: StartOptions & { readonly flags?: readonly string[] } = {}): Running {
    return new Running(this.start([...STRICT, ...(options.flags ?? []), '--', ...command], options));
  }
}
