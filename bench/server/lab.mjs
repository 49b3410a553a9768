// What is asked of all servers: N rules of which only the last is true of the caller, so that every one of them has to be looked at, as a bundle
// of kz and in Rego. Makes the keys, the tokens and the requests.
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SignJWT } from 'jose';

/** @typedef {'masked' | 'direct'} Mode */
/** @typedef {{ folder: string, kz: string, env: Record<string, string>, key: import('node:crypto').KeyObject, pem: string, value: string }} Lab */
/** @typedef {{ method: string, path: string, headers: Record<string, string>, body: string }} Request */

export const RULES = [10, 100, 1000];
/** More than kz remembers (src/server/identity/jwt-cache.ts), so that each is new again when its turn comes. */
const FRESH_TOKENS = 2000;
const ISSUER = 'https://issuer.example';
const CLAIMS = { org: 'acme', roles: ['ci', 'deploy'], repository: 'acme/app', ref: 'refs/heads/main', environment: 'prod' };

/**
 * @param {string} folder
 * @param {string} kz
 * @returns {Lab}
 */
export function makeLab(folder, kz) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const value = 'CANARY-0123456789abcdef';
  const others = Array.from({ length: 20 }, (_, index) => `OTHER_${String(index)}=not-asked-for-${String(index)}\n`);
  writeFileSync(join(folder, 'secrets.env'), `${others.join('')}TOKEN=${value}\n`, { mode: 0o600 });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  for (const rules of RULES) {
    writeFileSync(bundleOf(folder, rules), bundle(rules, pem));
    writeFileSync(regoOf(folder, rules), rego(rules));
  }
  // Nothing of this machine's environment: NODE_EXTRA_CA_CERTS alone costs 20 to 40 ms at every start of Node 20.
  return { folder, kz, env: { PATH: process.env.PATH ?? '', HOME: folder }, key: privateKey, pem, value };
}

/**
 * @param {string} folder
 * @param {number} rules
 */
export function bundleOf(folder, rules) {
  return join(folder, `bundle-${String(rules)}.yaml`);
}

/**
 * @param {string} folder
 * @param {number} rules
 */
export function regoOf(folder, rules) {
  return join(folder, `rules-${String(rules)}.rego`);
}

/** @param {number} rules */
function services(rules) {
  return Array.from({ length: rules }, (_, index) => `svc-${String(index + 1)}`);
}

/**
 * @param {number} rules
 * @param {string} pem
 */
function bundle(rules, pem) {
  const key = pem
    .trim()
    .split('\n')
    .map((line) => `          ${line}`)
    .join('\n');
  const policies = services(rules).map(
    (service) => `  - name: ${service}
    rule: "org == 'acme' && service == '${service}' && 'ci' in groups && ref.matches('${service}/**')"
    effect: allow`,
  );
  const resources = services(rules).map(
    (service) => `  - { ref: ${service}/masked, resolver: env, from: TOKEN, hosts: [api.example.com], methods: [GET, POST] }`,
  );
  resources.push('  - { ref: "*/direct", resolver: env, from: TOKEN, mode: direct }');
  return `version: "1"
issuers:
  - name: issuer
    issuer_url: ${ISSUER}
    type: custom
    audience: kz
    map: { org: claims.org, service: claims.sub, groups: claims.roles }
    static_keys:
      - kid: a
        alg: ES256
        pem: |
${key}
policies:
${policies.join('\n')}
resources:
${resources.join('\n')}
backends:
  env: { type: env_file, path: ./secrets.env }
`;
}

/** @param {number} rules */
function rego(rules) {
  const decisions = services(rules).map(
    (service) => `decision := {"allow": true, "policy": "${service}"} if {
	input.claims.org == "acme"
	input.claims.sub == "${service}"
	"ci" in input.claims.roles
	glob.match("${service}/**", ["/"], input.ref)
}`,
  );
  return `package kz

default decision := {"allow": false, "policy": "default-deny"}

${decisions.join('\n\n')}
`;
}

/** Of the last rule. @param {number} rules */
function caller(rules) {
  return { sub: `svc-${String(rules)}`, claims: { ...CLAIMS, iss: ISSUER, aud: 'kz' } };
}

/**
 * @param {Lab} lab
 * @param {number} rules
 * @param {string} [jti]
 */
export function tokenOf({ key }, rules, jti = 'one') {
  const { sub, claims } = caller(rules);
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'a' });
  return token.setSubject(sub).setJti(jti).setIssuedAt().setExpirationTime('1h').sign(key);
}

/**
 * @param {Lab} lab
 * @param {{ rules: number, mode: Mode, fresh?: boolean }} how `fresh`: many tokens, none of which kz still knows
 */
export async function kzRequests(lab, { rules, mode, fresh = false }) {
  const tokens = await Promise.all(Array.from({ length: fresh ? FRESH_TOKENS : 1 }, (_, index) => tokenOf(lab, rules, String(index))));
  const body = JSON.stringify({ resource: `svc-${String(rules)}/${mode}` });
  return tokens.map((token) => post('/v1/resolve', body, { authorization: `Bearer ${token}` }));
}

/**
 * Who asks has verified the token and sends what is in it.
 * @param {Lab} lab
 * @param {number} rules
 */
export function opaRequests(lab, rules) {
  const { sub, claims } = caller(rules);
  return [post('/v1/data/kz/decision', JSON.stringify({ input: { ref: `${sub}/masked`, claims: { ...claims, sub } } }))];
}

export function bareRequests() {
  return [post('/', JSON.stringify({ resource: 'a' }))];
}

/**
 * @param {string} path
 * @param {string} body
 * @param {Record<string, string>} [headers]
 * @returns {Request}
 */
function post(path, body, headers = {}) {
  return { method: 'POST', path, headers: { ...headers, 'content-type': 'application/json' }, body };
}
