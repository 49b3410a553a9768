// A JSON Schema as the SDK takes it: compiled at its first use, once in a process. The list of tools needs none of them compiled, and HTTP
// makes a server for each request.
import type { McpSdk } from './mcp.ts';
import type { ObjectSchema } from './mcp-schemas.ts';
import type { StandardSchemaWithJSON } from './mcp-sdk.ts';

/** The validator quotes paths, so a call with ten thousand wrong headers would be answered with a megabyte. */
const LONGEST_ISSUE = 300;

const made = new WeakMap<ObjectSchema, StandardSchemaWithJSON>();

/** What is not valid is described without the value that was wrong. */
export function schemaOf<T>(sdk: McpSdk, schema: ObjectSchema): StandardSchemaWithJSON<T, T> {
  const known = made.get(schema) ?? lazySchema(sdk, schema);
  made.set(schema, known);
  // The schema is what makes a T of it; the two are written side by side.
  return known as StandardSchemaWithJSON<T, T>;
}

function lazySchema(sdk: McpSdk, schema: ObjectSchema): StandardSchemaWithJSON {
  let compiled: StandardSchemaWithJSON | undefined;
  const asJson = (): Record<string, unknown> => ({ ...schema });
  return {
    '~standard': {
      version: 1,
      vendor: 'keyzero',
      jsonSchema: { input: asJson, output: asJson },
      validate: async (value) => {
        compiled ??= sdk.fromJsonSchema(asJson());
        const result = await compiled['~standard'].validate(value);
        if (result.issues === undefined) return result;
        return { issues: result.issues.map(({ message }) => ({ message: message.slice(0, LONGEST_ISSUE) })) };
      },
    },
  };
}
