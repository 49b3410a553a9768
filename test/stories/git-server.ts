// A git server: git's own `http-backend`, which speaks CGI, behind a password.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';

/** Undefined where git, or this part of it, is not installed. */
export const GIT_BACKEND = backend();

/** Makes a bare repository with one commit that holds the file `hello`, and says how to serve the folder that it is in. */
export function gitServer(folder: string, name: string, isAllowed: (request: http.IncomingMessage) => boolean): http.RequestListener {
  const bare = join(folder, name);
  git(folder, 'init', '-q', '--bare', '-b', 'main', name);
  git(bare, 'config', 'http.receivepack', 'true');
  const blob = git(bare, 'hash-object', '-w', '--stdin', 'hello\n').trim();
  const tree = git(bare, 'mktree', `100644 blob ${blob}\thello\n`).trim();
  git(bare, 'update-ref', 'refs/heads/main', git(bare, 'commit-tree', '-m', 'first', tree).trim());
  return (request, response) => {
    if (isAllowed(request)) serve(folder, request, response);
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="git"', 'content-length': 0 }).end();
  };
}

/** Subjects of the commits on `main`. */
export function commits(folder: string, name: string): string[] {
  return git(join(folder, name), 'log', '--format=%s', 'main').trim().split('\n');
}

/** Who commits, and no settings of the machine. */
export const GIT_ENVIRONMENT = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_TERMINAL_PROMPT: '0',
  GIT_AUTHOR_NAME: 'story',
  GIT_AUTHOR_EMAIL: 'story@example.com',
  GIT_COMMITTER_NAME: 'story',
  GIT_COMMITTER_EMAIL: 'story@example.com',
} as const;

/** The last argument is standard input where it ends in a line break. */
function git(cwd: string, ...args: string[]): string {
  const input = args.at(-1)?.endsWith('\n') === true ? args.pop() : undefined;
  const env = { PATH: process.env.PATH, HOME: cwd, ...GIT_ENVIRONMENT };
  return execFileSync('git', args, { cwd, env, encoding: 'utf8', ...(input === undefined ? {} : { input }) });
}

function serve(folder: string, request: http.IncomingMessage, response: http.ServerResponse): void {
  const { pathname, search } = new URL(request.url ?? '/', 'http://server');
  const { headers: sent } = request;
  const env = {
    PATH: process.env.PATH,
    GIT_PROJECT_ROOT: folder,
    GIT_HTTP_EXPORT_ALL: '1',
    REQUEST_METHOD: request.method,
    PATH_INFO: pathname,
    QUERY_STRING: search.slice(1),
    CONTENT_TYPE: sent['content-type'] ?? '',
    ...(sent['content-length'] === undefined ? {} : { CONTENT_LENGTH: sent['content-length'] }),
    ...(sent['content-encoding'] === undefined ? {} : { HTTP_CONTENT_ENCODING: sent['content-encoding'] }),
    ...(typeof sent['git-protocol'] === 'string' ? { GIT_PROTOCOL: sent['git-protocol'] } : {}),
    REMOTE_USER: 'story',
  };
  const child = spawn(GIT_BACKEND ?? 'git-http-backend', { env, stdio: ['pipe', 'pipe', 'inherit'] });
  request.pipe(child.stdin).on('error', () => undefined);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.once('close', () => {
    const all = Buffer.concat(chunks);
    const end = all.indexOf('\r\n\r\n');
    const headers: Record<string, string> = {};
    for (const line of all.toString('latin1', 0, end).split('\r\n')) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon)] = line.slice(colon + 1).trim();
    }
    const { Status = '200', ...rest } = headers;
    response.writeHead(Number.parseInt(Status, 10), rest);
    response.end(all.subarray(end + 4));
  });
}

function backend(): string | undefined {
  try {
    const path = join(execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim(), 'git-http-backend');
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}
