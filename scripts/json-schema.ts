// The JSON Schema of `.keyzero.toml` (draft 2020-12).
import * as z from 'zod/mini';
import { DESCRIPTIONS } from '../src/config/schema-descriptions.ts';
import { environmentSchema, fileSchema } from '../src/config/schema.ts';

interface Node {
  properties?: Record<string, Node>;
  additionalProperties?: Node | boolean;
  items?: Node;
  anyOf?: Node[];
  description?: string;
  [key: string]: unknown;
}

export function jsonSchema(): unknown {
  const file = z.toJSONSchema(fileSchema, { io: 'input' }) as Node;
  const environment = z.toJSONSchema(environmentSchema, { io: 'input' }) as Node;
  delete environment.$schema;
  describe(file);
  describe(environment);
  return {
    ...file,
    title: '.keyzero.toml',
    description: 'Which variable comes from where, for kz run.',
    additionalProperties: { ...environment, description: 'an environment: [<name>.secrets] replaces entries of [secrets]' },
  };
}

const PROVIDERS = ['store', 'age', 'exec', 'keychain', 'aws', 'vault', '1password', 'gcp', 'keyzero'] as const;

function describe(table: Node): void {
  const { secrets, secrets_from: documents, providers, blind } = table.properties ?? {};
  apply(table, DESCRIPTIONS.file);
  apply(entryOf(secrets?.additionalProperties), DESCRIPTIONS.secret);
  apply(documents?.items, DESCRIPTIONS.document);
  for (const name of PROVIDERS) apply(child(providers, name), DESCRIPTIONS[name]);
  apply(blind, DESCRIPTIONS.blind);
  for (const choice of child(blind, 'sandbox')?.anyOf ?? []) apply(choice, DESCRIPTIONS.sandbox);
  apply(child(blind, 'connections')?.items, DESCRIPTIONS.connection);
}

function child(node: Node | undefined, name: string): Node | undefined {
  return node?.properties?.[name];
}

function entryOf(value: Node | boolean | undefined): Node | undefined {
  return typeof value === 'object' ? value : undefined;
}

function apply(node: Node | undefined, descriptions: Readonly<Record<string, string>>): void {
  for (const [key, description] of Object.entries(descriptions)) {
    const property = node?.properties?.[key];
    if (node?.properties !== undefined && property !== undefined) node.properties[key] = { ...property, description };
  }
}
