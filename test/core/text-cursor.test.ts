import { expect, it } from 'vitest';
import { TextCursor } from '../../src/core/text-cursor.ts';

it('moves behind what matches at its place, and only then', () => {
  const cursor = new TextCursor('ab 12');
  expect([cursor.offset, cursor.atEnd]).toEqual([0, false]);
  expect(cursor.take(/\d+/y)).toBeNull();
  expect(cursor.offset).toBe(0);
  expect(cursor.take(/([a-z])([a-z])/y)?.slice()).toEqual(['ab', 'a', 'b']);
  expect(cursor.offset).toBe(2);
  expect(cursor.take(/\s*/y)?.index).toBe(2);
  expect(cursor.take(/\s*/y)?.[0]).toBe('');
  expect([cursor.offset, cursor.atEnd]).toEqual([3, false]);
  expect(cursor.take(/\d+/y)?.[0]).toBe('12');
  expect([cursor.offset, cursor.atEnd]).toEqual([5, true]);
  expect(cursor.take(/./y)).toBeNull();
  expect(cursor.take(/$/y)?.[0]).toBe('');
});

it('is at the end of an empty text', () => {
  expect(new TextCursor('').atEnd).toBe(true);
});

it('shares a pattern with another cursor', () => {
  const pattern = /\w/y;
  const [first, second] = [new TextCursor('abc'), new TextCursor('xyz')];
  const taken = [first, second, first, second].map((cursor) => cursor.take(pattern)?.[0]);
  expect(taken).toEqual(['a', 'x', 'b', 'y']);
});
