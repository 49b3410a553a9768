// The token of callers who bring none: of an MCP client that has started this server, and that its token need not pass through the model.
import { KzError } from '../../core/errors.ts';
import { absolutePath } from '../../core/home-path.ts';
import { USUAL_VARIABLE, WorkloadJwt } from '../../providers/workload-jwt.ts';
import { ServerFailure } from '../failure.ts';
import type { ServerOptions } from '../serve.ts';

type OwnJwt = (signal: AbortSignal) => Promise<string | undefined>;

type OwnJwtOptions = Pick<ServerOptions, 'jwt' | 'context' | 'tell'> & {
  /** Of a call that ends here, before there is a token to verify. */
  readonly refused: (failure: ServerFailure) => void;
};

/** From a file, `KEYZERO_JWT`, or the CI system; undefined when there is none of these. Throws `jwt-missing` for one that cannot be read. */
export function serversOwnJwt({ refused, ...options }: OwnJwtOptions): OwnJwt {
  const source = sourceOf(options);
  return async (signal) => {
    try {
      return (await source.find(signal))?.jwt;
    } catch (error) {
      if (!(error instanceof KzError)) throw error;
      options.tell('warning', wordsOf(error, options));
      const failure = new ServerFailure('jwt-missing', 'the token that this server was started with is missing or is no JWT', {
        hint: 'only the operator of this server can put a new one into the file of --jwt-file',
        cause: error,
      });
      refused(failure);
      throw failure;
    }
  };
}

/** Tells whoever starts the server what its callers will run into; the model that is told then cannot change it. Never rejects. */
export async function checkOwnJwt(options: Omit<OwnJwtOptions, 'refused'>, signal: AbortSignal): Promise<void> {
  try {
    if ((await sourceOf(options).find(signal)) !== undefined) return;
    options.tell('warning', options.jwt.audience === undefined ? NO_TOKEN : NO_GITHUB_TOKEN);
  } catch (error) {
    if (error instanceof KzError) options.tell('warning', wordsOf(error, options));
  }
}

const NO_TOKEN = `neither --jwt-file nor ${USUAL_VARIABLE} gives a token (JWT): only calls that bring one of their own are answered`;

const NO_GITHUB_TOKEN =
  '--jwt-audience: this is no GitHub Actions job with `id-token: write`; only calls that bring a token (JWT) of their own are answered';

function wordsOf({ message }: KzError, { jwt: { file } }: Pick<OwnJwtOptions, 'jwt'>): string {
  const hint = file === undefined ? '' : ` (\`kz server token --out ${file}\` makes one, if the issuer is yours)`;
  return `no token for callers: ${message}${hint}`;
}

function sourceOf({ jwt: { file, audience }, context: { env } }: Pick<OwnJwtOptions, 'jwt' | 'context'>): WorkloadJwt {
  const path = file === undefined ? undefined : absolutePath(file, process.cwd(), env);
  return new WorkloadJwt({ env, who: 'this server', file: path, usualVariable: USUAL_VARIABLE, audience });
}
