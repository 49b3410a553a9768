// A decision for tests of the server's audit log.
import type { Decision } from '../../src/audit/decision.ts';

export function decision(more: Partial<Decision> = {}): Decision {
  return {
    type: 'decision',
    time: '2026-11-21T07:55:54.123Z',
    id: '0123456789abcdef',
    face: 'http',
    tool: 'fetch',
    issuer: 'github',
    iss: 'https://token.actions.example.com',
    sub: 'repo:acme/app:ref:refs/heads/main',
    jti: 'a1',
    ref: 'github/pat',
    resolver: 'gh',
    mode: 'masked',
    host: 'api.example.com',
    method: 'GET',
    path: '/user',
    policy: 'ci-reads',
    why: 'rule',
    outcome: 'allowed',
    code: null,
    status: 200,
    ms: 1.25,
    ...more,
  };
}
