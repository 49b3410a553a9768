import https from 'node:https';
import { askAll, throughNode } from './ask.mjs';

const agent = new https.Agent({ keepAlive: true });
await askAll(throughNode(https, { agent }));
await askAll(throughNode(https, { agent: false }));
agent.destroy();
