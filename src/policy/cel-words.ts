// What the engine says of a rule that it cannot read, in words for the person who wrote it, and what to write instead.

interface Words {
  readonly problem: string;
  readonly hint?: string;
}

const OPERATORS = 'and is &&, or is ||, not is !';

/** `start` is where the engine noticed it. Undefined: its own words are the best there are. */
export function wordsFor(summary: string, source: string, start: number): Words | undefined {
  const [, found] = /^unexpected character: '?(.)'?$/i.exec(summary) ?? [];
  if (found !== undefined) return strayCharacter(found, source, start);
  if (/^expected RPAREN, got EOF/i.test(summary)) return { problem: 'a parenthesis is not closed' };
  if (/^expected COLON, got EOF/i.test(summary)) return { problem: 'a ? without its :', hint: 'conditions are joined with && and ||' };
  const [, left, operator, right] = /^no such overload: (\S+) (==|!=|in) (\S+)$/.exec(summary) ?? [];
  return left === undefined || operator === undefined || right === undefined ? undefined : wrongTypes(left, operator, right);
}

function strayCharacter(found: string, source: string, start: number): Words {
  // The engine names the last letter of a word, and the place of its first.
  const [word = found] = /^\w+/.exec(source.slice(start)) ?? [];
  if (/^(?:and|or|not)$/i.test(word)) return { problem: `rules have no ${JSON.stringify(word)}`, hint: OPERATORS };
  const hints: Readonly<Record<string, string>> = {
    '=': 'texts are compared with ==, patterns with matches',
    '&': 'and is &&',
    '|': 'or is ||',
    ';': 'a rule is one expression, without an end sign',
    ',': "lists have brackets: org in ['a', 'b']",
  };
  const hint = hints[found];
  return { problem: `${JSON.stringify(word)} does not belong here`, ...(hint === undefined ? {} : { hint }) };
}

function wrongTypes(left: string, operator: string, right: string): Words {
  const problem = `${left} ${operator} ${right} does not compare like with like`;
  if (operator === 'in') return left.startsWith('list') ? { problem, hint: "'admins' in groups" } : { problem, hint: "org in ['a', 'b']" };
  if (left.startsWith('list')) return { problem, hint: "'admins' in groups" };
  if (right === 'null') return { problem, hint: "what a token does not say is empty: org != ''; a claim may be missing: has(claims.x)" };
  return left === 'string' && ['int', 'double', 'uint'].includes(right) ? { problem, hint: 'put the number in quotes' } : { problem };
}
