// A bundle whose parts are right by themselves: what only shows when they are put together is told at its own place, and once.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { compileBundle } from '../../src/server/compile.ts';
import { ServeLab } from './serve-lab.ts';

let folder: string;
let lab: ServeLab;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-compile-'));
  lab = new ServeLab();
});

afterEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  await lab.end();
});

/** `line:column message → hint`, of each. */
async function problems(lines: readonly string[]): Promise<string[]> {
  const path = join(folder, 'bundle.yaml');
  writeFileSync(path, ['version: "1"', 'backends: { gh: { type: env_file, path: ./secrets.env } }', ...lines, ''].join('\n'));
  try {
    await compileBundle(path, lab.options());
    return [];
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return (error.code === 'several' ? error.problems : [error]).map(
      ({ at, message, hint }) => `${String(at?.line)}:${String(at?.column)} ${message}${hint === undefined ? '' : ` → ${hint}`}`,
    );
  }
}

describe('a resource', () => {
  const resource = (...lines: string[]) => ['resources:', '  - resolver: gh', '    hosts: [h.com, i.com]', '    methods: [GET]', ...lines];

  it.each([
    ['', 1],
    ['    from: "X_{1}"', 1],
    ['    from: "X"', 0],
  ])('that is a pattern has no check, unless it has one value: %j', async (from, count) => {
    const found = await problems(resource('    ref: "a/*"', '    check: GET https://h.com/', ...(from === '' ? [] : [from])));
    expect(found).toEqual(
      Array.from(
        { length: count },
        () =>
          '8:5 resource "a/*" has a check, and is a pattern: nobody can say which value is meant → give the one that is checked a resource of its own, or leave `check` out',
      ),
    );
  });

  it('has its ref and its paths told at their own lines', async () => {
    const lines = resource('    ref: a/../b', '    paths:', '      - /a', '      - /a/../b', '      - /c//d');
    expect(await problems(lines)).toEqual([
      '7:5 resource "a/../b" has a `.` or `..` segment',
      '10:9 resource "a/../b" has a path "/a/../b" that has a `.` or `..` segment',
      '11:9 resource "a/../b" has a path "/c//d" that has an empty segment or a parameter, which servers read differently',
    ]);
  });

  it.each([
    [
      ['    paths: [/user, "/repos/**"]', '    check: GET https://h.com/orgs'],
      '9:5 resource "a" has a check that would be refused: a may not be used for this path of h.com → allowed are hosts h.com, i.com; methods GET; paths /user, /repos/**',
    ],
    [
      ['    paths: ["/**"]', '    check: GET https://h.com/a%2Fb;x'],
      '9:5 resource "a" has a check that would be refused: a is for some paths only, and servers read this one in different ways → allowed are hosts h.com, i.com; methods GET; paths /**',
    ],
    [
      ['    credential_location: query:key', '    check: GET https://h.com/?key=x'],
      '9:5 resource "a" has a check that would be refused: the url has a parameter "key", which is where kz puts the credential',
    ],
    [['    paths: [/user]', '    check: GET https://i.com/user'], undefined],
    [['    paths: [/user]', '    check: HEAD https://i.com/x'], '9:5 check uses HEAD, which methods does not name → add HEAD to methods'],
    [
      ['    paths: [/user]', '    check: GET https://j.com/x'],
      '9:5 check goes to j.com, which hosts does not cover → add "j.com" to hosts',
    ],
  ])('with a check that would always fail: %j', async (lines, problem) => {
    expect(await problems(resource('    ref: a', ...lines))).toEqual(problem === undefined ? [] : [problem]);
  });
});

describe('an issuer', () => {
  const issuer = (...lines: string[]) => [
    'issuers:',
    '  - name: ci',
    '    issuer_url: https://ci.example',
    '    type: github-actions',
    '    audience: kz',
    ...lines,
  ];

  it.each([
    [['    algorithms: [HS256]'], '8:18 HS256 cannot be used with published keys → name it in static_keys, in an issuer without a JWKS'],
    [
      ['    static_keys:', '      - { alg: ES256, pem: "-----BEGIN PRIVATE KEY-----" }'],
      '9:23 pem holds a private key: the public one is enough → that key is known now: make a new one',
    ],
    [
      ['    algorithms: [HS256]', '    static_keys:', '      - { alg: HS256, pem: "-----BEGIN PUBLIC KEY-----" }'],
      '10:23 HS256 needs a shared secret, and pem holds a key pair’s → add `secret_env: NAME`: the variable that holds it',
    ],
    [
      ['    static_keys:', '      - { alg: HS256 }'],
      '9:9 static key number 1 has no key → add `secret_env: NAME`: the variable that holds it',
    ],
  ])('has a mistake told once: %j', async (lines, problem) => {
    expect(await problems(issuer(...lines))).toEqual([problem]);
  });

  it('beside a mistake has those of its other keys told', async () => {
    const keys = ['    static_keys:', '      - { alg: ES256, pem: x }', '      - { alg: HS256, secret_env: KZ_NOT_SET }'];
    expect(await problems(issuer('    algorithms: [ES256]', ...keys))).toEqual([
      '10:23 pem does not start with -----BEGIN',
      '11:9 the HS256 key needs the variable "KZ_NOT_SET", which is not set → start kz with KZ_NOT_SET set',
    ]);
  });

  it('has a key file that is not there told at its line', async () => {
    expect(await problems(issuer('    jwks_file: ./nope.json'))).toEqual([
      `8:5 the keys of issuer "ci" cannot be had: cannot read file "${folder}/nope.json" (ENOENT) → correct \`jwks_file\``,
    ]);
  });
});
