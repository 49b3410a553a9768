// Events for the tests of the audit log.
import type { Exchange, RunStarted } from '../../src/audit/event.ts';

export const STARTED: Pick<RunStarted, 'version' | 'command' | 'config' | 'secrets' | 'rules'> = {
  version: '0.1.0',
  command: 'node',
  config: ['/home/me/app/.keyzero.toml'],
  secrets: [{ name: 'GITHUB_TOKEN', scope: ['api.github.com'], scope_from: 'hosts', exposed: false }],
  rules: 1,
};

export function exchange(facts: Partial<Exchange> = {}): Exchange {
  return {
    type: 'exchange',
    time: '2026-11-21T07:55:54.201Z',
    ms: 12,
    id: 1,
    protocol: 'http/1.1',
    tls: true,
    method: 'GET',
    host: 'api.github.com',
    port: 443,
    path: '/user',
    status: 200,
    decision: 'allowed',
    rule: { index: 0, at: '/home/me/app/.keyzero.toml:9' },
    why: 'rule',
    swapped: [{ name: 'GITHUB_TOKEN', where: 'header authorization' }],
    left: [],
    remasked: [],
    bytes_up: 0,
    bytes_down: 100,
    error: null,
    ...facts,
  };
}

export const BLOCKED: Partial<Exchange> = {
  host: 'evil.example',
  path: '/collect',
  method: 'POST',
  status: 403,
  decision: 'blocked',
  rule: { index: 1, at: '/home/me/app/.keyzero.toml:14' },
  swapped: [],
};
