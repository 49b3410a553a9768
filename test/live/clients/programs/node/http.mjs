// In the clear, on the port for that.
import http from 'node:http';
import { askAll, throughNode } from './ask.mjs';

const send = throughNode(http);
await askAll(({ url, ...request }) => send({ url: url.replace('https:', 'http:'), ...request }));
