// The browser's interface, which cannot set headers.
import { HOST, TOKEN } from './ask.mjs';

const socket = new WebSocket(`wss://${HOST}/socket?token=${TOKEN}`);
const messages = [];
socket.onopen = () => socket.send(process.env.MESSAGE_TOKEN);
socket.onerror = ({ error, message }) => {
  console.error(error ?? message);
  process.exitCode = 1;
};
socket.onmessage = ({ data }) => {
  console.log(data);
  if (messages.push(data) === 2) socket.close();
};
