// Clients in an environment that names no proxy. Each asks one URL, with the token in a header.
import { NODE } from '../../stories/kz.ts';
import { isInstalled, PYTHON } from './parts.mjs';

/** Takes away whatever names the proxy, leaves the certificates, and makes sure of the first. */
export const BARE = `#!/bin/sh
unset $(env | sed -n 's/^\\([A-Za-z_]*[Pp][Rr][Oo][Xx][Yy][A-Za-z_]*\\)=.*/\\1/p') NODE_OPTIONS
JAVA_TOOL_OPTIONS=$(printf %s "$JAVA_TOOL_OPTIONS" | tr ' ' '\\n' | grep -vi proxy | tr '\\n' ' ')
grep -vi proxy "$WGETRC" > bare.wgetrc
WGETRC=bare.wgetrc
export JAVA_TOOL_OPTIONS WGETRC
if env | grep -i proxy >&2; then exit 99; fi
exec "$@"
`;

/** One request with the token in a header, each by itself: the table's clients have their address built in. */
export const ASKING: Readonly<Record<string, { problem?: string | undefined; command: (url: string) => readonly [string, ...string[]] }>> =
  {
    curl: {
      problem: isInstalled('curl') ? undefined : 'no curl',
      command: (url) => ['sh', '-c', 'curl -sS --fail -H "X-Api-Key: $TOKEN" "$1"', 'sh', url],
    },
    'git ls-remote': {
      problem: isInstalled('git') ? undefined : 'no git',
      command: (url) => [
        'sh',
        '-c',
        'git -c http.extraHeader="X-Api-Key: $TOKEN" ls-remote "https://me:$TOKEN@$1/project.git"',
        'sh',
        new URL(url).host,
      ],
    },
    'Python urllib': {
      problem: PYTHON === '' ? 'no python3' : undefined,
      command: (url) => [
        PYTHON,
        '-c',
        `import os, sys, urllib.request as u; print(u.urlopen(u.Request(sys.argv[1], headers={"X-Api-Key": os.environ["TOKEN"]})).read().decode())`,
        url,
      ],
    },
    'Node fetch': {
      command: (url) => [
        NODE,
        '-e',
        'fetch(process.argv[1], { headers: { "x-api-key": process.env.TOKEN } }).then((answer) => { if (!answer.ok) process.exitCode = 1; return answer.text(); }).then(console.log)',
        url,
      ],
    },
    'Node tls.connect': {
      command: (url) => [
        NODE,
        '-e',
        `const { hostname } = new URL(process.argv[1]);
       const socket = require('tls').connect({ host: hostname, port: 443, servername: hostname }, () =>
         socket.write('GET /echo HTTP/1.1\\r\\nHost: ' + hostname + '\\r\\nX-Api-Key: ' + process.env.TOKEN + '\\r\\nConnection: close\\r\\n\\r\\n'));
       let text = '';
       socket.on('data', (chunk) => (text += chunk)).on('end', () => { console.log(text); process.exit(text.startsWith('HTTP/1.1 200') ? 0 : 1); });`,
        url,
      ],
    },
    'Go, static, Proxy nil': { problem: isInstalled('go') ? undefined : 'no go', command: (url) => ['./go/bare', url] },
    'Java HttpClient': { problem: isInstalled('javac') ? undefined : 'no javac', command: (url) => ['java', 'Ask.java', url] },
  };

/** Go's client, told to use no proxy. */
export const GO = `package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	request, _ := http.NewRequest("GET", os.Args[1], nil)
	request.Header.Set("X-Api-Key", os.Getenv("TOKEN"))
	response, err := (&http.Client{Transport: &http.Transport{Proxy: nil}}).Do(request)
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	body, _ := io.ReadAll(response.Body)
	fmt.Println(string(body))
	if response.StatusCode != 200 { os.Exit(1) }
}
`;

/** For `java Ask.java URL`. */
export const JAVA = `import java.net.URI;
import java.net.http.*;

class Ask {
  public static void main(String[] args) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).header("X-Api-Key", System.getenv("TOKEN")).build();
    HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println(response.body());
    System.exit(response.statusCode() == 200 ? 0 : 1);
  }
}
`;
