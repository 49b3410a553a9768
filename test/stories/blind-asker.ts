// A blind program that makes a request for every URL on its standard input, and the upstream that hears it.
import { FIXTURES, NODE, type Story } from './kz.ts';
import { Running } from './processes.ts';
import { answerJson, Upstream } from './upstream.ts';

const ASKS = `echo "ready $$"; while read -r url; do ${NODE} ${FIXTURES}blind-client.mjs "$url"; echo "done $$"; done`;

export class BlindAsker {
  readonly upstream: Upstream;
  readonly running: Running;
  #asked = 0;

  /** `says` is what it answers. */
  static listen(says: () => unknown = () => 'ok'): Promise<Upstream> {
    return Upstream.start((_request, response) => {
      answerJson(response, says());
    });
  }

  constructor(story: Story, upstream: Upstream, env: Readonly<Record<string, string>>) {
    this.upstream = upstream;
    const options = { env: { ...upstream.environment, ...env }, keepInput: true };
    this.running = new Running(story.start(['run', '--blind', '--', 'sh', '-c', ASKS], options));
  }

  /** The program's own pid. */
  async pid(): Promise<number> {
    const [pid = 0] = await this.running.numbers('ready');
    return pid;
  }

  /** Has the program make a request with TOKEN, and says what the upstream got as its credential. */
  async ask(): Promise<string> {
    this.#asked += 1;
    this.running.child.stdin?.write('https://api.example/\n');
    await this.running.numbers('done', this.#asked);
    return this.upstream.received.at(-1)?.headers.authorization?.replace('Bearer ', '') ?? 'none';
  }

  /** The program ends by itself. */
  end(): Running['ended'] {
    this.running.child.stdin?.end();
    return this.running.ended;
  }
}
