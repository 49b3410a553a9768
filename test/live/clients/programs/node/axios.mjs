import axios from 'axios';
import { DOCUMENT, FORM, TOKEN, URL_ } from './ask.mjs';

for (const adapter of ['http', 'fetch']) {
  for (const body of [new URLSearchParams(FORM), DOCUMENT]) {
    const { data } = await axios.post(URL_, body, { adapter, headers: { 'x-api-key': TOKEN }, auth: { username: 'me', password: TOKEN } });
    console.log(JSON.stringify(data));
  }
}
