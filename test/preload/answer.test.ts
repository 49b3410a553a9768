import { expect, it } from 'vitest';
import { readAnswer } from '../../src/preload/answer.ts';

const read = (text: string, ended?: boolean) => {
  const answer = readAnswer(Buffer.from(text), ended);
  return answer && { ...answer, rest: answer.rest.toString() };
};

it('waits for the end of the head, however it is cut', () => {
  const text = 'HTTP/1.1 200 Connection Established\r\nvia: kz\r\n\r\n';
  for (let length = 0; length < text.length; length++) expect(read(text.slice(0, length))).toBeUndefined();
  expect(read(text)).toEqual({ status: 200, reason: '', rest: '' });
});

it('keeps what follows', () => {
  expect(read('HTTP/1.1 200 OK\r\n\r\n220 hello\r\n\r\n')).toEqual({ status: 200, reason: '', rest: '220 hello\r\n\r\n' });
});

it('takes the reason from the header, or else from the first line of the body', () => {
  expect(read('HTTP/1.1 403 Forbidden\r\nX-Kz-Error:  not allowed \r\n\r\n')?.reason).toBe('not allowed');
  expect(read('HTTP/1.1 502 Bad Gateway\r\n\r\nfirst\r\nsecond')?.reason).toBe('first');
  expect(read('HTTP/1.1 502 Bad Gateway\r\n\r\nno line', true)?.reason).toBe('no line');
  expect(read('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n')?.reason).toBe('');
  expect(read('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 7\r\nvia: kz\r\n\r\nno line')?.reason).toBe('no line');
  expect(read('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 12\r\n\r\nno line yet')).toBeUndefined();
  expect(read('HTTP/1.1 502 Bad Gateway\r\n\r\nno line yet')).toBeUndefined();
});

it('makes the reason short and printable', () => {
  expect(read('HTTP/1.1 403 No\r\n\r\na\u001b[2Jb\u202ec\n')?.reason).toMatch(/^a \[2Jb +c$/);
  expect(read(`HTTP/1.1 403 No\r\n\r\n${'x'.repeat(5000)}`)?.reason).toHaveLength(300);
});

it.each(['SSH-2.0-x\r\n\r\n', 'HTTP/2 200\r\n\r\n', 'HTTP/1.1 20\r\n\r\n'])('%j is no answer', (text) => {
  expect(read(text, true)?.status).toBe(0);
});

it('does not wait for a head without an end', () => {
  expect(read('x'.repeat(20_000))?.status).toBe(0);
  expect(read('', true)?.status).toBe(0);
});
