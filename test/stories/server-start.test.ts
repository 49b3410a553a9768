// How `kz server start` begins and ends: what it says, what it refuses, where its decisions are written, and what signals do to it.
import { X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { issueLeaf } from './server-certificate.ts';
import { waitFor } from './processes.ts';
import { Scene, type Json } from './server-scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.start();
});

afterEach(async () => {
  await scene.end();
});
