// What kz uses of @marcbachmann/cel-js, for the compiler where that could not be installed.

interface Args {
  value: string | number | bigint | boolean | null | Uint8Array | object;
  id: string;
  '.': [ASTNode, string];
  '.?': [ASTNode, string];
  call: [string, ASTNode[]];
  rcall: [string, ASTNode, ASTNode[]];
  list: ASTNode[];
  map: [ASTNode, ASTNode][];
  '?:': [ASTNode, ASTNode, ASTNode];
  '!_': ASTNode;
  '-_': ASTNode;
}

type Binary = '!=' | '==' | 'in' | '+' | '-' | '*' | '/' | '%' | '<' | '<=' | '>' | '>=' | '||' | '&&' | '[]' | '[?]';

type ArgsOf = Args & Record<Binary, [ASTNode, ASTNode]>;

interface NodeOf<Op extends keyof ArgsOf> {
  readonly op: Op;
  readonly args: ArgsOf[Op];
  readonly start: number;
  readonly end: number;
}

export type ASTNode = { [Op in keyof ArgsOf]: NodeOf<Op> }[keyof ArgsOf];

export interface Parsed {
  (variables: Record<string, unknown>): unknown;
  readonly ast: ASTNode;
  check(): { readonly valid: boolean; readonly type?: string; readonly error?: Error };
}

export interface Options {
  readonly unlistedVariablesAreDyn: boolean;
  readonly limits: Readonly<Record<'maxAstNodes' | 'maxDepth' | 'maxListElements' | 'maxMapEntries' | 'maxCallArguments', number>>;
}

export class Environment {
  constructor(options: Options);
  registerVariable(name: string, type: string): this;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- the signature says what a function takes
  registerFunction(signature: string, handler: (...args: any[]) => unknown, options: { readonly async: boolean }): this;
  parse(source: string): Parsed;
}
