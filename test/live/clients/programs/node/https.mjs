import https from 'node:https';
import { askAll, throughNode } from './ask.mjs';

await askAll(throughNode(https));
