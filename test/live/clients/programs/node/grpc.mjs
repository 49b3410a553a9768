// A gRPC call with the token in its metadata. The trailers bring the echo, the message the value as it arrived.
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { HEADERS, HOST } from './ask.mjs';

const client = new Client(`${HOST}:443`, credentials.createSsl());
const metadata = new Metadata();
for (const [name, value] of Object.entries(HEADERS)) metadata.set(name, value);
const bytes = (message) => message;
const options = { deadline: Date.now() + 20_000 };
const call = client.makeUnaryRequest('/kz.Echo/Call', bytes, bytes, Buffer.alloc(0), metadata, options, (error, message) => {
  if (error) throw error;
  console.log(JSON.stringify({ message: message.subarray(2).toString() }));
});
call.on('status', ({ metadata: trailer }) => {
  console.log(trailer.get('x-echo')[0]);
  client.close();
});
