import { describe, expect, it } from 'vitest';
import * as der from '../../src/proxy/der.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('a length', () => {
  it.each([
    [0, '0400'],
    [127, '047f'],
    [128, '048180'],
    [255, '0481ff'],
    [256, '04820100'],
    [65_535, '0482ffff'],
    [65_536, '0483010000'],
    [300_000, '04830493e0'],
  ])('of %i bytes', (length, header) => {
    const whole = der.octetString(Buffer.alloc(length, 0xaa));
    expect(whole.length).toBe(header.length / 2 + length);
    expect(hex(whole.subarray(0, header.length / 2))).toBe(header);
  });
});

describe('an integer', () => {
  it.each([
    [0, '020100'],
    [127, '02017f'],
    [128, '02020080'],
    [256, '02020100'],
    [65_537, '0203010001'],
  ])('%i', (value, encoded) => {
    expect(hex(der.integer(value))).toBe(encoded);
  });

  it('of bytes is the shortest, and stays positive', () => {
    expect(hex(der.integer(Buffer.from('0000007f', 'hex')))).toBe('02017f');
    expect(hex(der.integer(Buffer.from('00ff01', 'hex')))).toBe('020300ff01');
    expect(hex(der.integer(Buffer.alloc(4)))).toBe('020100');
  });
});

it('writes object identifiers', () => {
  expect(hex(der.oid('1.2.840.113549.1.7.1'))).toBe('06092a864886f70d010701');
  expect(hex(der.oid('2.5.29.37.0'))).toBe('0604551d2500');
  expect(hex(der.oid('2.16.840.1.113894.746875.1.1'))).toBe('060c6086480186f966adca7b0101');
});

it('writes UTCTime to the end of 2049 and GeneralizedTime from then on', () => {
  expect(der.time(new Date('2049-12-31T23:59:59.999Z')).toString('latin1')).toBe('\x17\x0d491231235959Z');
  expect(der.time(new Date('2050-01-01T00:00:00Z')).toString('latin1')).toBe('\x18\x0f20500101000000Z');
});

it('writes strings, bits, tags and the rest', () => {
  expect(hex(der.bmpString('kz'))).toBe('1e04006b007a');
  expect(hex(der.utf8String('é'))).toBe('0c02c3a9');
  expect(hex(der.bitString(Buffer.of(0x06), 1))).toBe('03020106');
  expect(hex(der.boolean(true))).toBe('0101ff');
  expect(hex(der.boolean(false))).toBe('010100');
  expect(hex(der.nothing())).toBe('0500');
  expect(hex(der.context(3, der.nothing()))).toBe('a3020500');
  expect(hex(der.contextPrimitive(2, Buffer.from('a')))).toBe('820161');
  expect(hex(der.sequence(der.set(), der.integer(1)))).toBe('30053100020101');
});
