// Registries with one package each, behind a credential: npm's, and a simple index of Python's.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';
import { answerJson } from './upstream.ts';

type Allowed = (request: http.IncomingMessage) => boolean;

/** Serves the npm package `demo` 1.0.0, whose only file exports 42. */
export function npmRegistry(folder: string, host: string, isAllowed: Allowed): http.RequestListener {
  mkdirSync(join(folder, 'package'));
  writeFileSync(join(folder, 'package/package.json'), JSON.stringify({ name: 'demo', version: '1.0.0', main: 'index.js' }));
  writeFileSync(join(folder, 'package/index.js'), 'module.exports = 42;\n');
  execFileSync('tar', ['czf', 'demo.tgz', 'package'], { cwd: folder });
  const tarball = readFileSync(join(folder, 'demo.tgz'));
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
  const dist = { tarball: `https://${host}/demo/-/demo-1.0.0.tgz`, integrity };
  const document = { name: 'demo', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': { name: 'demo', version: '1.0.0', dist } } };
  return (request, response) => {
    if (!isAllowed(request)) answerJson(response, { error: 'who are you?' }, 401);
    else if (request.url === '/demo') answerJson(response, document);
    else if (request.url === '/demo/-/demo-1.0.0.tgz') response.end(tarball);
    else answerJson(response, { error: 'not found' }, 404);
  };
}

/** Serves the Python package `demo` 1.0, whose only module has the variable `answer`. */
export function pythonIndex(folder: string, isAllowed: Allowed): http.RequestListener {
  const wheel = 'demo-1.0-py3-none-any.whl';
  execFileSync('python3', ['-c', MAKE_WHEEL, wheel], { cwd: folder });
  const bytes = readFileSync(join(folder, wheel));
  const digest = createHash('sha256').update(bytes).digest('hex');
  const page = `<!DOCTYPE html><html><body><a href="/files/${wheel}#sha256=${digest}">${wheel}</a></body></html>`;
  return (request, response) => {
    if (!isAllowed(request)) response.writeHead(401, { 'www-authenticate': 'Basic realm="index"', 'content-length': 0 }).end();
    else if (request.url === '/simple/demo/') response.writeHead(200, { 'content-type': 'text/html' }).end(page);
    else if (request.url === `/files/${wheel}`) response.writeHead(200, { 'content-type': 'application/zip' }).end(bytes);
    else response.writeHead(404, { 'content-length': 0 }).end();
  };
}

const MAKE_WHEEL = `
import sys, zipfile
files = {
    "demo.py": "answer = 42\\n",
    "demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n",
    "demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: story\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}
files["demo-1.0.dist-info/RECORD"] = "".join(name + ",,\\n" for name in [*files, "demo-1.0.dist-info/RECORD"])
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
`;

/** Is pip there, for a program with a story's PATH? */
export function hasPip(): boolean {
  try {
    execFileSync('python3', ['-m', 'pip', '--version'], { stdio: 'ignore', env: { PATH: '/usr/local/bin:/usr/bin:/bin' } });
    return true;
  } catch {
    return false;
  }
}
