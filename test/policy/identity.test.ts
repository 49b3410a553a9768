// Claims → identity, as real issuers write them.
import { describe, expect, it } from 'vitest';
import { identityOf, type Profile } from '../../src/policy/identity.ts';

const NOBODY = { org: '', service: '', env: '', action: '', branch: '', actor: '', groups: [] };

function profile(type: Profile['type'], map: Record<string, readonly string[]> = {}): Profile {
  return { type, map: new Map(Object.entries(map)) };
}

describe('github-actions', () => {
  const claims = {
    repository_owner: 'acme',
    repository: 'acme/shop',
    environment: 'prod',
    workflow: 'deploy',
    workflow_ref: 'acme/shop/.github/workflows/deploy.yml@refs/heads/main',
    ref: 'refs/heads/main',
    actor: 'ada',
  };

  it('reads every field', () => {
    expect(identityOf(profile('github-actions'), claims)).toEqual({
      org: 'acme',
      service: 'acme/shop',
      env: 'prod',
      action: 'deploy',
      branch: 'refs/heads/main',
      actor: 'ada',
      groups: [],
    });
  });

  it('takes the other name where the first is missing', () => {
    expect(identityOf(profile('github-actions'), { ...claims, workflow: undefined }).action).toBe(claims.workflow_ref);
  });

  it('is overridden field by field, without a way back', () => {
    const identity = identityOf(profile('github-actions', { org: ['enterprise'], groups: ['teams'] }), { ...claims, teams: ['a', 'b'] });
    expect(identity).toMatchObject({ org: '', service: 'acme/shop', groups: ['a', 'b'] });
  });
});

describe('kubernetes', () => {
  const nested = {
    sub: 'system:serviceaccount:shop:web',
    'kubernetes.io': { namespace: 'shop', pod: { name: 'web-1', uid: 'u' }, serviceaccount: { name: 'web', uid: 'u' } },
  };

  it('reads projected tokens', () => {
    expect(identityOf(profile('kubernetes'), nested)).toEqual({ ...NOBODY, org: 'shop', service: 'web' });
  });

  it.each(['serviceaccount', 'service_account'])('reads flat claims, with %s', (name) => {
    const identity = identityOf(profile('kubernetes'), { namespace: 'shop', [name]: 'web', groups: ['a'] });
    expect(identity).toEqual({ ...NOBODY, org: 'shop', service: 'web', groups: ['a'] });
  });

  it('falls back on sub', () => {
    expect(identityOf(profile('kubernetes'), { sub: nested.sub })).toMatchObject({ org: 'shop', service: 'web' });
    expect(identityOf(profile('kubernetes'), { sub: 'system:serviceaccount:shop' })).toEqual(NOBODY);
    expect(identityOf(profile('github-actions'), { sub: nested.sub })).toEqual(NOBODY);
  });

  it('takes a path of keys that have dots in them', () => {
    const identity = identityOf(profile('kubernetes', { actor: ['kubernetes.io', 'pod', 'name'] }), nested);
    expect(identity.actor).toBe('web-1');
  });
});

describe('gcp and aws', () => {
  it('reads service accounts and virtual machines', () => {
    const claims = { email: 'web@shop.iam.gserviceaccount.com', google: { compute_engine: { project_id: 'shop' } } };
    const expected = { ...NOBODY, org: 'shop', service: claims.email, actor: claims.email };
    expect(identityOf(profile('gcp'), claims)).toEqual(expected);
    expect(identityOf(profile('gcp'), { email: claims.email, project_id: 'shop' })).toEqual(expected);
  });

  it.each([
    [{ account_id: '123456789012', arn: 'arn:aws:iam::123456789012:role/web' }],
    [{ account: '123456789012', role_arn: 'arn:aws:iam::123456789012:role/web' }],
    [{ 'https://sts.amazonaws.com/': { aws_account: '123456789012', principal_id: 'arn:aws:iam::123456789012:role/web' } }],
  ])('reads %j', (claims) => {
    expect(identityOf(profile('aws'), claims)).toEqual({ ...NOBODY, org: '123456789012', service: 'arn:aws:iam::123456789012:role/web' });
  });
});

describe('custom', () => {
  it('knows nothing by itself', () => {
    expect(identityOf(profile('custom'), { repository_owner: 'acme', groups: ['a'], email: 'e', namespace: 'n' })).toEqual(NOBODY);
  });

  it('takes texts and numbers, and of groups only texts', () => {
    const map = { org: ['tenant', 'id'], env: ['env'], actor: ['who'], branch: ['list'], groups: ['roles'] };
    const claims = { tenant: { id: 7 }, env: true, who: { name: 'x' }, list: ['a'], roles: ['a', 1, null, { b: 1 }, 'c', ''] };
    expect(identityOf(profile('custom', map), claims)).toEqual({ ...NOBODY, org: '7', groups: ['a', 'c'] });
  });

  it('takes one group for a list of one', () => {
    expect(identityOf(profile('custom', { groups: ['role'] }), { role: 'admin' }).groups).toEqual(['admin']);
  });

  it('sees only what the token itself says', () => {
    const map = { org: ['constructor', 'name'], service: ['__proto__', 'x'], env: ['toString'], actor: ['list', 'length'] };
    expect(identityOf(profile('custom', map), { list: ['a'] })).toEqual(NOBODY);
    const claims = JSON.parse('{"__proto__":{"x":"own"}}') as Record<string, unknown>;
    expect(identityOf(profile('custom', map), claims).service).toBe('own');
  });
});
