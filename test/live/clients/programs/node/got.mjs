import { DOCUMENT, FORM, TOKEN, URL_ } from './ask.mjs';

const { default: got } = await import(process.argv[2]);
const common = { headers: { 'x-api-key': TOKEN }, username: 'me', password: TOKEN };
console.log(await got.post(URL_, { ...common, form: Object.fromEntries(new URLSearchParams(FORM)) }).text());
console.log(await got.post(URL_, { ...common, json: DOCUMENT }).text());
