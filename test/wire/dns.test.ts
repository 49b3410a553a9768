// DNS messages: whole vectors, what resolvers really send, and every mutation of it.
import { describe, expect, it } from 'vitest';
import { replyTo, type Answer, type Question } from '../../src/wire/dns.ts';

/** Written as RFC 1035 4 draws it. */
function hex(text: string): Buffer {
  return Buffer.from(text.replace(/#.*$/gm, '').replace(/\s+/g, ''), 'hex');
}

const QUERY = hex(`
  cafe 0100 0001 0000 0000 0000           # id, RD, one question
  03 617069 07 6578616d706c65 03 636f6d 00 # api.example.com
  0001 0001                                # A IN
`);
/** As `dig +dnssec` sends it, with a cookie; the case is a resolver's. */
const WITH_EDNS = hex(`
  0001 0120 0001 0000 0000 0001
  03 614269 07 4578616d506c65 03 434f4d 00 001c 0001
  00 0029 04d0 00 00 8000 000c 000a 0008 0011223344556677
`);

interface Change {
  readonly at: number;
  readonly to: string;
}

function changed(bytes: Buffer, { at, to }: Change): Buffer {
  const copy = Buffer.from(bytes);
  copy.set(Buffer.from(to, 'hex'), at);
  return copy;
}

function ask(query: Uint8Array, answer: Answer = { address: '198.18.0.7' }): { reply: string | undefined; asked: Question | undefined } {
  let asked: Question | undefined;
  const reply = replyTo(query, ({ name, type }) => {
    asked = { name, type };
    return answer;
  });
  return { reply: reply?.toString('hex'), asked };
}

const QUESTION = QUERY.subarray(12).toString('hex');

describe('an answer', () => {
  it('with an address', () => {
    const { reply, asked } = ask(QUERY);
    expect(asked).toEqual({ name: 'api.example.com', type: 1 });
    expect(reply).toBe(
      hex(`
        cafe 8180 0001 0001 0000 0000
        ${QUESTION}
        c00c 0001 0001 0000003c 0004 c6120007
      `).toString('hex'),
    );
  });

  it.each<[Answer, string]>([
    ['no-data', '8180'],
    ['failed', '8182'],
    ['no-such-name', '8183'],
  ])('%s', (answer, flags) => {
    expect(ask(QUERY, answer).reply).toBe(`cafe${flags}0001000000000000${QUESTION}`);
  });

  it('repeats the question letter by letter, and EDNS without its options', () => {
    const { reply, asked } = ask(WITH_EDNS, 'no-data');
    expect(asked).toEqual({ name: 'aBi.ExamPle.COM', type: 28 });
    expect(reply).toBe(
      hex(`
        0001 8180 0001 0000 0000 0001
        03 614269 07 4578616d506c65 03 434f4d 00 001c 0001
        00 0029 04d0 00 00 8000 0000
      `).toString('hex'),
    );
  });

  it('repeats RD and CD only as they were set', () => {
    expect(ask(changed(QUERY, { at: 2, to: '0010' }), 'no-data').reply?.slice(4, 8)).toBe('8090');
    expect(ask(changed(QUERY, { at: 2, to: '0160' }), 'no-data').reply?.slice(4, 8)).toBe('8180');
  });

  it('with the longest name is shorter than 512 bytes', () => {
    const label = '3f' + '61'.repeat(63);
    const name = label + label + label + '3d' + '61'.repeat(61) + '00';
    expect(name).toHaveLength(255 * 2);
    const { reply, asked } = ask(hex(`cafe 0100 0001 0000 0000 0001 ${name} 0001 0001 00 0029 04d0 00000000 0000`));
    expect(asked?.name).toHaveLength(253);
    expect((reply?.length ?? 0) / 2).toBe(12 + 255 + 4 + 16 + 11);
    const longer = label + label + label + '3e' + '61'.repeat(62) + '00';
    expect(ask(hex(`cafe 0100 0001 0000 0000 0000 ${longer} 0001 0001`))).toEqual({ reply: MALFORMED, asked: undefined });
  });
});

const MALFORMED = 'cafe81810000000000000000';

describe('a name', () => {
  it.each([
    ['of the root', '00', ''],
    ['of a service', '05 5f68747470 04 5f746370 01 61 00', '_http._tcp.a'],
    ['with a dot inside of a label', '03 612e62 03 636f6d 00', undefined],
    ['with NUL', '03 610062 00', undefined],
    ['with UTF-8', '02 c3a9 00', undefined],
    ['with a space', '03 612062 00', undefined],
  ])('%s', (_which, name, expected) => {
    const { asked } = ask(hex(`cafe 0100 0001 0000 0000 0000 ${name} 0001 0001`));
    expect(asked).toEqual({ name: expected, type: 1 });
  });
});

describe('no question', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['less than a header', QUERY.subarray(0, 11)],
    ['a reply', changed(QUERY, { at: 2, to: '8180' })],
  ])('%s gets no reply', (_what, bytes) => {
    expect(ask(bytes)).toEqual({ reply: undefined, asked: undefined });
  });

  it.each([
    ['without a question', hex('cafe 0100 0000 0000 0000 0000')],
    ['with two', Buffer.concat([changed(QUERY, { at: 4, to: '0002' }), QUERY.subarray(12)])],
    ['with an answer', changed(QUERY, { at: 6, to: '0001' })],
    ['with an authority', changed(QUERY, { at: 8, to: '0001' })],
    ['cut off by the way', changed(QUERY, { at: 2, to: '0300' })],
    ['with a compressed name', hex('cafe 0100 0001 0000 0000 0000 c00c 0001 0001')],
    ['with a label of 64', hex(`cafe 0100 0001 0000 0000 0000 40 ${'61'.repeat(64)} 00 0001 0001`)],
    ['with a name without its end', hex('cafe 0100 0001 0000 0000 0000 03 616161')],
    ['without a class', hex('cafe 0100 0001 0000 0000 0000 01 61 00 0001')],
    ['with an additional record that is not there', changed(QUERY, { at: 10, to: '0001' })],
    ['with two EDNS records', hex(`cafe 0100 0001 0000 0000 0002 ${QUESTION} ${'0000290200000000000000'.repeat(2)}`)],
    ['with an EDNS record that has a name', hex(`cafe 0100 0001 0000 0000 0001 ${QUESTION} 0161 000029020000000000 0000`)],
    ['with EDNS options that are not there', hex(`cafe 0100 0001 0000 0000 0001 ${QUESTION} 00 0029 0200 00000000 0001`)],
  ])('%s is a format error', (_what, bytes) => {
    expect(ask(bytes)).toEqual({ reply: MALFORMED, asked: undefined });
  });

  it.each([
    ['another operation', changed(QUERY, { at: 2, to: '2900' }), 'cafea9840000000000000000'],
    ['another class', changed(QUERY, { at: 31, to: '0003' }), `cafe81850001000000000000${QUESTION.slice(0, -4)}0003`],
    [
      'another version of EDNS',
      hex(`cafe 0100 0001 0000 0000 0001 ${QUESTION} 00 0029 0200 00 01 0000 0000`),
      `cafe81800001000000000001${QUESTION}00002904d0010000000000`,
    ],
  ])('%s is declined', (_what, bytes, reply) => {
    expect(ask(bytes)).toEqual({ reply, asked: undefined });
  });

  it('but what stands behind it does not matter: other additional records, and bytes that nobody announced', () => {
    const signed = hex(`cafe 0100 0001 0000 0000 0001 ${QUESTION} 01 61 00 00fa 00ff 00000000 0002 abcd`);
    expect(ask(Buffer.concat([signed, Buffer.from('and more')]), 'no-data').reply).toBe(`cafe81800001000000000000${QUESTION}`);
  });
});

