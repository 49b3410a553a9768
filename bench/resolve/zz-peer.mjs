import { spawnSync, spawn } from 'node:child_process';
import { writeFileSync, readFileSync, mkdirSync } from 'node:fs';
import { Lab } from './lab.mjs';
import { openSources } from './sources.mjs';
import { loadTestServers } from './test-servers.mjs';
const lab = new Lab(200);
try {
  const [sm] = await openSources(lab, await loadTestServers(lab.folder), ['aws']);
  for (const n of [1, 10, 100, 200]) {
    const url = /endpoint = "(.*)"/.exec(sm.delayed.settings.toml)[1];
    const dir = '/tmp/peer-try';
    const names = [...lab.secrets.keys()].slice(0, n);
    writeFileSync(`${dir}/.env.schema`, `# @plugin(@varlock/aws-secrets-plugin)\n# @initAws(region=eu-west-1, accessKeyId=$AWS_ACCESS_KEY_ID, secretAccessKey=$AWS_SECRET_ACCESS_KEY)\n# @defaultRequired=true\n# ---\n# @type=awsAccessKey\nAWS_ACCESS_KEY_ID=\n# @type=awsSecretKey @sensitive\nAWS_SECRET_ACCESS_KEY=\n` + names.map((x) => `# @sensitive\n${x}=awsSecret("bench/${x}")\n`).join(''));
    const run = (u) => new Promise((res) => {
      const b = performance.now();
      const c = spawn(process.execPath, [`${dir}/node_modules/varlock/bin/cli.js`, 'run', '--', 'sh', '-c', 'printenv > seen'], { cwd: dir, env: { ...lab.env, AWS_ENDPOINT_URL: u, AWS_ACCESS_KEY_ID: 'AKIDEXAMPLEEXAMPLE12', AWS_SECRET_ACCESS_KEY: 'n'.repeat(40), VARLOCK_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' } });
      let said = ''; c.stderr.on('data', (d) => (said += d)); c.stdout.on('data', (d) => (said += d));
      c.on('close', (code) => res({ code, ms: Math.round(performance.now() - b), said }));
    });
    sm.delayed.counter.take();
    const r = await run(url);
    const counts = sm.delayed.counter.take();
    const ok = r.code === 0 && names.every((x) => readFileSync(`${dir}/seen`, 'utf8').includes(`${x}=${lab.secrets.get(x)}`));
    console.log(n, r.code, r.ms, counts, ok, r.code === 0 ? '' : r.said.slice(0, 800));
    if (r.code === 0) { const direct = sm.settings.toml.match(/endpoint = "(.*)"/)[1]; const d = []; for (let i=0;i<3;i++) d.push((await run(direct)).ms); console.log('direct', d.join(' ')); }
  }
} finally { await lab.end(); }
