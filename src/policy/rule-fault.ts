// A rule that could not be evaluated. Its message quotes the rule and never what it was evaluated with.

export class RuleFault extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'RuleFault';
  }
}

/** By the engine's code. Its own messages quote values: of claims, and of a context that anybody can send. */
const WORDS: Readonly<Record<string, string>> = {
  no_such_key: 'there is no such key',
  no_such_overload: 'a value is not of a type that this takes',
  no_matching_overload: 'a value is not of a type that this takes',
  field_type_mismatch: 'a value is not of a type that this takes',
  list_item_type_mismatch: 'a value is not of a type that this takes',
  variable_type_mismatch: 'a value is not of a type that this takes',
  invalid_condition_type: 'a condition is neither true nor false',
  invalid_logical_operand: 'a condition is neither true nor false',
  invalid_comprehension_range: 'this is neither a list nor a map',
  index_out_of_range: 'there is no such index',
  index_out_of_bounds: 'there is no such index',
  invalid_index_type: 'there is no such index',
  numeric_overflow: 'a number is too large',
  division_by_zero: 'division by zero',
  modulo_by_zero: 'division by zero',
};

const LONGEST_EXCERPT = 60;

/** Of whatever the engine threw. */
export function ruleFault(thrown: unknown, source: string): RuleFault {
  if (thrown instanceof RuleFault) return thrown;
  const { code, start, end } = engineFacts(thrown);
  const words = (code === undefined ? undefined : WORDS[code]) ?? 'this cannot be evaluated';
  const text = source.slice(start, end).replace(/\s+/g, ' ');
  const excerpt = text.length > LONGEST_EXCERPT ? `${text.slice(0, LONGEST_EXCERPT)}…` : text;
  return new RuleFault(excerpt === '' ? words : `${words}: ${excerpt}`, thrown);
}

export interface EngineFacts {
  readonly code: string | undefined;
  /** What it says, without the excerpt that it adds. */
  readonly summary: string | undefined;
  /** Offsets in the source of what it is about. */
  readonly start: number;
  readonly end: number | undefined;
}

/** Read from any of the engine's errors. */
export function engineFacts(thrown: unknown): EngineFacts {
  const node = valueOf(thrown, 'node');
  const place = typeof node === 'object' && node !== null ? node : valueOf(thrown, 'range');
  const [code, summary] = [valueOf(thrown, 'code'), valueOf(thrown, 'summary')];
  const [start, end] = [valueOf(place, 'start'), valueOf(place, 'end')];
  return {
    code: typeof code === 'string' ? code : undefined,
    summary: typeof summary === 'string' ? summary : undefined,
    start: typeof start === 'number' ? start : 0,
    end: typeof end === 'number' ? end : undefined,
  };
}

function valueOf(from: unknown, key: string): unknown {
  return typeof from === 'object' && from !== null ? Reflect.get(from, key) : undefined;
}
