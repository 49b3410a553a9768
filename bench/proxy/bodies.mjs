// The bodies that both the load generator and the upstream send: one block, made once and sent again and again.

export const BLOCK = 65_536;

/** @typedef {'octet' | 'json'} Kind */

/** @type {Record<Kind, string>} */
export const CONTENT_TYPES = { octet: 'application/octet-stream', json: 'application/json' };

/**
 * `total` bytes, which is at least two blocks: `first`, then `count` times `block`, then `last`. JSON is one well-formed document.
 * @param {Kind} kind
 * @param {number} total
 */
export function bodyOf(kind, total) {
  if (kind === 'octet')
    return { first: Buffer.alloc(0), block: noise(), count: Math.floor(total / BLOCK), last: Buffer.alloc(total % BLOCK, 1) };
  const first = Buffer.from('{"items":[');
  const block = Buffer.from(items());
  const count = Math.floor((total - first.length) / block.length) - 1;
  const open = '{"pad":"';
  const close = '"}]}';
  const left = total - first.length - count * block.length - open.length - close.length;
  return { first, block, count, last: Buffer.from(open + 'x'.repeat(left) + close) };
}

/** The same numbers in every process and every run. */
function random() {
  let state = 0x2545f491;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

function noise() {
  const next = random();
  const bytes = Buffer.alloc(BLOCK);
  for (let at = 0; at < BLOCK; at += 4) bytes.writeUInt32LE(next(), at);
  return bytes;
}

const WORDS =
  'request merge open review branch commit release label assignee milestone comment closed draft pull token key user error'.split(' ');

function items() {
  const next = random();
  const word = () => WORDS[next() % WORDS.length] ?? '';
  let text = '';
  for (;;) {
    const id = next();
    const title = Array.from({ length: 8 }, word).join(' ');
    const item = `{"id":${String(id)},"node_id":"${Buffer.from(String(next())).toString('base64')}","title":"${title}","url":"https://api.example.com/items/${String(id)}","labels":["${word()}","${word()}"],"locked":${String(id % 2 === 0)}},`;
    if (text.length + item.length > BLOCK) return text;
    text += item;
  }
}