describe('whatever is sent', () => {
  /** What must hold of every reply. */
  function check(bytes: Buffer): void {
    const { reply, asked } = ask(bytes);
    if (bytes.length < 12 || (bytes.readUInt8(2) & 0x80) !== 0) expect(reply).toBeUndefined();
    if (reply === undefined) return;
    const answer = Buffer.from(reply, 'hex');
    expect(answer.length).toBeLessThanOrEqual(512);
    expect(answer.readUInt16BE(0)).toBe(bytes.readUInt16BE(0));
    expect(answer.readUInt8(2) & 0x80).toBe(0x80);
    expect(answer.readUInt16BE(6)).toBe(asked === undefined ? 0 : 1);
    if (asked?.name !== undefined) expect(asked.name).toMatch(/^[\w.-]{0,253}$/);
  }

  it.each([
    ['a plain query', QUERY],
    ['one with EDNS', WITH_EDNS],
  ])('%s: cut off after every byte, and with every byte in every value', (_which, query) => {
    for (let length = 0; length < query.length; length++) check(query.subarray(0, length));
    for (let at = 0; at < query.length; at++) {
      for (let value = 0; value < 256; value++) check(changed(query, { at, to: value.toString(16).padStart(2, '0') }));
    }
  });

  it('10,000 datagrams of random bytes behind a header that promises a question', () => {
    let state = 20_261_121;
    const random = (): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state >>> 8;
    };
    for (let round = 0; round < 10_000; round++) {
      const bytes = Buffer.from(Array.from({ length: random() % 300 }, () => random() & 0xff));
      const header = hex(`cafe 0100 0001 0000 0000 000${String(random() % 4)}`);
      check(round % 2 === 0 ? bytes : Buffer.concat([header, bytes]));
    }
  });
});
