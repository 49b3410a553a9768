import http2 from 'node:http2';
import { askAll, HOST, PATH } from './ask.mjs';

const session = http2.connect(`https://${HOST}`);
const failed = new Promise((_, reject) => session.once('error', reject));
const answer = async ({ headers, body }) => {
  const stream = session.request({ ':method': 'POST', ':path': PATH, ...headers });
  stream.end(body);
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) text += chunk;
  return text;
};
await Promise.race([failed, askAll(answer)]);
session.close();
