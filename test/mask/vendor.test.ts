import { describe, expect, it } from 'vitest';
import { matchesHost, parseHostPattern } from '../../src/core/host-pattern.ts';
import { vendorOf } from '../../src/mask/vendor.ts';

const HEX = '0123456789abcdef0123456789abcdef';

function reaches(value: string, host: string): boolean {
  return (vendorOf(value)?.hosts ?? []).some((text) => {
    const pattern = parseHostPattern(text);
    if ('problem' in pattern) throw new Error(`${text} ${pattern.problem}`);
    return matchesHost(pattern, host, 443);
  });
}

it.each([
  ['ghp_x', 'api.github.com'],
  ['ghp_x', 'github.com'],
  ['github_pat_x', 'uploads.github.com'],
  ['ghs_x', 'ghcr.io'],
  ['glpat-x', 'gitlab.com'],
  ['sk-ant-x', 'api.anthropic.com'],
  ['sk-proj-x', 'api.openai.com'],
  ['tvly-x', 'api.tavily.com'],
  ['sk_live_x', 'api.stripe.com'],
  ['xoxb-x', 'slack.com'],
  ['xoxp-x', 'files.slack.com'],
  ['xapp-x', 'wss-primary.slack.com'],
  [`ntn_${HEX}${HEX}`, 'api.notion.com'],
  [`secret_${HEX}${HEX}`, 'api.notion.com'],
  ['lin_api_x', 'api.linear.app'],
  ['npm_x', 'replicate.npmjs.org'],
  ['AIzax', 'maps.googleapis.com'],
  ['hf_x', 'router.huggingface.co'],
  ['ATATTx', 'acme.atlassian.net'],
])('%s may go to %s', (value, host) => {
  expect(reaches(value, host)).toBe(true);
  expect(reaches(value, `${host}.evil.com`)).toBe(false);
});

describe('what does not tell its vendor', () => {
  it.each(['sk-x', 'hvs.x', 'glsa_x', 'whsec_x', 'AKIAIOSFODNN7EXAMPLE', `dapi${HEX}`, 'shpat_x', 'sb_secret_x'])(
    '%s keeps its prefix only',
    (value) => {
      expect(vendorOf(value)?.prefix).not.toBe('');
      expect(vendorOf(value)?.hosts).toEqual([]);
    },
  );

  it.each(['', 'x', 'ghp', 'ghp_', 'xghp_x', 'secret_x', 'dapi', 'dapiary', 'pattern', 'AKIA', 'GHP_x', ' ghp_x'])(
    '%j has none',
    (value) => {
      expect(vendorOf(value)).toBeUndefined();
    },
  );
});

it('gives no host on which strangers run what they like', () => {
  const rented = [
    'x.s3.amazonaws.com',
    'ec2-1-2-3-4.compute-1.amazonaws.com',
    'x.hf.space',
    'x.supabase.co',
    'x.myshopify.com',
    'x.gitlab.io',
  ];
  for (const value of ['AKIAIOSFODNN7EXAMPLE', 'hf_x', 'sb_secret_x', 'sbp_x', 'shpat_x', 'glpat-x', 'ghp_x', 'AIzax']) {
    expect(rented.filter((host) => reaches(value, host))).toEqual([]);
  }
});

it('reads the longest prefix', () => {
  const prefixes = ['sk-ant-x', 'sk-or-x', 'sk-proj-x', 'sk-x', 'sk_live_x', 'xoxe.xoxp-x'].map((value) => vendorOf(value)?.prefix);
  expect(prefixes).toEqual(['sk-ant-', 'sk-or-', 'sk-proj-', 'sk-', 'sk_live_', 'xoxe.']);
});

it('knows who takes it in a path', () => {
  expect(vendorOf('123456789:CANARY78901234567890123456789012345')).toEqual({
    prefix: '123456789:',
    hosts: ['api.telegram.org'],
    inPath: true,
  });
});
