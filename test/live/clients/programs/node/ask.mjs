// What every Node client sends: the token in a header, in Basic auth, in the query, and in a form or JSON body. Prints what comes back.
export const { TOKEN } = process.env;
export const HOST = 'api.example.test';
export const PATH = `/echo?token=${TOKEN}`;
export const URL_ = `https://${HOST}${PATH}`;
export const HEADERS = { 'x-api-key': TOKEN, authorization: `Basic ${Buffer.from(`me:${TOKEN}`).toString('base64')}` };
export const FORM = new URLSearchParams({ user: 'me', password: TOKEN }).toString();
export const DOCUMENT = { account: { secret: TOKEN }, text: 'hello' };

const BODIES = [
  ['application/x-www-form-urlencoded', FORM],
  ['application/json', JSON.stringify(DOCUMENT)],
];

/** `send` answers with the text of the response. */
export async function askAll(send) {
  for (const [type, body] of BODIES) console.log(await send({ url: URL_, headers: { ...HEADERS, 'content-type': type }, body }));
}

/** For node:https, with whatever agent. */
export function throughNode(https, options = {}) {
  return ({ url, headers, body }) =>
    new Promise((resolve, reject) => {
      const request = https.request(url, { method: 'POST', headers, ...options }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk) => (text += chunk));
        response.on('end', () => resolve(text));
        response.on('error', reject);
      });
      request.on('error', reject);
      request.end(body);
    });
}
