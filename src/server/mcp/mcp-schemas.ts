// What the MCP tools are called, say of themselves, take and give, as plain JSON Schema. Written for a model that decides what to call.
// Nothing here depends on the bundle or the caller: clients hash this list to notice that a server was swapped.

/** A JSON Schema of an object. */
export interface ObjectSchema {
  readonly type: 'object';
  readonly properties: Readonly<Record<string, unknown>>;
  readonly required?: readonly string[];
  readonly additionalProperties: false;
}

export interface ToolText {
  readonly title: string;
  readonly description: string;
  readonly inputSchema: ObjectSchema;
  readonly outputSchema: ObjectSchema;
  /** Hints. No client may rely on them, and nothing here does. */
  readonly annotations: {
    readonly readOnlyHint: boolean;
    readonly destructiveHint: boolean;
    readonly idempotentHint?: boolean;
    readonly openWorldHint: boolean;
  };
}

export const INSTRUCTIONS = [
  'KeyZero lets you use credentials without seeing them.',
  'To call an API, use `fetch`: the credential is added on the way out and removed from the answer.',
  '`list_resources` names the credentials you may use.',
  '`resolve` gives a token that stands for a credential; it works only in requests that go through the KeyZero proxy.',
  'Never ask the user for a secret value, and never pass one to a tool.',
].join(' ');

/** Longest body of a request, in characters. */
const MAX_BODY_CHARACTERS = 1_048_576;

const JWT = {
  type: 'string',
  description:
    'Signed token that proves who calls. Leave it out unless you were given one for this purpose: the server usually has its own.',
} as const;

const RESOURCE = {
  type: 'string',
  minLength: 1,
  maxLength: 512,
  description: 'Name of the credential, such as "github/pat". `list_resources` shows the names.',
} as const;

const RESOLVER = {
  type: 'string',
  maxLength: 128,
  description: 'Name of the backend that holds it. Only checked against the one that is configured; leave it out.',
} as const;

const CONTEXT = {
  type: 'object',
  maxProperties: 64,
  description:
    'Facts for the policy, such as {"ticket": "OPS-1"}. They prove nothing, so leave this out unless you were told to give some.',
} as const;

const STRINGS = { type: 'array', items: { type: 'string' } } as const;

export const RESOLVE: ToolText = {
  title: 'Get a token that stands for a credential',
  description:
    'Returns a short-lived token that stands for a credential. The token is not the credential: it is replaced by it only in requests to the listed hosts that go through the KeyZero proxy. To call an API yourself, use `fetch` instead.',
  inputSchema: {
    type: 'object',
    properties: {
      jwt: JWT,
      resource: RESOURCE,
      resolver: RESOLVER,
      context: CONTEXT,
    },
    required: ['resource'],
    additionalProperties: false,
  },
  outputSchema: {
    type: 'object',
    properties: {
      mode: { enum: ['masked', 'short_lived'] },
      token: {
        type: 'string',
        // Whatever else happens, nothing leaves here that does not look like a token of ours or a JWT.
        pattern: '^(?:KZ_TOK_[A-Za-z0-9._~-]+|[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+)$',
        description: 'Put it where the credential would go.',
      },
      ttl_s: { type: 'integer', minimum: 0, description: 'Seconds for which it is good.' },
      expires_at: { type: 'string', description: 'The same as a time, ISO 8601 in UTC.' },
      resource: { type: 'string' },
      policy: { type: 'string', description: 'The rule that allowed it.' },
      hosts: { ...STRINGS, description: 'Where it may go.' },
      methods: { ...STRINGS, description: 'With which HTTP methods.' },
      proxy: { type: 'string', description: 'The proxy to send requests through.' },
      hint: { type: 'string', description: 'What to do when there is no proxy.' },
    },
    required: ['mode', 'token', 'ttl_s', 'expires_at', 'resource', 'policy', 'hosts', 'methods'],
    additionalProperties: false,
  },
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
};

