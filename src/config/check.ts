// Tables of a config against their schema. Loaded only for what `plain.ts` does not recognise.
import * as z from 'zod/mini';
import { describeIssue, type Issue } from './issues.ts';
import { environmentSchema, fileSchema } from './schema.ts';

type Report = (issue: Issue) => void;

/** The file without its environments. Undefined when it is wrong, after reporting everything that is. */
export function checkFile(table: unknown, report: Report): z.infer<typeof fileSchema> | undefined {
  return checked(fileSchema, table, [], report);
}

/** The table of one environment. Undefined when it is wrong, after reporting everything that is. */
export function checkEnvironment(table: unknown, name: string, report: Report): z.infer<typeof environmentSchema> | undefined {
  return checked(environmentSchema, table, [name], report);
}

function checked<T extends z.ZodMiniType>(schema: T, value: unknown, prefix: readonly string[], report: Report): z.infer<T> | undefined {
  const result = z.safeParse(schema, value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) describeIssue(issue, { document: value, schema, prefix }).forEach(report);
  return undefined;
}
