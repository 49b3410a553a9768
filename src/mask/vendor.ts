// What the public prefix of a value says about its vendor: the hosts of its API, as far as the prefix alone tells them. A prefix has no
// hosts here when several vendors share it, when people run that software on hosts of their own (Vault, Grafana), or when the API is on
// names below which customers run code of their own, who would be sent the value (AWS, Shopify): then it is only kept in front of tokens.

export interface Vendor {
  /** What the value starts with, as it is in the value. Says whose it is, never which one. */
  readonly prefix: string;
  /** Host patterns; empty when the prefix does not tell. */
  readonly hosts: readonly string[];
  /** The vendor's API takes it as part of the path. */
  readonly inPath: boolean;
}

const GITHUB = [
  'api.github.com',
  'github.com',
  'uploads.github.com',
  'gist.github.com',
  'codeload.github.com',
  'raw.githubusercontent.com',
];
const GITHUB_SERVICES = ['ghcr.io', 'npm.pkg.github.com', 'maven.pkg.github.com', 'models.github.ai', 'api.githubcopilot.com'];
const ATLASSIAN = ['*.atlassian.net', 'api.atlassian.com', 'api.bitbucket.org', 'bitbucket.org'];
const NOTION = ['api.notion.com'];
const STRIPE = ['api.stripe.com', 'files.stripe.com', 'mcp.stripe.com'];
const SLACK = ['slack.com', '*.slack.com'];
const GOOGLE = ['*.googleapis.com'];
const NPM = ['*.npmjs.org'];

/** The first that matches counts, so that a longer prefix stands before its own beginning. */
const VENDORS: readonly (readonly [prefix: RegExp, hosts: readonly string[], place?: 'path'])[] = [
  [/^gh[pousr]_|^github_pat_/, [...GITHUB, ...GITHUB_SERVICES]],
  [/^gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-/, ['gitlab.com', 'registry.gitlab.com']],
  [/^ATATT|^ATBB/, ATLASSIAN],
  [/^sk-ant-/, ['api.anthropic.com']],
  [/^sk-or-/, ['openrouter.ai']],
  [/^sk-(?:proj|svcacct|admin)-/, ['api.openai.com']],
  [/^sk-lf-/, []],
  [/^sk-/, []],
  [/^tvly-/, ['api.tavily.com', 'mcp.tavily.com']],
  [/^pplx-/, ['api.perplexity.ai']],
  [/^xai-/, ['api.x.ai']],
  [/^gsk_/, ['api.groq.com']],
  [/^r8_/, ['api.replicate.com']],
  [/^hf_/, ['huggingface.co', 'api-inference.huggingface.co', 'router.huggingface.co']],
  [/^fc-/, ['api.firecrawl.dev']],
  [/^lsv2_(?:pt|sk)_/, ['api.smith.langchain.com', '*.api.smith.langchain.com']],
  [/^pcsk_/, ['*.pinecone.io']],
  [/^apify_api_/, ['api.apify.com', 'mcp.apify.com']],
  [/^(?:sk|rk)_(?:live|test)_/, STRIPE],
  [/^whsec_/, []],
  [/^xox[a-z]-|^xapp-|^xoxe\./, SLACK],
  [/^(?:AKIA|ASIA)(?=[A-Z0-9]{16}$)/, []],
  [/^AIza|^ya29\.|^GOCSPX-/, GOOGLE],
  [/^npm_/, NPM],
  [/^pypi-/, ['upload.pypi.org', 'pypi.org']],
  [/^rubygems_/, ['rubygems.org']],
  [/^dckr_pat_/, ['hub.docker.com', '*.docker.io', '*.docker.com']],
  [/^(?:ntn|secret)_(?=[A-Za-z0-9]{40,}$)/, NOTION],
  [/^SG\./, ['api.sendgrid.com']],
  [/^NRAK-/, ['api.newrelic.com', '*.newrelic.com']],
  [/^PMAK-/, ['api.getpostman.com', 'api.postman.com']],
  [/^lin_api_/, ['api.linear.app']],
  [/^fig[du]_/, ['api.figma.com']],
  [/^shp(?:at|ss|ca|pa)_/, []],
  [/^sq0(?:atp|csp)-/, ['connect.squareup.com']],
  [/^dapi(?=[0-9a-f]{32})/, []],
  [/^do[opr]_v1_/, ['api.digitalocean.com']],
  [/^nfp_/, ['api.netlify.com']],
  [/^sbp_/, ['api.supabase.com', 'mcp.supabase.com']],
  [/^sb_secret_/, []],
  [/^tskey-/, ['api.tailscale.com']],
  [/^fm2_/, ['api.machines.dev', 'api.fly.io']],
  [/^bkua_/, ['api.buildkite.com', 'graphql.buildkite.com']],
  [/^CCIPAT_/, ['circleci.com']],
  [/^ph[cx]_/, ['us.posthog.com', 'eu.posthog.com', 'app.posthog.com']],
  [/^pat(?=[A-Za-z0-9]{14}\.[0-9a-f]{64}$)/, ['api.airtable.com', 'content.airtable.com']],
  [/^re_(?=[A-Za-z0-9]{8}_[A-Za-z0-9]{20,}$)/, ['api.resend.com']],
  [/^dp\.(?:st|pt|ct|sa)\./, ['api.doppler.com']],
  [/^ops_(?=ey)/, []],
  [/^hv[sbr]\.|^gl(?:sa|c)_|^sntry[su]_/, []],
  [/^\d{8,10}:(?=[\w-]{35}$)/, ['api.telegram.org'], 'path'],
];

/** Whose value is this, by its start? */
export function vendorOf(value: string): Vendor | undefined {
  for (const [pattern, hosts, place] of VENDORS) {
    const prefix = pattern.exec(value)?.[0];
    // What is nothing but a prefix has no secret in it to tell from.
    if (prefix !== undefined && prefix.length < value.length) return { prefix, hosts, inPath: place === 'path' };
  }
  return undefined;
}