export const FETCH: ToolText = {
  title: 'Call an API with a credential',
  description:
    'Makes an HTTPS request and adds the credential on the way out, so that neither you nor the user needs to know it. Do not set the header that carries it. Only the hosts and methods of the resource are allowed. Redirects are returned, not followed. A long body is cut and marked as truncated.',
  inputSchema: {
    type: 'object',
    properties: {
      jwt: JWT,
      resource: RESOURCE,
      resolver: RESOLVER,
      url: { type: 'string', minLength: 1, maxLength: 8192, description: 'Absolute https:// URL.' },
      method: { type: 'string', minLength: 1, maxLength: 32, default: 'GET', description: 'HTTP method.' },
      headers: {
        type: 'object',
        additionalProperties: { type: 'string', maxLength: 8192 },
        maxProperties: 64,
        description: 'Further headers, such as {"accept": "application/json"}.',
      },
      body: {
        type: 'string',
        maxLength: MAX_BODY_CHARACTERS,
        description: 'What to send, as text, or as base64 if body_encoding says so.',
      },
      body_encoding: { enum: ['utf8', 'base64'], default: 'utf8', description: 'How `body` is written.' },
      context: CONTEXT,
    },
    required: ['resource', 'url'],
    additionalProperties: false,
  },
  outputSchema: {
    type: 'object',
    properties: {
      status: { type: 'integer', description: 'HTTP status of the answer. 4xx and 5xx are answers, too.' },
      headers: { type: 'object', additionalProperties: { anyOf: [{ type: 'string' }, STRINGS] } },
      body: { type: 'string' },
      body_encoding: { enum: ['utf8', 'base64'] },
      truncated: { type: 'boolean', description: 'The body was longer than what is here.' },
    },
    required: ['status', 'headers', 'body', 'body_encoding', 'truncated'],
    additionalProperties: false,
  },
  annotations: { readOnlyHint: false, destructiveHint: true, openWorldHint: true },
};

export const LIST_RESOURCES: ToolText = {
  title: 'List the credentials you may use',
  description:
    'Names the credentials that you may use with `fetch` and `resolve`, and the hosts and methods that each is for. Never shows a value.',
  inputSchema: { type: 'object', properties: { jwt: JWT }, additionalProperties: false },
  outputSchema: {
    type: 'object',
    properties: {
      resources: {
        type: 'array',
        items: {
          type: 'object',
          properties: {
            ref: { type: 'string', description: 'What to pass as `resource`.' },
            is_pattern: { type: 'boolean', description: 'The name has stars: ask for a name that it matches.' },
            mode: { type: 'string', description: 'What `resolve` gives: masked, short_lived, or direct (only `fetch` works).' },
            hosts: STRINGS,
            methods: STRINGS,
            description: { type: 'string' },
          },
          required: ['ref', 'is_pattern', 'mode', 'hosts', 'methods'],
          additionalProperties: false,
        },
      },
      truncated: { type: 'boolean', description: 'There are more than are listed here.' },
    },
    required: ['resources', 'truncated'],
    additionalProperties: false,
  },
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
};

const checked = (name: string): object => ({
  type: 'array',
  items: {
    type: 'object',
    properties: { [name]: { type: 'string' }, ok: { type: 'boolean' }, detail: { type: 'string' } },
    required: [name, 'ok'],
    additionalProperties: false,
  },
});

export const HEALTH_CHECK: ToolText = {
  title: 'Check that the credentials work',
  description:
    'Asks every backend whether it answers, and tries every credential that has a check. Takes no arguments and changes nothing. The answer is kept for some seconds.',
  inputSchema: { type: 'object', properties: {}, additionalProperties: false },
  outputSchema: {
    type: 'object',
    properties: {
      status: { enum: ['ok', 'degraded'] },
      version: { type: 'string' },
      bundle_version: { type: 'string' },
      uptime_s: { type: 'integer', minimum: 0 },
      backends: checked('name'),
      resources: checked('ref'),
    },
    required: ['status', 'version', 'bundle_version', 'uptime_s', 'backends', 'resources'],
    additionalProperties: false,
  },
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: true },
};
