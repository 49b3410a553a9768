// The first message is the echo of the handshake, the second the echo of what this program sends.
import WebSocket from 'ws';
import { HEADERS, HOST, TOKEN } from './ask.mjs';

const socket = new WebSocket(`wss://${HOST}/socket?token=${TOKEN}`, { headers: HEADERS });
socket.once('message', (handshake) => {
  console.log(String(handshake));
  socket.once('message', (message) => {
    console.log(String(message));
    socket.close();
  });
  socket.send(process.env.MESSAGE_TOKEN);
});
