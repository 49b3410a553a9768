import { describe, expect, it } from 'vitest';
import { GrpcMessages, type MessageRewriter } from '../../src/wire/grpc.ts';

/** Holds everything back until the end of the message, and writes it in upper case. */
function holding(): MessageRewriter {
  const chunks: Buffer[] = [];
  const found = new Set<string>();
  return {
    found,
    push: (chunk) => {
      chunks.push(chunk);
      return Buffer.alloc(0);
    },
    end: () => {
      const text = Buffer.concat(chunks).toString('latin1').toUpperCase();
      if (text.includes('SECRET')) found.add('S');
      return Buffer.from(text, 'latin1');
    },
  };
}

function message(text: string, flag = 0): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(flag, 0);
  header.writeUInt32BE(text.length, 1);
  return Buffer.concat([header, Buffer.from(text)]);
}

const BODY = Buffer.concat([message('one'), message(''), message('a secret'), message('x'.repeat(300), 1)]);
const EXPECTED = Buffer.concat([message('ONE'), message(''), message('A SECRET'), message('X'.repeat(300), 1)]);

describe('the messages of gRPC', () => {
  it('are rewritten one by one, however the body is cut', () => {
    for (let cut = 0; cut <= BODY.length; cut += 1) {
      const messages = new GrpcMessages(holding);
      const out = Buffer.concat([messages.push(BODY.subarray(0, cut)), messages.push(BODY.subarray(cut)), messages.end()]);
      expect(out.equals(EXPECTED)).toBe(true);
      expect([...messages.found]).toEqual(['S']);
    }
    const bytewise = new GrpcMessages(holding);
    const out = Buffer.concat([...BODY].map((byte) => bytewise.push(Buffer.from([byte]))));
    expect(out.equals(EXPECTED)).toBe(true);
  });

  it('are complete as soon as their last byte is there', () => {
    const messages = new GrpcMessages(holding);
    expect(messages.push(message('one')).equals(message('ONE'))).toBe(true);
  });

  it('come out as far as they came in when the body breaks off', () => {
    const messages = new GrpcMessages(holding);
    const part = message('one').subarray(0, 7);
    expect(Buffer.concat([messages.push(part), messages.end()]).toString('latin1')).toBe(part.toString('latin1').toUpperCase());
    const header = new GrpcMessages(holding);
    expect(header.push(Buffer.from([0, 0])).length).toBe(0);
    expect(header.end()).toEqual(Buffer.from([0, 0]));
  });
});
