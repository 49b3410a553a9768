// The token of callers who bring none: of an MCP client that has started this server, and that its token need not pass through the model.
import { KzError } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import { USUAL_VARIABLE, WorkloadJwt } from '../providers/workload-jwt.ts';
import { ServerFailure } from './failure.ts';
import type { ServerOptions } from './serve.ts';

type OwnJwt = (signal: AbortSignal) => Promise<string | undefined>;

/** From a file, `KEYZERO_JWT`, or the CI system; undefined when there is none of these. Throws `jwt-missing` for one that cannot be read. */
export function serversOwnJwt({
  jwt: { file, audience },
  context: { env },
  tell,
}: Pick<ServerOptions, 'jwt' | 'context' | 'tell'>): OwnJwt {
  const path = file === undefined ? undefined : absolutePath(file, process.cwd(), env);
  const source = new WorkloadJwt({ env, who: 'this server', file: path, usualVariable: USUAL_VARIABLE, audience });
  return async (signal) => {
    try {
      return (await source.find(signal))?.jwt;
    } catch (error) {
      if (!(error instanceof KzError)) throw error;
      tell('warning', error.message);
      throw new ServerFailure('jwt-missing', 'the token that this server was started with cannot be read', { cause: error });
    }
  };
}
