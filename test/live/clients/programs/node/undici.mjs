// Its functions, then an agent of the program's own, which no environment variable reaches.
import { askAll } from './ask.mjs';

const { Agent, fetch, request } = await import(process.argv[2]);
await askAll(async ({ url, ...options }) => (await request(url, { method: 'POST', ...options })).body.text());
await askAll(async ({ url, ...options }) => (await fetch(url, { method: 'POST', ...options })).text());
const dispatcher = new Agent();
await askAll(async ({ url, ...options }) => (await request(url, { method: 'POST', dispatcher, ...options })).body.text());
await dispatcher.close();
